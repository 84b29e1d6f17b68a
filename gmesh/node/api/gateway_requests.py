# SPDX-License-Identifier: MIT
"""
Exposures and forwards that programs ask for: they live as long as the connection that asked for them.

Only what any user of the host could connect to or listen at without the daemon may be asked for: a unix
socket takes the configuration file, for the daemon may open what its user may not.
Tests: C{tests/node/api/test_gateway_requests.py}.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from twisted.internet.defer import Deferred

from gmesh.errors import ConfigurationError, RequestRefused
from gmesh.node.api.access import AccessControl, Credentials, Permission
from gmesh.node.gateways.gateways import Gateways
from gmesh.node.gateways.settings import read_exposure, read_forward

if TYPE_CHECKING:
    from gmesh.node.gateways.exposures import Exposed
    from gmesh.node.gateways.forwards import Forwarded

__all__ = ["EXPOSURE_FIELDS", "FORWARD_FIELDS", "GatewayRequests"]

_Done = TypeVar("_Done")

_FIRST_FREE_PORT: Final = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
"""The first port that any user may bind: ip(7); 1024, where it does not say."""

EXPOSURE_FIELDS: Final[Mapping[str, type]] = {
    "service": str,
    "to": str,
    "proxy_protocol": int,
    "connect_timeout": float,
}
FORWARD_FIELDS: Final[Mapping[str, type]] = {"listen": str, "to": str}


class GatewayRequests:
    """
    What programs may ask of the gateways of a node.

    @param admit: raises L{RequestRefused} if a program of this user may not serve a service.
    @param access: who may write; asks again about what lasts.
    @ivar gateways: what is asked.
    """

    def __init__(
        self,
        gateways: Gateways,
        admit: Callable[[str, Credentials | None], object] = lambda *_: None,
        access: AccessControl | None = None,
    ) -> None:
        self._access = access or AccessControl()
        self.gateways = gateways
        self._admit = admit
        self._asked: dict[Exposed | Forwarded, _Asked] = {}

    def expose(self, body: Mapping[str, Any], credentials: Credentials | None) -> Exposed:
        """
        Expose what C{body} says, until L{end} is called.

        @raise GmeshError: if that cannot be, or not by this user.
        """
        exposure = _refusing(lambda: read_exposure(body))
        if exposure.to.path:
            raise RequestRefused(
                "bad-target", f"{exposure.to}: a unix socket is exposed by the configuration file alone"
            )
        self._admit(exposure.service, credentials)
        exposed = _refusing(lambda: self.gateways.exposures.add(exposure))
        self._keep(exposed, credentials, partial(self._admit, exposure.service, credentials))
        return exposed

    async def forward(self, body: Mapping[str, Any], credentials: Credentials | None) -> Forwarded:
        """
        Forward as C{body} says, until L{end} is called.

        @raise GmeshError: if that cannot be.
        """
        forward = _refusing(lambda: read_forward(body))
        if not forward.listen.startswith("tcp"):
            kind = forward.listen.partition(":")[0]
            raise RequestRefused(
                "bad-endpoint", f"{kind}: is for the configuration file alone: give tcp:PORT"
            )
        _check_port(forward.listen, _user(credentials))
        try:
            forwarded = await self.gateways.forwards.add(forward)
        except ConfigurationError as error:
            raise RequestRefused(error.reason, error.detail) from error
        self._keep(forwarded, credentials, partial(self._access.admit, credentials, Permission.WRITE))
        return forwarded

    def _keep(
        self, gateway: Exposed | Forwarded, credentials: Credentials | None, check: Callable[[], object]
    ) -> None:
        asked = self._asked[gateway] = _Asked(self, gateway, _user(credentials))
        self._access.admitted.keep(asked, check)

    async def end(self, gateway: Exposed | Forwarded) -> None:
        """Take one back that was asked for."""
        from gmesh.node.gateways.exposures import Exposed

        self._asked.pop(gateway, None)
        if isinstance(gateway, Exposed):
            self.gateways.exposures.remove(gateway)
        else:
            await self.gateways.forwards.remove(gateway)

    async def take_back(self, gateway: Exposed | Forwarded, credentials: Credentials | None) -> None:
        """
        Take one back that another connection has asked for.

        @raise RequestRefused: C{forbidden}, if it stands in the file, or another user asked for it.
        """
        if gateway.lasting:
            raise RequestRefused("forbidden", "it stands in the configuration file: change that, and reload")
        user = _user(credentials)
        asked = self._asked.get(gateway)
        if user not in (0, os.geteuid(), None if asked is None else asked.user):
            raise RequestRefused("forbidden", f"{credentials} did not ask for it")
        await self.end(gateway)


class _Asked:
    """A gateway that was asked for, and who by."""

    def __init__(self, requests: GatewayRequests, gateway: Exposed | Forwarded, user: int | None) -> None:
        self.user = user
        self._requests = requests
        self._gateway = gateway

    def forbidden(self, error: RequestRefused) -> None:
        """They may not have it any more: say why, end it, and break what is joined."""
        self._gateway.ended_by = error.detail
        for join in list(self._gateway.joins):
            join.abort()
        Deferred.fromCoroutine(self._requests.end(self._gateway))


def _refusing(work: Callable[[], _Done]) -> _Done:
    """What is wrong with a file is here wrong with a request."""
    try:
        return work()
    except ConfigurationError as error:
        raise RequestRefused(error.reason, error.detail) from error


def _check_port(listen: str, user: int | None) -> None:
    """@raise RequestRefused: C{forbidden}, if only the daemon could bind the port of this endpoint."""
    try:
        first = int(_FIRST_FREE_PORT.read_text("ascii"))
    except (OSError, ValueError):
        first = 1024
    low = [port for port in _ports(listen) if 0 < port < first]
    if low and user != 0:
        raise RequestRefused(
            "forbidden",
            f"only root may have port {low[0]} of this host: a forward below {first} stands in the"
            " configuration file, or listens on a higher port",
        )


def _ports(listen: str) -> list[int]:
    """What Twisted may read as the port of an endpoint string, where a backslash escapes a character."""
    parts = [re.sub(r"\\(.)", r"\1", part) for part in re.findall(r"(?:\\.|[^:\\])+", listen)]
    plain = [part for part in parts[1:] if "=" not in part]
    named = [part.removeprefix("port=") for part in parts if part.startswith("port=")]
    ports = []
    for port in (*plain[:1], *named):
        with suppress(ValueError):  # which the endpoint refuses itself
            ports.append(int(port))
    return ports


def _user(credentials: Credentials | None) -> int | None:
    return None if credentials is None else credentials.uid
