# SPDX-License-Identifier: MIT
"""
The path by which frames leave for one peer: that of routing, or the one the peer is heard by.

An end that gets no answer blames the relays it used and takes others; the far end, whose answers
were lost on the same relays, cannot know.  So it follows: when a peer stops using the path that ours
reverses, we go back the path it comes by now, until both agree with routing again.  The same serves while
routing knows no path: the source may know links we do not.
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

HEARD_NOW = 1.0
"""Seconds for which a peer counts as heard."""
FOLLOW_FOR = 5.0
"""Seconds in which the peer, who hears nothing, finds the path that it is heard by."""

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
        follows = keys.follows
        if follows is not None:
            if self.link_to(follows[1]) is not None:
                return follows
            keys.follows = None
        path = self.route(keys.peer.handle, now)
        if path is None and keys.heard_by is not None:
            return self.back(keys.heard_by)
        return path

    def heard(self, keys: SessionSet, path: Path, now: float) -> None:
        """A frame of the peer came by another path than the one before."""
        old, keys.heard_by = keys.heard_by, path
        ours = self.route(keys.peer.handle, now)
        if ours == path[::-1]:
            keys.follows = None
        elif keys.follows is not None or (old is not None and ours == old[::-1]):
            self.counters["followed"] += 1
            keys.follows = self.back(path)

    def answer(self, keys: SessionSet, path: Path, now: float) -> Path | None:
        """The path for the answer to a handshake: that of the peer, which works in one direction at least."""
        keys.heard_by = path
        back, ours = self.back(path), self.route(keys.peer.handle, now)
        keys.follows = None if back == ours else back
        return back or ours

    def back(self, path: Sequence[bytes]) -> Path | None:
        """The reverse of the path a frame came by, if all on it are members."""
        for handle in path[1:-1]:
            member = self._directory.find_handle(handle)
            if member is None or self._trust.revoked(member.serial, member.node_id):
                return None
        return tuple(reversed(path))

    def blame(self, keys: SessionSet, path: Path | None, now: float, handshake: bool = False) -> None:
        """
        What went to the peer by C{path}, a handshake or something sealed, is not answered: try others.

        Who hears the peer goes back the path it comes by, and stays there for a while; who hears nothing
        looks for another.  If both looked, one could always be on the bad path while the other is on the
        good one.
        """
        heard = keys.heard_by if now - keys.heard_at < HEARD_NOW else None
        if keys.follows is not None and (path is None or path == keys.follows):
            if heard is None or now - keys.followed_at >= FOLLOW_FOR:
                keys.follows = None
        elif path is not None and len(path) > 2:
            self.counters["blamed"] += 1
            self._engine.unanswered(path, now, handshake)
            if heard is not None and heard[::-1] != path:
                keys.follows = self.back(heard)
                keys.followed_at = now

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
