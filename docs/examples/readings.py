# SPDX-License-Identifier: MIT
"""
A Twisted program that talks through the node of its host: one end reports readings, the other collects them.

    python readings.py SOCKET collect              on one host
    python readings.py SOCKET report NODE 21.5     on another
"""

import base64
import json
import sys

import treq
from treq.client import HTTPClient
from twisted.internet.endpoints import clientFromString
from twisted.internet.task import react
from twisted.web.client import Agent
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

SERVICE = "readings"


@implementer(IAgentEndpointFactory)
class LocalNode:
    """Leads every request to the node's socket, whatever host the URL names."""

    def __init__(self, reactor, path):
        self.endpoint = clientFromString(reactor, f"unix:{path}")

    def endpointForURI(self, uri):
        return self.endpoint


class Readings:
    """The service C{readings} of the mesh."""

    def __init__(self, reactor, path):
        self.http = HTTPClient(Agent.usingEndpointFactory(reactor, LocalNode(reactor, path)))

    async def report(self, node, value):
        """
        Send one reading.

        @return: how many milliseconds the acknowledgement took.
        @raise ValueError: with the reason, if the other node has not acknowledged it.
        """
        data = base64.b64encode(str(value).encode()).decode()
        message = {"node": node, "service": SERVICE, "data": data}
        response = await self.http.post("http://node/v1/send", json=message)
        answer = await treq.json_content(response)
        if response.code != 200:
            raise ValueError(answer["detail"])
        return answer["rtt_ms"]

    async def collect(self, received):
        """Call C{received(node, value)} for each reading, until the daemon stops."""
        response = await self.http.get(f"http://node/v1/receive?service={SERVICE}")
        if response.code != 200:
            raise ValueError((await treq.json_content(response))["detail"])
        rest = b""

        def arrived(data):
            nonlocal rest
            *lines, rest = (rest + data).split(b"\n")
            for message in map(json.loads, lines):
                try:
                    value = float(base64.b64decode(message["data"]))
                except ValueError:  # anybody may send anything
                    print(f"{message['from']} sent no reading", file=sys.stderr)
                else:
                    received(message["from"], value)

        await treq.collect(response, arrived)


async def main(reactor, path, what, *arguments):
    readings = Readings(reactor, path)
    if what == "report":
        try:
            print(f"arrived after {await readings.report(*arguments)} ms")
        except ValueError as refusal:
            raise SystemExit(f"not sent: {refusal}") from refusal
    else:
        await readings.collect(lambda node, value: print(f"{node}: {value}", flush=True))


if __name__ == "__main__":
    react(lambda *arguments: main(*arguments), sys.argv[1:])
