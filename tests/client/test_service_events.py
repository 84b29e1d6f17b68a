# SPDX-License-Identifier: MIT
"""Who joins and leaves, told to programs that ask often or seldom."""

from __future__ import annotations

from gmesh.client.service_events import ServiceChanges, ServiceEvent


def told(changes: ServiceChanges) -> list[ServiceEvent]:
    found = []
    while (event := changes.next()) is not None:
        found.append(event)
    return found


def test_each_change_once() -> None:
    """Those that have left first; the same table again is nothing new."""
    changes = ServiceChanges()
    assert told(changes) == []
    changes.hear([{"service": "log", "nodes": ["b", "a"]}])
    assert told(changes) == [ServiceEvent("log", "a", True), ServiceEvent("log", "b", True)]
    changes.hear([{"service": "log", "nodes": ["a", "b"]}])
    assert told(changes) == []
    changes.hear([{"service": "log", "nodes": ["b", "c"]}, {"service": "web", "nodes": ["c"]}])
    assert told(changes) == [
        ServiceEvent("log", "a", False),
        ServiceEvent("log", "c", True),
        ServiceEvent("web", "c", True),
    ]


def test_who_came_and_went_meanwhile_is_not_told() -> None:
    """And who went and came back was always there."""
    changes = ServiceChanges()
    changes.hear([{"service": "log", "nodes": ["a"]}])
    assert len(told(changes)) == 1
    changes.hear([{"service": "log", "nodes": ["b"]}])
    changes.hear([{"service": "log", "nodes": ["a"]}])
    assert told(changes) == []
