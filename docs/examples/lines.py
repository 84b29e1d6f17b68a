# SPDX-License-Identifier: MIT
"""
A line goes to another node, and comes back in capitals.

    python lines.py serve gmesh:lines                on the host of pump-07
    python lines.py ask gmesh:pump-07:lines hello    on any other
"""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.task import react
from twisted.protocols.basic import LineReceiver


class Shout(LineReceiver):
    def connectionMade(self):
        print(f"{self.transport.getPeer().name} calls", flush=True)

    def lineReceived(self, line):
        self.sendLine(line.upper())


class Ask(LineReceiver):
    def __init__(self, line):
        self.line = line
        self.answer = Deferred()

    def connectionMade(self):
        self.sendLine(self.line)

    def lineReceived(self, line):
        self.answer.callback(line)
        self.transport.loseConnection()

    def connectionLost(self, reason):
        if not self.answer.called:
            self.answer.errback(reason)


async def main(reactor, what, endpoint, *words):
    if what == "serve":
        await serverFromString(reactor, endpoint).listen(Factory.forProtocol(Shout))
        await Deferred()  # for ever
    asking = await connectProtocol(clientFromString(reactor, endpoint), Ask(" ".join(words).encode()))
    print((await asking.answer).decode())


if __name__ == "__main__":
    react(main, sys.argv[1:])
