# SPDX-License-Identifier: MIT
"""Which receiver takes which frame kind: factories register once, each link gets its own table."""

from __future__ import annotations

from collections.abc import Callable

from gmesh.errors import FrameRefused
from gmesh.interfaces import IFrameReceiverFactory
from gmesh.mesh.neighbour import Neighbour
from gmesh.wire.frames import Kind, is_optional

__all__ = ["Dispatcher", "Receive", "check_unclaimed"]

Receive = Callable[[int, memoryview, int, int], None]


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

    def receivers(self, neighbour: Neighbour) -> dict[int, Receive]:
        """Build the receivers of one link: what takes each kind, asked for every frame."""
        table: dict[int, Receive] = {}
        for factory in self._factories:
            receive = factory.build_receiver(neighbour).frame_received
            table.update(dict.fromkeys(factory.kinds, receive))
        return table


_KINDS = frozenset(Kind)


def check_unclaimed(kind: int, greeting: bool) -> None:
    """
    A frame came that no receiver takes.

    @param greeting: the peer's HELLO was not read yet.
    @raise FrameRefused: unless it may be ignored.
    """
    if greeting:
        raise FrameRefused("bad-hello", "the first frame of a link is not HELLO")
    if kind == Kind.HELLO:
        raise FrameRefused("bad-hello", "a second HELLO came on the same link")
    if kind not in _KINDS and not is_optional(kind):
        raise FrameRefused("unknown-kind", f"frames of kind {kind} are not known here")
