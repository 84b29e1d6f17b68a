# SPDX-License-Identifier: MIT
"""What replicas of the authority cost while nothing happens, and how long what goes wrong takes."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.authority import Running
from bench.authority_state import State
from bench.harness import Row, progress
from bench.postgres import Server
from bench.postgres import running as serving
from bench.postgres import server as one_server
from bench.replica_daemons import move, replicas
from gmesh.authority.database_copy import engine_of
from gmesh.cli.operator import OperatorClient
from gmesh.trust.documents import Crl, Status, parse_document

PARKED = 0.4
"""Seconds after which a long poll is there, and the follower behind it at rest."""
AWAY = 4.0
"""Seconds until somebody promotes the standby: long enough for the server to be tried rarely."""
SPACED = 1.1
"""Between two changes, so that the status that names one is not held back."""


class Operator:
    """Who changes something at a daemon, and sees that it is done."""

    def __init__(self, state: State, daemon: Running) -> None:
        (state.operator / "authority.json").write_text(f'{{"urls": ["http://127.0.0.1:{daemon.port}"]}}')
        self._client = OperatorClient(state.operator)
        self._client.trust  # noqa: B018  # fetched now, and not as a part of what is measured

    def revoke(self, serial: int) -> int:
        """@return: the number of the CRL that names it."""
        number: int = self._client.ask("POST", "/admin/revocations", {"serial": serial})["crl_number"]
        return number


def timed_row(name: str, seconds: list[float], most: float, note: str = "", middle: float = 0.0) -> Row:
    """How long something took, beside what it may take at most; in the middle too, if that is given."""
    low, high = statistics.median(seconds), max(seconds)
    good = high <= most and (not middle or low <= middle)
    bound = f"at most {most:g} s" + (f", {middle:g} s in the middle" if middle else "")
    return Row(
        name,
        p50_ms=low * 1e3,
        p99_ms=high * 1e3,
        rounds=len(seconds),
        note=f"{bound}: {'holds' if good else 'ABOVE'}; p99 = the longest" + (f"; {note}" if note else ""),
    )


def faults(directory: Path, there: Server, quick: bool) -> list[Row]:
    """All rows."""
    state = State(directory)
    changes = 12 if quick else 60
    members = state.members(2 * changes + 8)
    serials = iter(document.body.serial for _, document in members)
    alone = idle_alone(directory, quick)
    url = there.database("faults")
    move(state, url)
    with replicas(directory, state, url, 3, idle=True) as daemons:
        rows = [idle(daemons, alone, quick)]
        rows += follow(Operator(state, daemons[0]), daemons[1], serials, changes)
        rows.append(frozen(Operator(state, daemons[0]), url, serials, 1 if quick else 3))
    rows.append(promotion(directory, quick))
    return rows


def idle_alone(directory: Path, quick: bool) -> float:
    """Of a core, that an idle daemon takes whose database is a file."""
    place = directory / "alone"
    place.mkdir()
    with closing(Running("product", place, State(place).path, {"idle": True})) as daemon:
        return _cores(daemon, quick)


def _cores(daemon: Running, quick: bool) -> float:
    time.sleep(2)  # what a start leaves behind
    daemon.report()
    began = time.monotonic()
    time.sleep(6 if quick else 20)
    used: float = daemon.report()["cpu"]
    return used / (time.monotonic() - began)


def idle(daemons: list[Running], alone: float, quick: bool) -> Row:
    """What a daemon takes that follows two others, and does nothing else."""
    progress("three idle replicas")
    cores = _cores(daemons[1], quick)
    following = cores - alone
    word = "holds" if following <= 0.005 else "ABOVE"
    return Row(
        "following, idle",
        note=f"{following:.2%} of a core, at most 0.5 %: {word}; an idle daemon on a file takes {alone:.2%}",
    )


def follow(operator: Operator, other: Running, serials: Any, changes: int) -> list[Row]:
    """From the answer to a change at one replica until another one shows it."""
    heard, asked = [], []
    with ThreadPoolExecutor(1) as pool:
        progress(f"{changes} changes that another replica hears of")
        for _ in range(changes):
            held = parse_document(other.get("/status"), Status)
            waiting = pool.submit(_wait_for_news, other, held.digest)
            time.sleep(SPACED)
            number = operator.revoke(next(serials))
            done = time.monotonic()
            status, when = waiting.result()
            while status.body.crl.number < number:
                status, when = _wait_for_news(other, status.digest)
            heard.append(max(0.0, when - done))
    progress(f"{changes} changes that another replica is asked for")
    for _ in range(changes):
        time.sleep(PARKED)
        number = operator.revoke(next(serials))
        began = time.monotonic()
        shown = parse_document(other.get("/crl"), Crl).body.number
        asked.append(time.monotonic() - began)
        if shown < number:
            raise RuntimeError(f"another replica showed CRL {shown} after {number} was answered")
    return [
        timed_row("a change at another replica, long poll", heard, 0.5, middle=0.25),
        timed_row("a change at another replica, asked for", asked, 0.25, "never an older one"),
    ]


def _wait_for_news(other: Running, digest: str) -> tuple[Any, float]:
    body = other.get(f"/status?after={digest}")
    return parse_document(body, Status), time.monotonic()


def frozen(operator: Operator, url: str, serials: Any, rounds: int) -> Row:
    """A holder of the order stands still: until another daemon has decided."""
    seconds = []
    for number in range(1, rounds + 1):
        progress(f"a holder of the order stands still: round {number} of {rounds}")
        with closing(engine_of(url).connect()) as connection, closing(connection.cursor()) as cursor:
            connection.begin(cursor)
            began = time.monotonic()
            operator.revoke(next(serials))
            seconds.append(time.monotonic() - began)
    return timed_row("a holder of the order stands still", seconds, 5.5)


def promotion(directory: Path, quick: bool) -> Row:
    """The primary is killed, and its synchronous standby promoted: until the next decision, which waits."""
    seconds = []
    rounds = 1 if quick else 3
    for number in range(1, rounds + 1):
        progress(f"a standby takes over: round {number} of {rounds}")
        place = directory / f"promotion-{number}"
        place.mkdir()
        place.chmod(0o755)
        state = State(place)
        ((_, document),) = state.members(1)
        with one_server(place / "primary") as primary:
            url = primary.database("gmesh")
            standby = Server(place / "standby")
            standby.follow(primary)
            with serving(standby):
                primary.wait_for_standby()
                move(state, url)
                both = f"host={primary.directory},{standby.directory} user=gmesh dbname=gmesh"
                with replicas(place, state, both, 1) as (daemon,), ThreadPoolExecutor(1) as pool:
                    operator = Operator(state, daemon)
                    primary.stop()
                    waiting = pool.submit(operator.revoke, document.body.serial)
                    time.sleep(AWAY)
                    began = time.monotonic()
                    standby.promote()
                    waiting.result()
                    seconds.append(time.monotonic() - began)
    return timed_row("promotion, until the next decision", seconds, 2.0, "from its command on")
