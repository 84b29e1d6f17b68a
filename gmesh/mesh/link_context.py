# SPDX-License-Identifier: MIT
"""What every link of a node shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from twisted.internet.interfaces import IReactorTime

from gmesh.mesh.counters import Counters, Refusals
from gmesh.mesh.dispatcher import Dispatcher
from gmesh.mesh.limits import WAN, Liveliness
from gmesh.mesh.neighbours import Neighbours
from gmesh.mesh.queues import DataRoom
from gmesh.wire.messages import Hello

__all__ = ["MeshContext"]


@dataclass
class MeshContext:
    """
    What every link of this node shares.

    @ivar wall: Unix seconds, for the expiry of certificates.
    @ivar random: jitter and nonces of PINGs.
    @ivar room: for the data that waits for all links.
    @ivar hello: our HELLO for a link: initiator flag, the peer's address as we see it.
    """

    clock: IReactorTime
    wall: Callable[[], float]
    random: Random
    neighbours: Neighbours
    dispatcher: Dispatcher
    hello: Callable[[bool, str], Hello]
    refusals: Refusals
    counters: Counters = field(default_factory=Counters)
    profile: Liveliness = WAN
    room: DataRoom = field(default_factory=DataRoom)
