# SPDX-License-Identifier: MIT
"""
Links: the real Noise and mesh layers over one hop, against bare Twisted with an AEAD call each way.
"""

from __future__ import annotations

import time
from typing import Any

from bench.floor import RECORD, SIZES, flow
from bench.harness import Process, Row, alternate, arguments, settle, show, throughput_row

MODULE = "bench.link_process"
READ_SIZE = 256 * 1024


def common(suite: str, seconds: float, **more: Any) -> dict[str, Any]:
    """What every process of a round is told."""
    wall = int(time.time()) - 60
    return {"suite": suite, "seconds": seconds, "wall": wall, "read_size": READ_SIZE, **more}


def one_hop(payload: int, suite: str, seconds: float) -> dict[str, Any]:
    """One round of data over one link."""
    options = common(suite, seconds, payload=payload)
    with (
        Process(MODULE, "far", options) as far,
        Process(MODULE, "source", {**options, "port": far.line()["port"]}) as source,
    ):
        sent = source.line()
        return {"reports": {"A": sent, "C": far.line()}}


def main() -> None:
    """Print the table."""
    options = arguments(__doc__).parse_args()
    rounds, seconds = settle(options)
    rows: list[Row] = []
    for suite in ("aesgcm", "chacha"):
        for size in SIZES:
            results = alternate(
                rounds,
                {
                    "floor": lambda size=size, suite=suite: flow(1, size, suite, False, seconds),
                    "link": lambda size=size, suite=suite: one_hop(size, suite, seconds),
                },
            )
            floor = throughput_row(f"bare pair, {suite}", size, results["floor"])
            rows += [floor, throughput_row(f"one link, {suite}", size, results["link"], floor)]
    show("links", rows, {"record": RECORD, "malloc": "raised"}, options.json)


if __name__ == "__main__":
    main()
