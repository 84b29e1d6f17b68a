# SPDX-License-Identifier: MIT
"""
A connection to the node's daemon that asks for a stream, and becomes it.

Tests: C{tests/client/test_upgrade.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from errno import EACCES, ENOENT
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionRefusedError, NoProtocol
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from gmesh.addresses import MeshAddress
from gmesh.client.answers import AnswerReader, LocalAnswer
from gmesh.client.leg import StreamLeg
from gmesh.client.one_shot import connect_once
from gmesh.client.where import CROWD, find_socket
from gmesh.errors import FrameRefused, GmeshError
from gmesh.stream_errors import DialRefused

__all__ = ["Build", "StreamRequest", "mesh_address", "socket_endpoint", "socket_or_found"]

Build = Callable[[MeshAddress], IProtocol | None]
"""Makes the protocol for a stream with this node and service, or none."""


class StreamRequest(Protocol):
    """
    Asks once.

    @param request: the bytes of the request.
    @param service: what is talked to.
    @param build: called when there is a stream.
    @param waiting: called with this node's address once it is certain that the daemon has the request.
    @ivar result: Deferred of the protocol; fails with L{AnswerRefused<gmesh.client.answers.AnswerRefused>},
        C{NoProtocol}, L{DialRefused}, or what C{build} and C{connectionMade} raise.  Cancelling it hangs up.
    @ivar closed: Deferred that fires with None when the socket has closed.
    """

    def __init__(
        self,
        reactor: Any,
        request: bytes,
        service: str,
        build: Build,
        waiting: Callable[[MeshAddress], None] = lambda host: None,
    ) -> None:
        self.result: Deferred[IProtocol] = Deferred(lambda _: self.hang_up())
        self.closed: Deferred[None] = Deferred()
        self._reactor = reactor
        self._request = request
        self._service = service
        self._build = build
        self._waiting = waiting
        self._reader = AnswerReader()
        self._leg: StreamLeg | None = None

    async def ask(self, socket: str | IStreamClientEndpoint) -> IProtocol:
        """
        Connect to the daemon, and wait for the stream.

        @param socket: as of L{socket_endpoint}.

        @raise DialRefused: C{no-node} or C{forbidden}, if nobody can be asked; else as C{result}.
        """
        try:
            await self._reach(socket_endpoint(self._reactor, socket))
        except ConnectError as error:
            self.closed.callback(None)
            raise _unreachable(str(socket), error) from error
        except (ConnectingCancelledError, CancelledError) as error:
            self.closed.callback(None)
            raise CancelledError from error
        return await self.result

    async def _reach(self, endpoint: IStreamClientEndpoint) -> None:
        """Connect; while more ask at once than the socket lets wait, which no number says, try again."""
        while True:
            try:
                await connect_once(endpoint, self)
                return
            except ConnectError as error:
                if error.osError is not None or isinstance(error, ConnectionRefusedError):
                    raise
                await deferLater(self._reactor, CROWD)

    def hang_up(self) -> None:
        """Want it no more."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def connectionMade(self) -> None:
        """Ask."""
        assert self.transport is not None
        self.transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        """Of the answer, then of the stream."""
        if self._leg is not None:
            self._leg.received(data)
            return
        try:
            answers = self._reader.feed(data)
        except FrameRefused as refusal:
            self._fail(DialRefused(refusal.reason, refusal.detail))
            return
        for answer in answers:
            if answer.status == 101:
                self._upgrade(answer)
            elif answer.status < 200:
                self._waiting(mesh_address(answer.described("gmesh-host"), self._service))
            else:
                self._fail(answer.refusal())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end of the stream, or of the attempt."""
        closed, self.transport = self.closed, None
        if self._leg is not None:
            leg, self._leg = self._leg, None
            leg.lost(reason)
        elif not self.result.called:
            answer = self._reader.end()
            early = DialRefused("no-node", "the node's daemon hung up before it had answered")
            self.result.errback(Failure(answer.refusal() if answer is not None else early))
        closed.callback(None)

    def _fail(self, error: GmeshError | DialRefused) -> None:
        self.result.errback(Failure(error))
        self.hang_up()

    def _upgrade(self, answer: LocalAnswer) -> None:
        peer = mesh_address(answer.described("gmesh-peer"), self._service)
        host = mesh_address(answer.described("gmesh-host"), self._service)
        leg = self._leg = StreamLeg(self._reactor, self.transport, host, peer)
        try:
            protocol = self._build(peer)
            if protocol is None:
                raise NoProtocol
            self._name_in_logs(protocol)
            leg.start(protocol)
        except Exception:
            self.result.errback(Failure())
            self.hang_up()
            return
        self.result.callback(protocol)
        leg.received(self._reader.rest)

    def _name_in_logs(self, protocol: IProtocol) -> None:
        """Have Twisted's log show the program's protocol, and not this one."""
        transport: Any = self.transport
        if hasattr(transport, "logstr"):
            prefix = getattr(protocol, "logPrefix", lambda: type(protocol).__name__)
            transport.logstr = prefix()


def socket_endpoint(reactor: Any, socket: str | IStreamClientEndpoint) -> IStreamClientEndpoint:
    """
    Leads to the daemon.

    @param socket: the path of its socket, or what connects to it instead: a node of a test has none.
    """
    return UNIXClientEndpoint(reactor, socket) if isinstance(socket, str) else socket


def socket_or_found(socket: str | IStreamClientEndpoint | None) -> str | IStreamClientEndpoint:
    """What is given; where L{find_socket} finds a path, if nothing is."""
    return find_socket(socket) if socket is None or isinstance(socket, str) else socket


def mesh_address(described: Mapping[str, Any], service: str) -> MeshAddress:
    """Who is described; what is not said is empty."""
    roles = described.get("roles")
    serial = described.get("serial")
    return MeshAddress(
        str(described.get("name", "")),
        str(described.get("node_id", "")),
        tuple(map(str, roles)) if isinstance(roles, list) else (),
        serial if isinstance(serial, int) else 0,
        service,
    )


def _unreachable(path: str, error: ConnectError) -> DialRefused:
    """Why nobody answers at a socket."""
    if error.osError == EACCES:
        return DialRefused("forbidden", f"{path} is for its owner and group, not for this user")
    if error.osError == ENOENT:
        return DialRefused("no-node", f"there is no socket at {path}: is the node's daemon running?")
    return DialRefused("no-node", f"nothing listens at {path}: is the node's daemon running?")
