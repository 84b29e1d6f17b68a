# SPDX-License-Identifier: MIT
"""
The authority's database to PostgreSQL and back: rows copied and compared, chain computed.

Rows of C{bench.replicas}, which has a server for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.authority_state import State, million
from bench.harness import Row, progress
from gmesh.authority.database_copy import copy_database, copy_end, engine_of


@contextmanager
def quietly(rows: int) -> Iterator[Callable[[int], object]]:
    """Whom nobody watches."""
    yield lambda more: None


def measure(directory: Path, url: str, count: int) -> list[Row]:
    """There and back."""
    progress(f"a database of {count:,} certificates is made")
    state = State(directory)
    million(state, count, count // 10)
    ends = [str(state.path / "authority.sqlite"), url, str(directory / "back.sqlite")]
    rows = []
    for source, target, what in zip(ends, ends[1:], ("SQLite to PostgreSQL", "back"), strict=False):
        progress(what)
        start, cpu = time.perf_counter(), time.process_time()
        done = copy_database(
            state.path, copy_end(engine_of(source)), copy_end(engine_of(target)), int(time.time()), quietly
        )
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        note = f"{done.rows:,} rows in {seconds:.1f} s, {cpu:.1f} s of our CPU; floor: a million in 3 min"
        rate, floor = count / seconds, 1_000_000 / 180
        rows.append(Row(what, rate=rate, unit="certificates/s", floor=floor, ratio=rate / floor, note=note))
    return rows
