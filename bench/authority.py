# SPDX-License-Identifier: MIT
"""
The authority: joins, heartbeats, latency, revocation; with --large a million certificates, with --doors
what each request that a stranger can send costs it.

The floor of a join or heartbeat is a bare Klein route that verifies one signature; the floor of a
commit is raw SQLite, one join transaction a commit, in the same directory, with the same pragmas.
"""

from __future__ import annotations

import pickle
import socket
import sqlite3
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench.authority_doors import doors
from bench.authority_state import State, flood, million
from bench.children import Process
from bench.harness import Row, alternate, arguments, progress, settle, show

MODULE = "bench.authority_process"
FSYNC_SLOW = 0.002


def free_port() -> int:
    """A port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Running:
    """The daemon on a state directory, or the floor."""

    def __init__(
        self,
        role: str,
        directory: Path,
        state: Path | None = None,
        more: dict[str, Any] | None = None,
        **limits: str,
    ) -> None:
        self.metrics = free_port()
        options: dict[str, Any] = {"port": free_port(), "metrics": self.metrics, "limits": limits}
        if state is not None:
            options |= {"state": str(state), "log": str(directory / "authority.log")}
        self.process = Process(MODULE, role, options | (more or {}))
        self.started = self.process.line()
        self.port = self.started["port"]
        self.ports = [self.port]

    def report(self) -> dict[str, Any]:
        """CPU, longest stall and memory since the last question."""
        self.process.say({"say": "report"})
        return self.process.line()

    def close(self) -> None:
        """End it."""
        self.process.close()

    def get(self, path: str, port: int | None = None) -> bytes:
        """One unsigned request."""
        with urllib.request.urlopen(f"http://127.0.0.1:{port or self.port}{path}") as answer:
            body: bytes = answer.read()
            return body


@contextmanager
def running(role: str, directory: Path, state: State | None = None, **limits: str) -> Iterator[Running]:
    """The same, ended afterwards; without limits but C{rate} and C{failures}, where they are given."""
    server = Running(role, directory, None if state is None else state.path, **limits)
    try:
        yield server
    finally:
        server.close()


def load(
    server: Any, directory: Path, queues: list[list[bytes]], clients: int, shared: bool, pace: float = 0.0
) -> dict[str, Any]:
    """
    Run these requests against a server; its own report is added.

    @param server: a L{Running}, or what has C{ports} and C{report()} as one has.
    """
    path = directory / "requests.pickle"
    path.write_bytes(pickle.dumps(queues))
    server.report()
    options = {
        "ports": server.ports,
        "requests": str(path),
        "clients": clients,
        "shared": shared,
        "pace": pace,
    }
    with Process(MODULE, "client", options) as process:
        answer = process.line()
    if any(int(status) >= 300 for status in answer["statuses"]):
        raise RuntimeError(f"refused: {answer['statuses']} {answer['wrong']}")
    return answer | {"server": server.report()}


def row(name: str, results: list[dict[str, Any]], floor: Row | None = None) -> Row:
    """A row of the medians of some rounds."""
    rates = [each["frames"] / each["seconds"] for each in results]
    times = sorted(seconds for each in results for seconds in each["times"])
    made = Row(
        name,
        rate=statistics.median(rates),
        unit="/s",
        cpu_us={
            "server": statistics.median(each["server"]["cpu"] * 1e6 / each["frames"] for each in results)
        },
        p50_ms=times[len(times) // 2] * 1e3,
        p99_ms=times[int(len(times) * 0.99)] * 1e3,
        rounds=len(rates),
        low=min(rates),
        high=max(rates),
        others_busy=statistics.median(each["others_busy"] for each in results),
        note=stalls(*(each["server"] for each in results)),
    )
    if floor is not None and floor.rate:
        made.floor, made.ratio = floor.rate, (made.rate or 0) / floor.rate
    return made


def stalls(*reports: dict[str, float]) -> str:
    """The longest callback, and the longest turn of the reactor, of some reports."""
    callback, turn = (max(report[name] for report in reports) * 1e3 for name in ("callback", "stall"))
    return f"longest callback {callback:.0f} ms, longest turn {turn:.0f} ms"


def raw_joins(directory: Path, count: int) -> dict[str, Any]:
    """Join transactions in plain SQLite, each with its own commit."""
    path = directory / f"raw-{time.monotonic_ns()}.sqlite"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.executescript(
        "CREATE TABLE nonce (k TEXT, n TEXT, c INTEGER, PRIMARY KEY (k, n)) WITHOUT ROWID;"
        "CREATE TABLE invite (id TEXT PRIMARY KEY, used_at INTEGER);"
        "CREATE TABLE certificate (serial INTEGER PRIMARY KEY, name TEXT UNIQUE, document BLOB);"
        "CREATE TABLE audit (seq INTEGER PRIMARY KEY, entry BLOB, hash BLOB);"
    )
    connection.executemany("INSERT INTO invite (id) VALUES (?)", ((str(n),) for n in range(count)))
    times = []
    began = time.monotonic()
    for number in range(count):
        start = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO nonce VALUES (?,?,?)", (f"{number:032}", "n" * 22, number))
        connection.execute("UPDATE invite SET used_at = 1 WHERE id = ? AND used_at IS NULL", (str(number),))
        connection.execute("INSERT INTO certificate VALUES (?,?,?)", (number, f"n{number}", bytes(700)))
        connection.execute("INSERT INTO audit VALUES (?,?,?)", (number, bytes(250), bytes(32)))
        connection.execute("COMMIT")
        times.append(time.perf_counter() - start)
    seconds = time.monotonic() - began
    connection.close()
    return {
        "frames": count,
        "seconds": seconds,
        "times": times,
        "server": {"cpu": 0.0, "stall": 0.0, "callback": 0.0},
    }


def rates(directory: Path, rounds: int, quick: bool) -> list[Row]:
    """Joins and heartbeats of many clients, against their floors."""
    count = 512 if quick else 2048
    each = 4 if quick else 12
    state = State(directory)
    progress("members and invites are made")
    members = state.members(256)
    invited = [iter(state.invites(count, f"join-{number}")) for number in range(2 * rounds)]
    fresh = iter(invited)

    def product(clients: int) -> dict[str, Any]:
        return load(server, directory, [state.joins(next(fresh))], clients, True)

    rows: list[Row] = []
    with running("floor", directory) as bare:
        ready = [state.joins(state.invites(count, "floor"))]
        beats = state.heartbeats(members, each)
        with running("product", directory, state) as server:
            for clients in (64, 256):
                found = alternate(
                    f"joins, {clients} clients",
                    rounds,
                    {
                        "floor": partial(load, bare, directory, ready, clients, True),
                        "raw": partial(raw_joins, directory, count // 2),
                        "product": partial(product, clients),
                    },
                )
                floor, raw = (
                    row(f"Klein + verify, {clients} clients", found["floor"]),
                    row("raw SQLite, one join a commit", found["raw"]),
                )
                joins = row(f"joins, {clients} clients", found["product"], floor)
                commits = row(f"joins, {clients} clients, to raw commits", found["product"], raw)
                commit = raw.p50_ms or 0
                goal = "applies" if commit / 1e3 > FSYNC_SLOW else "does not apply"
                commits.note = f"a raw commit takes {commit:.2f} ms: the goal of 2.0 {goal}"
                rows += [floor, raw, joins, commits]
            found = alternate(
                "heartbeats, 256 clients",
                rounds,
                {
                    "floor": lambda: load(bare, directory, beats, 256, False),
                    "product": lambda: load(server, directory, state.heartbeats(members, each), 256, False),
                },
            )
            floor = row("Klein + verify, certificate in the body", found["floor"])
            rows += [floor, row("heartbeats, 256 clients", found["product"], floor)]
            rows += latencies(directory, state, server, quick)
            rows.append(revocations(state, server, members, quick))
    return rows


def latencies(directory: Path, state: State, server: Running, quick: bool) -> list[Row]:
    """Joins of few clients, and of one that takes its time."""
    rows = []
    for name, clients, count, pace in (("8 clients", 8, 256, 0.0), ("one, every 20 ms", 1, 100, 0.02)):
        ready = [state.joins(state.invites(count if not quick else count // 4, f"latency-{clients}"))]

        def one(ready: Any = ready, clients: int = clients, pace: float = pace) -> dict[str, Any]:
            return load(server, directory, ready, clients, True, pace)

        rows.append(row(f"joins, {name}", alternate(f"joins, {name}", 1, {"product": one})["product"]))
    return rows


def revocations(state: State, server: Running, members: Any, quick: bool) -> Row:
    """From the operator's request to a status that names the new CRL, as a long poll sees it."""
    from gmesh.cli.operator import OperatorClient
    from gmesh.trust.documents import Crl, Status, parse_document

    (state.operator / "authority.json").write_text(f'{{"urls": ["http://127.0.0.1:{server.port}"]}}')
    operator = OperatorClient(state.operator)
    times = []
    progress("revocations")
    server.report()
    for _, document in members[: 5 if quick else 20]:
        held = parse_document(server.get("/status"), Status)
        start = time.perf_counter()
        answer = operator.ask("POST", "/admin/revocations", {"serial": document.body.serial})
        while parse_document(server.get("/status"), Status).body.crl.number < answer["crl_number"]:
            server.get(f"/status?after={held.digest}")
        assert parse_document(server.get("/crl"), Crl).body.number >= answer["crl_number"]
        times.append(time.perf_counter() - start)
    times.sort()
    return Row(
        "revoke to new CRL and status",
        p50_ms=statistics.median(times) * 1e3,
        p99_ms=times[-1] * 1e3,
        rounds=len(times),
        note=f"back to back, p99 = the longest; {stalls(server.report())}",
    )


def timed(name: str, run: Callable[[], object], count: int = 1, note: str = "") -> Row:
    """How long something takes."""
    times = []
    progress(name)
    for _ in range(count):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    times.sort()
    return Row(
        name,
        p50_ms=statistics.median(times) * 1e3,
        p99_ms=times[int(len(times) * 0.99)] * 1e3,
        rounds=count,
        note=note,
    )


def large(directory: Path, count: int, revoked: int) -> list[Row]:
    """What a million certificates cost: of as many nodes, a tenth of them revoked, and of one that is."""
    from bench.authority_large import measure, measure_flooded

    empty = directory / "empty"
    full = directory / "full"
    empty.mkdir()
    full.mkdir()
    small, big = State(empty), State(full)
    progress(f"a database of {count:,} certificates is made")
    million(big, count, revoked)
    rows = []
    with running("product", empty, small) as server:
        rows += flat(server, "empty")
    progress(f"the authority starts with {count:,}")
    with running("product", full, big) as server:
        rows += flat(server, f"{count:,}")
        rows.append(
            Row(
                f"start with {count:,}",
                p50_ms=server.started["start"] * 1e3,
                p99_ms=server.started["start"] * 1e3,
                note=f"{server.started['rss'] / 1e6:.0f} MB resident",
            )
        )
        rows += measure(big, server, count)
    flooded = directory / "flooded"
    flooded.mkdir()
    many, counts = State(flooded), [count // 10, count]
    progress(f"nodes of {counts[0]:,} and {counts[1]:,} certificates are made")
    flood(many, counts)
    with running("product", flooded, many) as server:
        rows += measure_flooded(many, server, counts)
    return rows


def flat(server: Running, what: str) -> list[Row]:
    """Answers that must take as long with a million certificates as with none."""
    return [
        timed(f"/metrics, {what}", lambda: server.get("/metrics", server.metrics), 50),
        timed(f"/readyz, {what}", lambda: server.get("/readyz"), 50),
    ]


def main() -> None:
    """Print every row."""
    parser = arguments(__doc__)
    parser.add_argument("--large", action="store_true", help="with a million certificates (--quick: 50,000)")
    parser.add_argument("--doors", action="store_true", help="what each request of a stranger costs")
    parser.add_argument("--directory", type=Path, help="where the databases lie: the disk that is measured")
    options = parser.parse_args()
    rounds, _ = settle(options)
    rows = []
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        if options.large:
            count = 50_000 if options.quick else 1_000_000
            rows = large(Path(name), count, count // 10)
        elif options.doors:
            rows = doors(Path(name), State(Path(name)), options.quick)
        else:
            rows = rates(Path(name), rounds, options.quick)
    show(
        "authority",
        rows,
        {"large": options.large, "doors": options.doors, "quick": options.quick},
        options.json,
    )


if __name__ == "__main__":
    main()
