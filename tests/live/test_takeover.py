# SPDX-License-Identifier: MIT
"""A synchronous standby takes over under the load of three daemons."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from authority.test_failover import paired
from live.node_rig import until
from live.replica_rig import Load, OnServer

from gmesh.authority.store.transaction import SERIALS_PER_EPOCH

pytestmark = [
    pytest.mark.live,
    pytest.mark.soak,
    pytest.mark.skipif(shutil.which("pg_basebackup") is None, reason="NOT RUN: no PostgreSQL here"),
]
BACK_SECONDS = 2.0


def test_p7_a_standby_that_takes_over_under_load_loses_nothing(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The primary crashes: nothing acknowledged is lost, the epoch is the same, decisions go on at once."""
    with paired() as pair:
        pair.start("standby")
        there = OnServer(tmp_path, pair.url, 3)
        try:
            there.start()
            pair.wait_for_standby("*")
            with Load(there, [daemon.port for daemon in there.daemons], 9) as load:
                until(lambda: len(there.admitted) > 100)
                pair.stop("primary", "immediate")
                crashed = time.monotonic()
                pair.promote()
                pair.sql("standby", "ALTER SYSTEM RESET synchronous_standby_names")
                pair.sql("standby", "SELECT pg_reload_conf()")
                promoted, before = time.monotonic(), len(there.admitted)
                while len(there.admitted) == before:
                    time.sleep(0.01)
                took = time.monotonic() - promoted
                until(lambda: len(there.admitted) > before + 100)
            record_property("answers", dict(load.statuses()))
            record_property("promoting_seconds", promoted - crashed)
            record_property("back_seconds", took)
            assert set(load.statuses()) <= {"200", "201", "503"}, load.answers
            assert there.check() >= len(there.admitted)
            assert max(there.admitted) < SERIALS_PER_EPOCH
            with psycopg.connect(there.url) as connection:
                entries = connection.execute("SELECT entry FROM audit").fetchall()
            assert "promotion" not in {json.loads(entry)["action"] for (entry,) in entries}
            assert took < BACK_SECONDS
        finally:
            there.end()
