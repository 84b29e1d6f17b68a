# SPDX-License-Identifier: MIT
"""
Requests for a stream: who may, whom they name, and how they are answered.

C{CONNECT NODE:SERVICE} gives raw bytes, for tools; C{GET /v1/connect} and C{/v1/accept} give the frames of
L{gmesh.client.stream_frames}.  What carries either is loaded when the first is asked for.
Tests: C{tests/node/api/test_stream_requests.py}.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IProtocol, IReactorTime
from twisted.python.failure import Failure

from gmesh.addresses import MeshAddress
from gmesh.daemon.browsers import PageFilter
from gmesh.endtoend.services import is_reserved, valid_service
from gmesh.errors import GmeshError, RequestRefused
from gmesh.node.api.acceptors import Acceptor, Acceptors
from gmesh.node.api.access import AccessControl, Credentials, Permission, peer_credentials
from gmesh.node.api.entrance import MESSAGES_UPGRADE, UPGRADE
from gmesh.node.api.http import CONNECT, MESSAGES
from gmesh.node.api.leg_room import LegRoom
from gmesh.node.api.waiting import Waiting
from gmesh.node.http_head import RequestHead
from gmesh.node.limits import MAX_DIAL_TIMEOUT
from gmesh.stream_errors import DialRefused

if TYPE_CHECKING:
    from gmesh.node.api.framed_leg import FramedLeg
    from gmesh.node.api.message_leg import LegNode

__all__ = ["StreamRequests"]

DIAL_TIMEOUT = 30.0
"""Seconds, where a program does not say."""


class StreamRequests:
    """
    Answers what L{gmesh.node.api.entrance.asks_for_stream} found.

    @param streams: an L{gmesh.interfaces.IStreams}.
    @param address: this node, as the server of a service.
    @param names: see L{PageFilter}.
    @ivar node: gives what connections of messages need.
    @ivar room: for the connections that are streams in frames.
    """

    def __init__(
        self,
        streams: Any,
        acceptors: Acceptors,
        control: AccessControl,
        address: Callable[[str], MeshAddress],
        clock: IReactorTime,
        names: Iterable[str] = (),
    ) -> None:
        self._streams = streams
        self._acceptors = acceptors
        self._control = control
        self._address = address
        self._pages = PageFilter(names)
        self.node: Callable[[], LegNode] = _no_messages
        self.clock = clock
        self.room = LegRoom()

    def judge(self, head: RequestHead, transport: Any) -> IProtocol:
        """
        What has the connection of this request from now on.

        @raise GmeshError: if it is refused.
        """
        raw = head.method == "CONNECT"
        refused = self._pages.refusal(
            head.method, head.field, transport.getHost(), head.target if raw else ""
        )
        if refused is not None:
            raise RequestRefused(refused[0], refused[2])
        credentials = peer_credentials(transport)
        self._control.admit(credentials, Permission.WRITE)
        if head.has_body:
            raise RequestRefused("bad-request", "what follows the head is the stream: announce no body")
        if raw:
            node, _, service = head.target.rpartition(":")
            return self._while_admitted(
                self._dialling(node, service, DIAL_TIMEOUT, credentials, raw), credentials
            )
        path, _, query = head.target.partition("?")
        if path.encode("latin-1") == CONNECT:
            asked = _arguments(query, required=("node", "service"), optional=("timeout",))
            timeout = _timeout(asked.get("timeout", str(DIAL_TIMEOUT)))
            dialling = self._dialling(asked["node"], asked["service"], timeout, credentials, raw)
            return self._while_admitted(dialling, credentials)
        if path.encode("latin-1") == MESSAGES:
            from gmesh.node.api.message_leg import MessageLeg

            owner = None if credentials is None else credentials.uid
            leg = MessageLeg(self.node(), owner, lambda service: self._acceptors.admit(service, credentials))
            self._control.admitted.keep(leg, partial(self._admit_leg, leg.services, credentials))
            lines = "Connection: Upgrade", f"Upgrade: {MESSAGES_UPGRADE}"
            transport.write(_head("HTTP/1.1 101 Switching Protocols", *lines))
            return leg
        service = _arguments(query, required=("service",))["service"]
        return self._while_admitted(self._accepting(service, credentials), credentials, service)

    def _while_admitted(
        self, waiting: Waiting, credentials: Credentials | None, service: str = ""
    ) -> Waiting:
        """Ask again, about what waits and about its stream. @param service: what the program accepts."""
        keep = self._control.admitted.keep
        if service:
            check = partial(self._acceptors.admit, service, credentials)
        else:
            check = partial(self._control.admit, credentials, Permission.WRITE)
        keep(waiting, check)
        waiting.given = lambda protocol: keep(protocol, check)
        return waiting

    def _admit_leg(self, services: Mapping[int, str], credentials: Credentials | None) -> None:
        """@raise RequestRefused: if a program may not send messages, or serve one of these, any more."""
        self._control.admit(credentials, Permission.WRITE)
        for service in services.values():
            self._acceptors.admit(service, credentials)

    def _dialling(
        self, node: str, service: str, timeout: float, credentials: Credentials | None, raw: bool
    ) -> Waiting:
        if not valid_service(service) or is_reserved(service):
            raise RequestRefused(
                "bad-service", "a service is a-z, 0-9 and -, with a letter or digit at both ends"
            )

        def ask(waiting: Waiting) -> None:
            build = self._raw if raw else self._framed
            dialled = self._streams.dial(node, service, build(waiting, credentials), timeout)
            waiting.leave = dialled.cancel
            dialled.addErrback(_failed, waiting)

        return Waiting(ask, half_closes=raw)

    def _raw(self, waiting: Waiting, credentials: Credentials | None) -> Callable[[MeshAddress], IProtocol]:
        from gmesh.streams.join import TransportJoin

        def build(peer: MeshAddress) -> IProtocol:
            join = TransportJoin(self.clock, local=_program(credentials))
            waiting.give(join.near, _head("HTTP/1.1 200 Connected", _who("Gmesh-Peer", peer)))
            return join.far

        return build

    def _framed(
        self, waiting: Waiting, credentials: Credentials | None
    ) -> Callable[[MeshAddress], IProtocol]:
        from gmesh.node.api.framed_leg import FramedStream

        def begin(leg: FramedLeg, stream: Any) -> None:
            head = _head(
                "HTTP/1.1 101 Switching Protocols",
                "Connection: Upgrade",
                f"Upgrade: {UPGRADE}",
                _who("Gmesh-Host", stream.getHost()),
                _who("Gmesh-Peer", stream.getPeer(), stream=stream.stream),
            )
            waiting.give(leg, head)

        return lambda peer: FramedStream(begin, self.room, self.clock, _program(credentials))

    def _accepting(self, service: str, credentials: Credentials | None) -> Waiting:
        self._acceptors.admit(service, credentials)
        begun = _head("HTTP/1.1 100 Continue", _who("Gmesh-Host", self._address(service)))

        def ask(waiting: Waiting) -> None:
            build = self._framed(waiting, credentials)
            acceptor = Acceptor(credentials, lambda: waiting.goes_on(begun), build, waiting.refuse_for)
            try:
                waiting.leave = self._acceptors.wait(service, acceptor)
            except GmeshError as error:
                waiting.refuse_for(error)

        return Waiting(ask, half_closes=False)


def _program(credentials: Credentials | None) -> str:
    """As of L{gmesh.interfaces.ILocalEnd}."""
    return "a program" if credentials is None else credentials.process


def _no_messages() -> LegNode:
    raise RequestRefused("not-found", "there are no messages here")


def _failed(failure: Failure, waiting: Waiting) -> None:
    """There is no stream; nobody waits for a dial that was cancelled."""
    error = failure.value
    if isinstance(error, DialRefused):
        waiting.refuse_for(error)
    else:
        failure.trap(CancelledError)


def _head(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii")


def _who(name: str, address: MeshAddress, **more: int) -> str:
    who = {
        "name": address.name,
        "node_id": address.node_id,
        "roles": address.roles,
        "serial": address.serial,
        "service": address.service,
        **more,
    }
    return f"{name}: {json.dumps(who, separators=(',', ':'))}"


def _arguments(query: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, str]:
    """@raise RequestRefused: C{invalid-field}, if they are not these, each once."""
    pairs = parse_qsl(query, keep_blank_values=True)
    found = dict(pairs)
    wrong = found.keys() - {*required, *optional} or [name for name in required if name not in found]
    if wrong or len(found) != len(pairs):
        given = "&".join(f"{name}=..." for name in required)
        raise RequestRefused("invalid-field", f"give ?{given}, each once, and nothing else")
    return found


def _timeout(text: str) -> float:
    """@raise RequestRefused: C{invalid-field}."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MAX_DIAL_TIMEOUT:
        raise RequestRefused(
            "invalid-field", f"field 'timeout' must be above 0, at most {MAX_DIAL_TIMEOUT:g}"
        )
    return seconds
