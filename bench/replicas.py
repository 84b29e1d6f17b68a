# SPDX-License-Identifier: MIT
"""
The authority on PostgreSQL: one daemon and three on one server, what faults cost, the copy there and back.

Server, daemons and clients share this machine.  The floor of a join is a bare Klein route that verifies one
signature; that of a commit is raw PostgreSQL, one join a commit, on the same server.  The latter has neither
HTTP nor signatures and takes one processor, where a daemon, its clients and its server share two: what else
is busy costs them more than it costs this floor.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from bench.authority import load, row, running, stalls
from bench.authority_copy import measure as copies
from bench.authority_process import HEARTBEATS
from bench.authority_state import DAY, State
from bench.harness import Row, alternate, arguments, progress, settle, show
from bench.postgres import Server, server
from bench.replica_daemons import Replicas, move, replicas
from bench.replicas_faults import faults

COMMIT_SLOW = 0.001
CLIENTS = 256


def raw_joins(url: str, count: int) -> dict[str, Any]:
    """Join transactions in plain PostgreSQL, each with its own commit."""
    times, commits = [], []
    with psycopg.connect(url, autocommit=True) as connection:
        for table in (
            "nonce (k TEXT, n TEXT, c BIGINT, PRIMARY KEY (k, n))",
            "invite (id TEXT PRIMARY KEY, used_at BIGINT)",
            "certificate (serial BIGINT PRIMARY KEY, name TEXT UNIQUE, document BYTEA)",
            "audit (seq BIGINT PRIMARY KEY, entry BYTEA, hash BYTEA)",
        ):
            connection.execute(f"CREATE TABLE raw_{table}".encode())
        connection.execute(
            f"INSERT INTO raw_invite SELECT n::text, NULL FROM generate_series(0, {count}) n".encode()
        )
        began = time.monotonic()
        for n in range(count):
            start = time.perf_counter()
            connection.execute("BEGIN")
            connection.execute("INSERT INTO raw_nonce VALUES (%s,%s,%s)", (f"{n:032}", "n" * 22, n))
            connection.execute(
                "UPDATE raw_invite SET used_at = 1 WHERE id = %s AND used_at IS NULL", (str(n),)
            )
            connection.execute("INSERT INTO raw_certificate VALUES (%s,%s,%s)", (n, f"n{n}", bytes(700)))
            connection.execute("INSERT INTO raw_audit VALUES (%s,%s,%s)", (n, bytes(250), bytes(32)))
            sent = time.perf_counter()
            connection.execute("COMMIT")
            commits.append(time.perf_counter() - sent)
            times.append(time.perf_counter() - start)
        seconds = time.monotonic() - began
        for name in ("nonce", "invite", "certificate", "audit"):
            connection.execute(f"DROP TABLE raw_{name}".encode())
    return {
        "frames": count,
        "seconds": seconds,
        "times": times,
        "commit": statistics.median(commits),
        "server": {"cpu": 0.0, "stall": 0.0, "callback": 0.0},
    }


def held(made: Row, least: float, note: str = "", asked: bool = True) -> Row:
    """The same, with what its ratio must be at least, where that is asked."""
    word = "holds" if made.ratio is not None and made.ratio >= least else "BELOW"
    word = word if asked else "not asked here"
    made.note = "; ".join(part for part in (f"at least {least}: {word}", note, made.note) if part)
    return made


def rates(directory: Path, there: Server, rounds: int, count: int) -> list[Row]:
    """Joins and renewals of many clients, against their floors; joins while heartbeats are written down."""
    progress("members and invites are made")
    state = State(directory, age=DAY)
    kinds = ("one", "three", "quiet", "busy")
    fresh = {
        kind: iter([state.invites(count, f"{kind}-{number}") for number in range(rounds)]) for kind in kinds
    }
    old = iter([state.members(count, f"old-{number}", DAY // 2) for number in range(rounds)])
    ready = [state.joins(state.invites(count, "floor"))]
    progress("they are moved into PostgreSQL")
    url = there.database("rates")
    move(state, url)
    raw_url = there.database("raw")
    with running("floor", directory) as bare, replicas(directory, state, url, 3) as daemons:
        one, three = Replicas(daemons[:1]), Replicas(daemons)

        def joins(target: Replicas, kind: str, clients: int = CLIENTS) -> dict[str, Any]:
            return load(target, directory, [state.joins(next(fresh[kind]))], clients, True)

        def renewals() -> dict[str, Any]:
            return load(one, directory, [state.renewals(next(old))], CLIENTS, True)

        def busy() -> dict[str, Any]:
            (daemon,) = daemons[:1]
            daemon.process.say({"say": "heartbeats"})
            daemon.process.line()
            answer = joins(one, "busy", 64)
            daemon.process.say({"say": "written"})
            return answer | {"written": daemon.process.line()["seconds"]}

        found = alternate(
            f"{CLIENTS} clients",
            rounds,
            {
                "floor": partial(load, bare, directory, ready, CLIENTS, True),
                "raw": partial(raw_joins, raw_url, count // 2),
                "joins at one": partial(joins, one, "one"),
                "joins at three": partial(joins, three, "three"),
                "renewals": renewals,
            },
        )
        calm = alternate(
            "64 clients", rounds, {"quiet": partial(joins, one, "quiet", 64), "heartbeats": busy}
        )
    return [*judged(found), meanwhile(calm)]


def judged(found: dict[str, list[dict[str, Any]]]) -> list[Row]:
    """Each beside its floor."""
    floor = row(f"Klein + verify, {CLIENTS} clients", found["floor"])
    raw = row("raw PostgreSQL, one join a commit", found["raw"])
    commit = statistics.median(each["commit"] for each in found["raw"])
    joins = row("joins, one replica", found["joins at one"])
    one = held(row("joins, one replica", found["joins at one"], floor), 0.4)
    return [
        floor,
        raw,
        one,
        held(
            row("the same to raw commits", found["joins at one"], raw),
            2.0,
            f"where a commit takes over {COMMIT_SLOW * 1e3:g} ms; here {commit * 1e3:.2f}",
            commit > COMMIT_SLOW,
        ),
        held(
            row("joins, three replicas, to one", found["joins at three"], joins),
            0.6,
            "with 8 cores or more 2.0",
        ),
        held(row("renewals, one replica, to joins", found["renewals"], joins), 0.5),
    ]


def meanwhile(found: dict[str, list[dict[str, Any]]]) -> Row:
    """Joins while heartbeats are written down, beside joins alone: what the slowest of them wait."""
    quiet, busy = (row("joins, 64 clients", found[name]) for name in ("quiet", "heartbeats"))
    took = statistics.median(each["written"] for each in found["heartbeats"])
    factor = (busy.p99_ms or 0) / (quiet.p99_ms or 1)
    busy.name = f"joins, 64 clients, {HEARTBEATS:,} heartbeats written"
    busy.floor, busy.ratio = quiet.rate, (busy.rate or 0) / (quiet.rate or 1)
    word = "holds" if factor < 2 else "ABOVE"
    busy.note = (
        f"p99 {factor:.2f} x the {quiet.p99_ms:.0f} ms without, below 2: {word}; written in {took:.1f} s;"
        f" {stalls(*(each['server'] for each in found['heartbeats']))}"
    )
    return busy


def main() -> None:
    """Print every row."""
    parser = arguments(__doc__)
    parser.add_argument("--million", action="store_true", help="copy a million certificates, not 100,000")
    parser.add_argument("--directory", type=Path, help="where the databases lie: the disk that is measured")
    parser.add_argument("--only", choices=("rates", "faults", "copies"), help="these rows alone")
    options = parser.parse_args()
    if shutil.which("initdb") is None:
        print("NOT RUN: there is no initdb of PostgreSQL on the PATH")
        return
    rounds, _ = settle(options)
    few = 10_000 if options.quick else 100_000
    count = 1_000_000 if options.million else few
    rows = []
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        place = Path(name)
        place.chmod(0o755)
        for part in ("rates", "faults", "copies"):
            (place / part).mkdir()
        with server(place / "server") as there:
            if options.only in (None, "rates"):
                rows += rates(place / "rates", there, rounds, 512 if options.quick else 2048)
            if options.only in (None, "faults"):
                rows += faults(place / "faults", there, options.quick)
            if options.only in (None, "copies"):
                rows += copies(place / "copies", there.database("copy"), count)
    show("replicas", rows, {"million": options.million, "quick": options.quick}, options.json)


if __name__ == "__main__":
    main()
