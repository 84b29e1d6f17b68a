# SPDX-License-Identifier: MIT
"""The last administrator's key is lost: another one is let in on the authority's host, offline."""

from __future__ import annotations

from typing import Any

import pytest

from gmesh.authority.operators import recover_operator
from gmesh.errors import DocumentRefused, GmeshError
from gmesh.trust.documents import Policy, parse_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import SigningKey


def test_a_lost_administrator_is_replaced_offline(network: Any) -> None:
    """The new key administers after the next start; policy and audit say so."""
    fresh = SigningKey.generate()
    assert network.admin("GET", "/admin/nodes", key=fresh).slug == "unknown-key"
    network.stop()
    version = recover_operator(network.path, fresh.public, "second key", network.now)
    network.start()
    operators = network.admin("GET", "/admin/operators", key=fresh).json["operators"]
    assert {"second key"} <= {row["name"] for row in operators if row["role"] == "administer"}
    policy = parse_document(network.ask("GET", "/policy").body, Policy).body
    assert policy.version == version
    assert b64url_encode(fresh.public) in {operator.key for operator in policy.operators}
    last = network.admin("GET", "/admin/audit", key=fresh).json["entries"][-1]["row"]
    assert (last["action"], last["target"]) == ("recover-operator", fresh.key_id)


def test_recovery_lifts_a_lower_role(network: Any) -> None:
    """The key of somebody who could only read, or was removed, may be the one that is left."""
    network.stop()
    recover_operator(network.path, network.keys.reader.public, "reader", network.now)
    network.start()
    operators = network.admin("GET", "/admin/operators", key=network.keys.reader).json["operators"]
    assert {row["key_id"]: row["role"] for row in operators}[network.keys.reader.key_id] == "administer"


def test_recovery_leaves_a_running_daemon_alone(network: Any) -> None:
    """While the daemon runs, and for a key that administers already, nothing is changed."""
    with pytest.raises(GmeshError, match="stop it first"):
        recover_operator(network.path, SigningKey.generate().public, "x", network.now)
    network.stop()
    with pytest.raises(GmeshError, match="already"):
        recover_operator(network.path, network.keys.admin.public, "x", network.now)
    with pytest.raises(DocumentRefused):
        recover_operator(network.path, bytes([1]) + bytes(31), "x", network.now)
    network.start()
