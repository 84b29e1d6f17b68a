# SPDX-License-Identifier: MIT
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from gmesh.client import GivenMessage, Mesh


async def add(message: GivenMessage) -> bytes:
    return b"%g" % sum(map(float, message.data.split()))


async def main(reactor: object) -> None:
    await Mesh().serve("sum", add).ready
    await Deferred[None]()


react(main)
