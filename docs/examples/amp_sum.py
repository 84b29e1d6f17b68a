# SPDX-License-Identifier: MIT
"""
Commands with named arguments, by AMP.

    python amp_sum.py serve gmesh:sum              on the host of pump-07
    python amp_sum.py ask gmesh:pump-07:sum 4 8    on any other
"""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.task import react
from twisted.protocols.amp import AMP, Command, Integer


class Sum(Command):
    arguments = ((b"a", Integer()), (b"b", Integer()))
    response = ((b"total", Integer()),)


class Calculator(AMP):
    @Sum.responder
    def sum(self, a, b):
        print(f"{self.transport.getPeer().name} adds", flush=True)
        return {"total": a + b}


async def main(reactor, what, endpoint, *numbers):
    if what == "serve":
        await serverFromString(reactor, endpoint).listen(Factory.forProtocol(Calculator))
        await Deferred()  # for ever
    calculator = await connectProtocol(clientFromString(reactor, endpoint), AMP())
    a, b = map(int, numbers)
    print((await calculator.callRemote(Sum, a=a, b=b))["total"])


if __name__ == "__main__":
    react(main, sys.argv[1:])
