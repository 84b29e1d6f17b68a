# SPDX-License-Identifier: MIT
"""Which receiver takes which frame kind: factories register once, each link gets its own table."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from gmesh.errors import FrameRefused
from gmesh.interfaces import IFrameReceiver, IFrameReceiverFactory, ILink
from gmesh.wire.frames import Kind, is_optional

__all__ = ["Dispatcher", "Receive", "Receivers", "check_unclaimed"]

Receive = Callable[[int, memoryview, int, int], None]


class Receivers:
    """
    The receivers of one link.

    @ivar table: what takes each kind, asked for every frame.
    """

    log = Logger()

    def __init__(self, factories: list[IFrameReceiverFactory], link: ILink) -> None:
        self.table: dict[int, Receive] = {}
        self._waiting: list[IFrameReceiver] = []
        self._up: list[IFrameReceiver] = []
        for factory in factories:
            receiver: IFrameReceiver = factory.build_receiver(link)
            self._waiting.append(receiver)
            for kind in factory.kinds:
                self.table[kind] = receiver.frame_received

    def link_up(self) -> None:
        """Tell them, in the order of registration, unless one of them ends the link."""
        while self._waiting:
            receiver = self._waiting.pop(0)
            self._up.append(receiver)
            receiver.link_up()

    def link_down(self, reason: str) -> None:
        """Tell those that know of the link, in the opposite order; a failure of one spares the others."""
        self._waiting = []
        self.table = {}
        while self._up:
            try:
                self._up.pop().link_down(reason)
            except Exception:
                self.log.failure("A receiver failed while its link went down")


class Dispatcher:
    """Knows the receiver factories of a node; C{node.runtime} registers them, links use them."""

    def __init__(self) -> None:
        self._factories: list[IFrameReceiverFactory] = []
        self._kinds: set[int] = set()

    def register(self, factory: IFrameReceiverFactory) -> None:
        """
        Give the kinds of C{factory} to its receivers, on links that come up from now on.

        @raise ValueError: if another factory has one of these kinds.
        """
        taken = self._kinds & set(factory.kinds)
        if taken:
            raise ValueError(f"frame kinds {sorted(taken)} have a receiver already")
        self._kinds |= set(factory.kinds)
        self._factories.append(factory)

    def receivers(self, link: ILink) -> Receivers:
        """Build the receivers of one link."""
        return Receivers(self._factories, link)


_KINDS = frozenset(Kind)


def check_unclaimed(kind: int, greeting: bool) -> None:
    """
    A frame came that nobody takes.

    @param greeting: the peer's HELLO was not read yet.
    @raise FrameRefused: unless it may be ignored.
    """
    if greeting:
        raise FrameRefused("bad-hello", "the first frame of a link is not HELLO")
    if kind == Kind.HELLO:
        raise FrameRefused("bad-hello", "a second HELLO came on the same link")
    if kind not in _KINDS and not is_optional(kind):
        raise FrameRefused("unknown-kind", f"frames of kind {kind} are not known here")
