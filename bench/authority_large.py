# SPDX-License-Identifier: MIT
"""The rows of the authority's bench that want a million certificates."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.harness import Row, progress
from gmesh.authority.limits import STATUS_SPACING_SECONDS
from gmesh.authority.store import certificates, nodes, sqlite
from gmesh.authority.store.transaction import Reader
from gmesh.cli.operator import OperatorClient
from gmesh.trust.documents import Crl, CrlDelta, Status, parse_document
from gmesh.trust.state import TrustState

if TYPE_CHECKING:
    from bench.authority import Running
    from bench.authority_state import State

LOOKUPS = 5000
TOGETHER = 20


def measure(state: State, server: Running, count: int) -> list[Row]:
    """Look-ups, pages, the CRL, its delta and revocations, a backup."""
    from bench.authority import stalls, timed

    (state.operator / "authority.json").write_text(f'{{"urls": ["http://127.0.0.1:{server.port}"]}}')
    operator = OperatorClient(state.operator)
    progress("look-ups")
    rows = [_lookups(state, count)]
    rows.append(
        timed("page of 500 nodes", lambda: operator.ask("GET", "/admin/nodes?after=n-5&limit=500"), 20)
    )
    server.report()
    # The first revocation lists the tenth that was revoked by hand; the second is one more.
    held = parse_document(server.get("/status"), Status)
    first = "first CRL with all of them, to CRL and status"
    rows.append(_revoke(first, server, operator, held, _next_serial()))
    base = parse_document(server.get("/crl"), Crl)
    for number in range(3):
        held = parse_document(server.get("/status"), Status)
        rows.append(_revoke(f"one more revoked ({number + 1})", server, operator, held, _next_serial()))
    rows.append(_revoke_together(state, server))
    progress("CRL and delta")
    rows += _sizes(server, base, operator)
    progress("backup")
    server.report()
    start = time.perf_counter()
    taken = operator.ask("POST", "/admin/backup")
    seconds = time.perf_counter() - start
    alone = _copied(state.path / "authority.sqlite", state.path / "copy")
    rows.append(
        Row(
            "backup, with check and manifest",
            p50_ms=seconds * 1e3,
            p99_ms=0.0,
            note=f"{taken['bytes'] / 1e6:.0f} MB; the disk alone {alone:.1f} s; {stalls(server.report())}",
        )
    )
    return rows


def _copied(source: Path, target: Path) -> float:
    """How long the disk takes for a plain copy, synced."""
    start = time.perf_counter()
    shutil.copyfile(source, target)
    with open(target, "rb") as stream:
        os.fsync(stream.fileno())
    target.unlink()
    return time.perf_counter() - start


def _lookups(state: State, count: int) -> Row:
    connection = sqlite.connect(state.path / "authority.sqlite")
    try:
        reader = Reader(connection.cursor())
        picked = [random.randrange(count) for _ in range(LOOKUPS)]
        ids = [nodes.by_name(reader, f"n-{number}").node_id for number in picked]  # type: ignore[union-attr]
        start = time.perf_counter()
        for node_id in ids:
            certificates.last_end(reader, node_id)
        by_key = (time.perf_counter() - start) / LOOKUPS
        start = time.perf_counter()
        for number in picked:
            certificates.get(reader, 10 + number)
        by_serial = (time.perf_counter() - start) / LOOKUPS
    finally:
        connection.close()
    return Row(
        "look-up",
        p50_ms=max(by_key, by_serial) * 1e3,
        p99_ms=0.0,
        note=f"by key {by_key * 1e6:.0f} us, by serial {by_serial * 1e6:.0f} us",
    )


_serials = itertools.count(11, 2)


def measure_flooded(state: State, server: Running, counts: list[int]) -> list[Row]:
    """Nodes of so many certificates each, C{flood-COUNT}, are revoked."""
    (state.operator / "authority.json").write_text(f'{{"urls": ["http://127.0.0.1:{server.port}"]}}')
    operator = OperatorClient(state.operator)
    rows = []
    for count in counts:
        time.sleep(STATUS_SPACING_SECONDS)  # or the new status waits for its turn
        held = parse_document(server.get("/status"), Status)
        name = f"revoke a node of {count:,} certificates, to CRL and status"
        rows.append(_revoke(name, server, operator, held, {"node": f"flood-{count}"}))
        assert parse_document(server.get("/crl"), Crl).body.revoked_nodes
    return rows


def _next_serial() -> dict[str, int]:
    """A certificate that is not revoked."""
    return {"serial": next(number for number in _serials if (number - 10) % 10)}


def _revoke(name: str, server: Running, operator: OperatorClient, held: Any, order: dict[str, Any]) -> Row:
    from bench.authority import stalls

    progress(name)
    server.report()
    start = time.perf_counter()
    answer = operator.ask("POST", "/admin/revocations", order)
    asked = time.perf_counter() - start
    while parse_document(server.get("/status"), Status).body.crl.number < answer["crl_number"]:
        server.get(f"/status?after={held.digest}")
    seconds = time.perf_counter() - start
    return Row(
        name,
        p50_ms=seconds * 1e3,
        p99_ms=seconds * 1e3,
        note=f"answered after {asked * 1e3:.0f} ms; {stalls(server.report())}",
    )


def _revoke_together(state: State, server: Running) -> Row:
    """From many operators' threads at once, until one status names a CRL with all of them."""
    from bench.authority import stalls

    def revoke(operator: OperatorClient, serial: int) -> int:
        number: int = operator.ask("POST", "/admin/revocations", {"serial": serial})["crl_number"]
        return number

    progress(f"{TOGETHER} revoked at once")
    serials = list(itertools.islice((number for number in _serials if (number - 10) % 10), TOGETHER))
    held = parse_document(server.get("/status"), Status)
    operators = [OperatorClient(state.operator) for _ in range(TOGETHER)]
    start = time.perf_counter()
    with ThreadPoolExecutor(TOGETHER) as threads:
        numbers = list(threads.map(revoke, operators, serials))
    asked = time.perf_counter() - start
    while parse_document(server.get("/status"), Status).body.crl.number < max(numbers):
        server.get(f"/status?after={held.digest}")
    seconds = time.perf_counter() - start
    return Row(
        f"{TOGETHER} revoked at once, to CRL and status",
        p50_ms=seconds * 1e3,
        p99_ms=seconds * 1e3,
        note=f"{len(set(numbers))} CRLs; all answered after {asked * 1e3:.0f} ms; {stalls(server.report())}",
    )


def _sizes(server: Running, base: Any, operator: OperatorClient) -> list[Row]:
    data = server.get("/crl")
    start = time.perf_counter()
    full = parse_document(data, Crl)
    read = time.perf_counter() - start
    trust = TrustState(operator.trust.network_id, operator.trust.genesis_chain, {})
    start = time.perf_counter()
    trust.offer(full, time.time())
    taken = time.perf_counter() - start
    entries = len(full.body.revoked)
    start = time.perf_counter()
    changes = server.get(f"/crl?since={base.body.number}")
    asked = time.perf_counter() - start
    delta = parse_document(changes, CrlDelta)
    added = len(delta.body.added)
    empty = len(changes) - sum(len(str(entry).replace(" ", "")) + 1 for entry in delta.body.added)
    return [
        Row(
            "CRL, read by a node",
            p50_ms=(read + taken) * 1e3,
            p99_ms=0.0,
            note=f"{entries:,} entries, {len(data) / entries:.1f} bytes each; parsed in {read * 1e3:.0f} ms,"
            f" verified and indexed in {taken * 1e3:.0f} ms",
        ),
        Row(
            "delta, first asked for",
            p50_ms=asked * 1e3,
            p99_ms=0.0,
            note=f"{added} entries, {len(changes)} bytes: {(len(changes) - empty) / max(1, added):.1f}"
            f" an entry beside a head of {empty}",
        ),
    ]
