# SPDX-License-Identifier: MIT
"""Daemons of one authority on one database of PostgreSQL, for the bench of replicas."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.authority import Running
from bench.authority_copy import quietly
from bench.authority_state import State
from gmesh.authority.database_copy import copy_database, copy_end, engine_of


class Replicas:
    """
    The first of some daemons, or more of them, as one that is loaded.

    @ivar ports: where clients go, one after the other.
    """

    def __init__(self, daemons: list[Running]) -> None:
        self._daemons = daemons
        self.ports = [daemon.port for daemon in daemons]

    def report(self) -> dict[str, Any]:
        """Of all: the CPU together, of stalls the longest."""
        found = [daemon.report() for daemon in self._daemons]
        return {"cpu": sum(each["cpu"] for each in found)} | {
            name: max(each[name] for each in found) for name in ("stall", "callback", "rss")
        }


@contextmanager
def replicas(
    directory: Path, state: State, url: str, count: int, idle: bool = False
) -> Iterator[list[Running]]:
    """Daemons on the database of a URL, each with a state directory of its own."""
    named = directory / "url"
    named.touch(mode=0o600)
    named.write_text(url)
    with ExitStack() as stack:
        daemons = []
        for number in range(count):
            place = directory / f"replica-{number}"
            path = place / "authority"
            if not path.exists():
                path.mkdir(mode=0o700, parents=True)
                for file in (*state.path.glob("*.key"), *state.path.glob("genesis*.json")):
                    shutil.copy2(file, path)
            daemon = Running("product", place, path, {"database": str(named), "idle": idle})
            stack.callback(daemon.close)
            daemons.append(daemon)
        yield daemons


def move(state: State, url: str) -> None:
    """From its file into an empty database."""
    source, target = (engine_of(name) for name in (str(state.path / "authority.sqlite"), url))

    copy_database(state.path, copy_end(source), copy_end(target), int(time.time()), quietly)
