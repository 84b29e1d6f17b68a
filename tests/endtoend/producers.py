# SPDX-License-Identifier: MIT
"""A producer of numbered messages, and a first link that may pause it."""

from __future__ import annotations

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from gmesh.errors import SendRefused


@implementer(IPushProducer)
class Source:
    """Writes numbered messages while it may."""

    def __init__(self, flow, size=1000, eager=0):
        self.flow, self.size, self.eager = flow, size, eager
        self.paused, self.stopped, self.sent, self.refused = False, False, [], []
        flow.registerProducer(self, True)

    def produce(self, count):
        for _ in range(count):
            if self.paused:
                return
            data = len(self.sent).to_bytes(4, "big") + bytes(self.size)
            try:
                self.flow.send(data)
            except SendRefused as refusal:
                self.refused.append(refusal.reason)
                return
            self.sent.append(data)

    def pauseProducing(self):
        self.paused = True

    def resumeProducing(self):
        self.paused = False
        self.produce(self.eager)

    def stopProducing(self):
        self.stopped = True


class Link:
    """A first link that only notes who it may pause."""

    def __init__(self):
        self.senders = {}

    def register_sender(self, flow, producer):
        self.senders[flow] = producer

    def unregister_sender(self, flow):
        del self.senders[flow]

    def hold(self):
        pass

    def release(self):
        pass
