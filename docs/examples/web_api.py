# SPDX-License-Identifier: MIT
"""
A web API on one node, asked from another.

    python web_api.py serve gmesh:http             on the host of pump-07
    python web_api.py get http://pump-07/level     on any other
"""

import sys

from klein import Klein
from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import react
from twisted.python.log import startLogging
from twisted.web.server import Site

from gmesh.client import access_log_line, mesh_agent

app = Klein()


@app.route("/level")
def level(request):
    return f"21.5, says the pump to {request.transport.getPeer().name}"


async def main(reactor, what, where):
    if what == "serve":
        startLogging(sys.stdout)
        await serverFromString(reactor, where).listen(Site(app.resource(), logFormatter=access_log_line))
        await Deferred()  # for ever
    response = await HTTPClient(mesh_agent(reactor)).get(where)
    print(response.code, await response.text())


if __name__ == "__main__":
    react(main, sys.argv[1:])
