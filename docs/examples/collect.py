# SPDX-License-Identifier: MIT
"""Collects the readings of other nodes, and tells each the warmest so far."""

from twisted.internet import reactor

from gmesh.client import Mesh
from gmesh.errors import SendRefused

warmest = float("-inf")


async def reading(message):
    global warmest
    try:
        value = float(message.data)
    except ValueError:
        raise SendRefused("refused", "a reading is a number") from None
    warmest = max(warmest, value)
    print(f"{message.source}: {value}", flush=True)
    return f"warmest so far: {warmest}".encode()


Mesh().serve("readings", reading)
reactor.run()
