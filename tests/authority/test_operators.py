# SPDX-License-Identifier: MIT
"""The last administrator's key is lost: another one is let in on the authority's host, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from authority.network import Network
from authority.postgres_server import PostgresServer

from gmesh.authority.operators import recover_operator
from gmesh.authority.rate_limit import RateLimits
from gmesh.errors import ConfigurationError, DocumentRefused, GmeshError
from gmesh.trust.documents import Policy, parse_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import SigningKey


def recover(network: Network, public: bytes, name: str) -> int:
    return recover_operator(network.path, public, name, network.now, engine=network.engine)


def test_a_lost_administrator_is_replaced_offline(network: Any) -> None:
    """The new key administers after the next start; policy and audit say so."""
    fresh = SigningKey.generate()
    assert network.admin("GET", "/admin/nodes", key=fresh).slug == "unknown-key"
    network.stop()
    version = recover(network, fresh.public, "second key")
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
    recover(network, network.keys.reader.public, "reader")
    network.start()
    operators = network.admin("GET", "/admin/operators", key=network.keys.reader).json["operators"]
    assert {row["key_id"]: row["role"] for row in operators}[network.keys.reader.key_id] == "administer"


def test_recovery_leaves_a_running_daemon_alone(network: Any) -> None:
    """While the daemon runs, and for a key that administers already, nothing is changed."""
    with pytest.raises(GmeshError, match="stop it first"):
        recover(network, SigningKey.generate().public, "x")
    network.stop()
    with pytest.raises(GmeshError, match="already"):
        recover(network, network.keys.admin.public, "x")
    with pytest.raises(DocumentRefused):
        recover(network, bytes([1]) + bytes(31), "x")
    network.start()


def test_recovery_goes_into_the_database_that_is_shared(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """There the key administers; no second database comes to be in the directory, named or not."""
    monkeypatch.setattr(Network, "postgres", postgres)
    network = Network(tmp_path / "authority", RateLimits())
    fresh = SigningKey.generate()
    network.stop()
    with pytest.raises(ConfigurationError, match="--database") as caught:
        recover_operator(network.path, fresh.public, "second key", network.now)
    assert caught.value.reason == "missing-file"
    version = recover(network, fresh.public, "second key")
    assert not list(network.path.glob("authority*.sqlite*"))
    network.start()
    assert network.admin("GET", "/admin/nodes", key=fresh).status == 200
    assert parse_document(network.ask("GET", "/policy").body, Policy).body.version == version
    network.stop()


def in_force(network: Any) -> Policy:
    """The policy as served."""
    return parse_document(network.ask("GET", "/policy").body, Policy).body


def test_operators_come_and_go_with_a_policy(network: Any) -> None:
    """A new operator may act and stands in the policy; a removed one may not and does not."""
    new = network.keys.signing()
    body = {"key": b64url_encode(new.public), "role": "operate", "name": "night shift"}
    answer = network.admin("POST", "/admin/operators", body)
    assert answer.status == 201
    assert in_force(network).version == answer.json["policy_version"]
    assert b64url_encode(new.public) in [operator.key for operator in in_force(network).operators]
    assert network.admin("GET", "/admin/nodes", key=new).status == 200
    assert network.admin("POST", "/admin/operators", body).slug == "conflict"
    assert network.admin("DELETE", f"/admin/operators/{new.key_id}").status == 200
    assert network.admin("GET", "/admin/nodes", key=new).slug == "unknown-key"
    assert b64url_encode(new.public) not in [operator.key for operator in in_force(network).operators]
    assert network.admin("POST", "/admin/operators", body).slug == "conflict"


def test_the_last_administrator_stays(network: Any) -> None:
    """Not removed by himself nor by others with less; with a second one he may go."""
    keys = network.keys
    target = f"/admin/operators/{keys.admin.key_id}"
    assert network.admin("DELETE", target).slug == "last-administrator"
    assert network.admin("DELETE", target, key=keys.operator).slug == "forbidden-role"
    second = keys.signing()
    body = {"key": b64url_encode(second.public), "role": "administer"}
    assert network.admin("POST", "/admin/operators", body, key=keys.operator).slug == "forbidden-role"
    assert network.admin("POST", "/admin/operators", body).status == 201
    assert network.admin("DELETE", target).slug == "forbidden-role"
    assert network.admin("DELETE", target, key=second).status == 200
    assert network.admin("GET", "/admin/operators").slug == "unknown-key"


def test_an_operator_key_of_small_order_is_refused(network: Any) -> None:
    """With it anybody could sign as that operator."""
    body = {"key": b64url_encode(bytes([1]) + bytes(31)), "role": "read"}
    assert network.admin("POST", "/admin/operators", body).slug == "bad-key"


def test_an_operator_replaces_his_key(network: Any) -> None:
    """The new key has his role and stands in the policy; the old one is refused for ever."""
    keys = network.keys
    new = keys.signing()
    body = {"key": b64url_encode(new.public)}
    target = f"/admin/operators/{keys.operator.key_id}"
    assert network.admin("POST", target, body, keys.reader).slug == "forbidden-role"
    answer = network.admin("POST", target, body, keys.operator)
    assert answer.status == 201
    assert (answer.json["key_id"], answer.json["role"]) == (new.key_id, "operate")
    listed = {
        operator.key: operator.role
        for operator in parse_document(network.ask("GET", "/policy").body, Policy).body.operators
    }
    assert listed[body["key"]] == "operate" and b64url_encode(keys.operator.public) not in listed
    assert network.admin("GET", "/admin/nodes", key=keys.operator).slug == "unknown-key"
    assert network.admin("GET", "/admin/nodes", key=new).status == 200
    assert network.admin("POST", target, body, new).slug == "forbidden-role"
    old = {"key": b64url_encode(keys.operator.public)}
    assert network.admin("POST", f"/admin/operators/{new.key_id}", old, new).slug == "conflict"


def test_the_last_administrator_replaces_his_key(network: Any) -> None:
    """He stays the one who may administer; and he may replace another's key."""
    keys = network.keys
    new, other = keys.signing(), keys.signing()
    target = f"/admin/operators/{keys.admin.key_id}"
    assert network.admin("POST", target, {"key": b64url_encode(new.public)}).status == 201
    keys.admin = new
    target = f"/admin/operators/{keys.reader.key_id}"
    assert network.admin("POST", target, {"key": b64url_encode(other.public)}).status == 201
    assert network.admin("POST", target, {"key": b64url_encode(keys.signing().public)}).slug == "not-found"
    weak = {"key": b64url_encode(bytes([1]) + bytes(31))}
    assert network.admin("POST", f"/admin/operators/{new.key_id}", weak).slug == "bad-key"
