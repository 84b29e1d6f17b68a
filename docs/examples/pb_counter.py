# SPDX-License-Identifier: MIT
"""
An object on one node, called from another, by Perspective Broker.

    python pb_counter.py serve gmesh:counter              on the host of pump-07
    python pb_counter.py count gmesh:pump-07:counter 5    on any other
"""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.task import react
from twisted.spread.pb import PBClientFactory, PBServerFactory, Root


class Counter(Root):
    total = 0

    def remote_add(self, number):
        self.total += number
        return self.total


async def main(reactor, what, endpoint, *numbers):
    if what == "serve":
        await serverFromString(reactor, endpoint).listen(PBServerFactory(Counter()))
        await Deferred()  # for ever
    factory = PBClientFactory()
    await clientFromString(reactor, endpoint).connect(factory)
    counter = await factory.getRootObject()
    for number in map(int, numbers):
        print(await counter.callRemote("add", number))


if __name__ == "__main__":
    react(main, sys.argv[1:])
