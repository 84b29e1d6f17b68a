# SPDX-License-Identifier: MIT
"""
The path by which frames leave for one peer: that of routing, or the way back of what the peer sends.

An end that gets no answer blames the relays it used and takes others.  What answers goes back the way the
question came, so that each end learns by itself whether a path works, there and back, and need not know
what the other blames.  The way back serves, too, while routing knows no path: the source may know links
that we do not.
Tests: C{tests/endtoend/test_sessions.py}, C{tests/endtoend/test_reliable.py},
C{tests/node/test_silent_relay.py}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from twisted.internet.interfaces import IPushProducer

from gmesh.endtoend.session_set import SessionSet
from gmesh.interfaces import ILink, IRouteEngine
from gmesh.mesh.forwarding import Forwarding
from gmesh.mesh.members import MemberDirectory
from gmesh.routing.engine import RouteEngine
from gmesh.trust.state import TrustState
from gmesh.wire.frames import Kind
from gmesh.wire.paths import PathHeader, pack_path_frame

__all__ = ["FirstLink", "Path", "PathSelector"]

Path = tuple[bytes, ...]


class FirstLink:
    """
    The link by which a sender's frames leave: while it has no room, it pauses the sender.

    @param flow: own handle and the peer's: what the link knows the sender by.
    @param sender: resumed when another link takes the place of the one that may have paused it.
    @ivar path: the path of the last frame.
    @ivar generation: rises when the path changes.
    """

    __slots__ = ("_flow", "_sender", "generation", "link", "path")

    def __init__(self, flow: bytes, sender: IPushProducer) -> None:
        self._flow = flow
        self._sender = sender
        self.path: Path | None = None
        self.link: ILink | None = None
        self.generation = 0

    def follow(self, path: Path | None, link: ILink | None) -> None:
        """Frames leave along C{path} from now on, over C{link}."""
        if path != self.path:
            self.generation += 1
        self.path = path
        old, self.link = self.link, link
        if link is old:
            return
        if old is not None:
            old.unregister_sender(self._flow)
        if link is not None:
            link.register_sender(self._flow, self._sender)
        self._sender.resumeProducing()

    def lost(self) -> None:
        """The link has ended, and the sender's registration with it."""
        self.path = self.link = None


class PathSelector:
    """
    Chooses a path for each peer and hands frames to its first link.

    @param routes: asked for paths.
    @param engine: hears which paths lose frames, and explains why there is none.
    @param directory: the members that are known here.
    @ivar sender: C{sender(path)(head, flow, rest)}: hand a frame, in two pieces, to the first link of the
        path; False if dropped.  What C{sender} gives serves one reactor turn.
    @ivar counters: how often what happened, by slug, for the whole end-to-end layer.
    """

    def __init__(
        self,
        *,
        routes: IRouteEngine,
        engine: RouteEngine,
        forwarding: Forwarding,
        directory: MemberDirectory,
        trust: TrustState,
    ) -> None:
        self._routes = routes
        self._engine = engine
        self._directory = directory
        self._trust = trust
        self.sender = forwarding.sender
        self.link_to = forwarding.links.get
        self.counters: Counter[str] = Counter()

    def route(self, handle: bytes, now: float) -> Path | None:
        """The path of routing to a node, first ourselves."""
        path: Path | None = self._routes.path(handle, now)
        return path

    def explain(self, handle: bytes, now: float) -> tuple[str, str]:
        """Why routing has no path: a slug and a sentence."""
        return self._engine.explain(handle, now)

    def path(self, keys: SessionSet, now: float) -> Path | None:
        """The path to a peer."""
        return self.route(keys.peer.handle, now) or keys.back

    def heard(self, keys: SessionSet, path: Path) -> None:
        """A frame of the peer came by another path than the one before."""
        keys.heard_by, keys.back = path, self._back(path)

    def way_back(self, keys: SessionSet, now: float) -> Path | None:
        """The path for what answers the peer, if it is another than that of all else and can be used."""
        back = keys.back
        if back is None or keys.sealer(now) is None:  # without keys all waits for them together
            return None
        return None if self.link_to(back[1]) is None or back == self.path(keys, now) else back

    def _back(self, path: Sequence[bytes]) -> Path | None:
        """The reverse of the path a frame came by, if all on it are members."""
        for handle in path[1:-1]:
            member = self._directory.find_handle(handle)
            if member is None or self._trust.revoked(member.serial, member.node_id):
                return None
        return tuple(reversed(path))

    def blame(self, path: Path | None, now: float, handshake: bool = False) -> None:
        """What went to a peer by C{path}, a handshake or something sealed, is not answered: try others."""
        if path is not None and len(path) > 2:
            self.counters["blamed"] += 1
            self._engine.unanswered(path, now, handshake)

    def answered(self, path: Path | None, sent: float, now: float, handshake: bool = False) -> None:
        """What went by C{path} at C{sent} is answered."""
        if path is not None:
            self._engine.answered(path, sent, now, handshake)

    def new_keys(self, keys: SessionSet, now: float) -> None:
        """There are new keys with the peer."""
        self._engine.new_keys(keys.peer.handle, now)

    def send(self, path: Path, frame: bytes, flow: bytes, rest: bytes = b"") -> bool:
        """Hand over a frame, in two pieces or whole. @return: False if it was dropped."""
        if self.sender(path)(frame, flow, rest):
            return True
        self.counters["queue-full"] += 1
        return False

    def post(self, kind: Kind, header: PathHeader, message: bytes) -> bool:
        """Make a frame of a handshake message, and send it. @return: False if it was dropped."""
        return self.send(
            header.path, pack_path_frame(kind, header, message), header.source + header.destination
        )
