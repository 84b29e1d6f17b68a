# SPDX-License-Identifier: MIT
"""What other authorities were seen to get wrong: rows of C{tests/field} that need a real one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gmesh.authority import limits
from gmesh.authority.store.transaction import Transaction


def test_field_t16_readiness_tells_nothing_of_the_inside(
    network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ready or not, and no more: no path, no key, no version; numbers have a listener of their own."""
    network.joined("pump-1")
    ready = network.ask("GET", "/readyz")
    assert (ready.status, ready.json) == (200, {"status": "ready"})

    def broken(*arguments: Any) -> Any:
        raise network.failure(f"disk I/O error in {network.path}")

    monkeypatch.setattr(Transaction, "execute", broken)
    network.clock.advance(60)
    failing = network.ask("GET", "/readyz")
    assert failing.status == 503
    assert set(failing.json) == {"type", "title", "status", "detail", "request_id"}
    inside = [
        str(network.path),
        "sqlite",
        "Traceback",
        network.keys.authority.key_id,
        network.keys.admin.key_id,
    ]
    assert not [word for word in inside if word in json.dumps(failing.json)]
    for path in ("/metrics", "/dashboard.json", "/"):
        assert network.ask("GET", path).status == 404


def test_field_l10_the_audit_chain_goes_on_after_a_restart(network: Any) -> None:
    """One chain over three runs of the daemon: each head of then is a row of now."""
    heads = []
    for run in range(3):
        network.joined(f"pump-{run}")
        network.admin("POST", "/admin/revocations", {"node": f"pump-{run}"})
        heads.append(audit(network))
        network.restart()
    rows = network.admin("GET", "/admin/audit?limit=500").json["entries"]
    assert [rows[head["size"] - 1]["hash"] for head in heads] == [head["head"] for head in heads]
    assert len({head["size"] for head in heads}) == 3
    assert {head["epoch"] for head in heads} == {0}


def test_field_l10_failures_are_counted_and_write_no_rows(network: Any) -> None:
    """Hundreds of requests of strangers: not one row, and the rest of them is refused by the address."""
    network.joined("pump-1")
    before = audit(network)["size"]
    refused = 0
    for number in range(300):
        for path in ("/heartbeat", "/renew", "/join"):
            refused += network.ask("POST", path, body=b"{%d" % number).status >= 400
    assert refused == 900
    assert network.limiter.refused > 600
    assert audit(network)["size"] == before


def audit(network: Any) -> dict[str, Any]:
    """What a status of now says of the chain."""
    network.clock.advance(limits.STATUS_MAX_AGE_SECONDS + 1)
    return dict(json.loads(network.ask("GET", "/status").body)["signed"]["audit"])
