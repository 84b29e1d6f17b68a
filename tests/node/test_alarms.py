# SPDX-License-Identifier: MIT
"""Alarms about the authority: said once, kept over a restart, over after a restore."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import capturedLogs

from gmesh.node.alarms import Alarms
from gmesh.node.limits import MAX_ALARMS
from gmesh.node.node_state import NodeState


def lines(act: Callable[[], object]) -> list[str]:
    with capturedLogs() as events:
        act()
    return [str(event["detail"]) for event in events if event["log_format"].startswith("alarm {slug}: ")]


def alarms_of(state: NodeState) -> Alarms:
    return Alarms(state.alarms, lambda: 1_800_000_000.0, lambda: None)


def again(alarms: Alarms, times: int, say: str = "two documents are status 5") -> Any:
    return lambda: [alarms.raised("digest-mismatch", say, 0) for _ in range(times)]


def test_a5_d1_an_alarm_is_said_once_also_after_a_restart() -> None:
    state = NodeState()
    assert len(lines(again(alarms_of(state), 1000))) == 1
    state = NodeState.from_dict(state.to_dict())
    alarms = alarms_of(state)
    assert lines(again(alarms, 1000)) == []
    assert alarms.kept["digest-mismatch"].count == 2000
    assert lines(again(alarms, 3, "two documents are CRL 7")) == ["two documents are CRL 7"]


def test_a_series_of_alarms_is_bounded() -> None:
    alarms = alarms_of(NodeState())
    said = lines(lambda: [alarms.raised("audit-fork", f"{number} rows", 0) for number in range(1000)])
    assert len(said) == MAX_ALARMS


def test_an_alarm_is_over_once_the_epoch_rose() -> None:
    state = NodeState()
    alarms = alarms_of(state)
    alarms.raised("crl-fork", "CRL 6 no longer names serial 2", 3)
    alarms.settle(3)
    assert set(alarms.kept) == {"crl-fork"}
    alarms.settle(4)
    assert alarms.kept == {} == state.alarms


def test_an_honest_restore_is_told_and_is_no_fault() -> None:
    alarms = alarms_of(NodeState())
    assert lines(lambda: alarms.raised("audit-epoch", "the audit chain went from epoch 0 to 700", 0))
    assert alarms.kept == {}
