# SPDX-License-Identifier: MIT
"""
What the user asks of the daemon: options and a TOML file with the same names, options first.

Tests: C{tests/node/test_configuration.py}.
"""

from __future__ import annotations

import codecs
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import quoteStringArgument

from gmesh.daemon.logs import LOG_FORMATS, parse_level
from gmesh.errors import ConfigurationError
from gmesh.files import read_capped
from gmesh.node.api.access import find_group
from gmesh.node.limits import STATE_FILE_LIMIT
from gmesh.routing.limits import MAX_ADDRESS
from gmesh.trust.transport_address import read_address

__all__ = ["Configuration", "check_address", "read_configuration"]

_LISTS = frozenset({"listen", "advertise", "peer", "metrics", "host"})
_SWITCHES = frozenset({"stub"})


@dataclass(frozen=True, slots=True)
class Configuration:
    """
    One daemon's settings.

    @ivar state: the state directory.
    @ivar listen: endpoint strings for the mesh; none for a node that only dials.
    @ivar control: the endpoint string of the local API.
    @ivar advertise: C{HOST:PORT} by which others may reach this node.
    @ivar peer: C{HOST:PORT} to dial beside the anchors of the genesis.
    @ivar log_level: the least level that is logged; all, if empty.
    @ivar log_format: C{text} or C{json}; twistd's own, if empty.
    @ivar read_group: the group that may look at the node over the local API.
    @ivar write_group: the group that may also send and receive over it.
    @ivar metrics: endpoint strings for C{/metrics} alone.
    @ivar host: names by which programs may ask what listens on TCP for them.
    @ivar stub: keep no table of the network, ask neighbours for paths, never relay.
    """

    state: Path
    listen: tuple[str, ...] = ()
    control: str = ""
    advertise: tuple[str, ...] = ()
    peer: tuple[str, ...] = ()
    log_level: str = ""
    log_format: str = ""
    read_group: str = ""
    write_group: str = ""
    metrics: tuple[str, ...] = ()
    host: tuple[str, ...] = ()
    stub: bool = False

    def control_endpoint(self) -> str:
        """
        The endpoint string of the local API, C{node.sock} in the state directory if none was given.

        A unix socket is for owner and group alone, unless its string says otherwise.
        """
        endpoint = self.control or f"unix:{quoteStringArgument(str(self.state / 'node.sock'))}"
        if endpoint.startswith("unix:") and ":mode=" not in endpoint:
            endpoint += ":mode=660"
        return endpoint

    def metrics_endpoints(self) -> list[str]:
        """The endpoint strings for C{/metrics}; a bare TCP port is one of loopback."""
        return [
            f"{endpoint}:interface=127.0.0.1"
            if endpoint.startswith("tcp:") and ":interface=" not in endpoint
            else endpoint
            for endpoint in self.metrics
        ]


def check_address(text: str) -> str:
    """
    C{text}, if it is C{HOST:PORT} or C{[IPV6]:PORT}.

    @raise ConfigurationError: otherwise.
    """
    address = read_address(text)
    if address is None or text.startswith(("tcp:", "tls:")) or len(text) > MAX_ADDRESS:
        raise ConfigurationError("bad-address", f"{text!r} is not HOST:PORT")
    return text


def read_configuration(file: Path | None, options: dict[str, Any]) -> Configuration:
    """
    Settings from C{options}, which win where they are given, and C{file}.

    @raise ConfigurationError: one line naming the file, the key and what is wrong.
    """
    values = _read_file(file) if file is not None else {}
    values.update({name.replace("-", "_"): value for name, value in options.items() if value})
    if not values.get("state"):
        raise ConfigurationError("no-state", "which node? give --state DIR, the directory `gmesh join` made")
    return Configuration(
        state=Path(values["state"]),
        listen=tuple(values.get("listen", ())),
        control=values.get("control", ""),
        advertise=tuple(check_address(text) for text in values.get("advertise", ())),
        peer=tuple(check_address(text) for text in values.get("peer", ())),
        log_level=_checked(parse_level, values.get("log_level", "")),
        log_format=_checked(_check_format, values.get("log_format", "")),
        read_group=_checked(find_group, values.get("read_group", "")),
        write_group=_checked(find_group, values.get("write_group", "")),
        metrics=tuple(values.get("metrics", ())),
        host=tuple(values.get("host", ())),
        stub=bool(values.get("stub")),
    )


def _checked(check: Callable[[str], object], text: str) -> str:
    if text:
        check(text)
    return text


def _check_format(name: str) -> None:
    if name not in LOG_FORMATS:
        raise ConfigurationError(
            "bad-format", f"{name!r} is not a log format: there are {', '.join(LOG_FORMATS)}"
        )


def _read_file(file: Path) -> dict[str, Any]:
    data = read_capped(file, STATE_FILE_LIMIT)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigurationError("bad-configuration", f"{file} is UTF-16 text: save it as UTF-8")
    try:
        # Editors of Windows put a mark before the text.
        values = tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError("bad-configuration", f"{file} is not TOML: {error}") from error
    names = [field.name for field in fields(Configuration)]
    values = {name.replace("-", "_"): value for name, value in values.items()}
    for name, value in values.items():
        if name not in names:
            near = get_close_matches(name, names, 1)
            hint = f": did you mean {near[0]}?" if near else f": there are {', '.join(names)}"
            raise ConfigurationError("bad-configuration", f"{file}: unknown key {name!r}{hint}")
        if name in _LISTS:
            good = isinstance(value, list) and all(isinstance(item, str) for item in value)
            wanted = "a list of strings"
        elif name in _SWITCHES:
            good, wanted = isinstance(value, bool), "true or false"
        else:
            good, wanted = isinstance(value, str), "a string"
        if not good:
            raise ConfigurationError("bad-configuration", f"{file}: {name} must be {wanted}")
    return values
