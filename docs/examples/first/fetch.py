# SPDX-License-Identifier: MIT
import sys
from typing import Any

from treq.client import HTTPClient
from twisted.internet.task import react

from gmesh.client import mesh_agent


async def main(reactor: Any, url: str) -> None:
    answer = await HTTPClient(mesh_agent(reactor)).get(url)
    print(await answer.text())


react(main, sys.argv[1:])
