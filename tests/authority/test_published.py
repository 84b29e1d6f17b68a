# SPDX-License-Identifier: MIT
"""What anybody may fetch."""

from __future__ import annotations

import json
from typing import Any

import pytest
from authority.in_place import HeldThreads
from authority.revoked_nodes import list_nodes

from gmesh.errors import StoreError
from gmesh.trust.documents import (
    Crl,
    CrlDelta,
    Genesis,
    Policy,
    Status,
    parse_document,
    sign_document,
)
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.revocation import apply_delta
from gmesh.trust.verify import authority_keys, verify_signatures


def test_documents_verify_under_the_genesis(network: Any) -> None:
    """Policy, CRL and status are signed by the authority key that the genesis lists."""
    keys = authority_keys(network.genesis.body)
    for path, struct in (("/policy", Policy), ("/crl", Crl), ("/status", Status)):
        answer = network.ask("GET", path)
        assert answer.status == 200
        document = parse_document(answer.body, struct)
        assert verify_signatures(document, keys) == {network.keys.authority.key_id}
        assert document.body.network_id == network.network_id
        assert answer.headers.getRawHeaders("etag") == [f'"{document.digest}"']


def test_status_names_what_is_served(network: Any) -> None:
    """The status pins genesis, policy and CRL by number and digest."""
    status = parse_document(network.ask("GET", "/status").body, Status).body
    for path, struct, named in (
        ("/genesis", Genesis, status.genesis),
        ("/policy", Policy, status.policy),
        ("/crl", Crl, status.crl),
    ):
        assert parse_document(network.ask("GET", path).body, struct).digest == named.digest


def test_genesis_by_version(network: Any) -> None:
    """Every version of the genesis can be fetched; one that is not there is 404."""
    assert network.ask("GET", "/genesis/1").body == network.genesis.encode()
    assert network.ask("GET", "/genesis/2").slug == "not-found"
    assert network.ask("GET", "/genesis/99999999999999999999999").slug == "not-found"


def test_etag_saves_the_body(network: Any) -> None:
    """If-None-Match with the current ETag is answered 304 without a body."""
    etag = network.ask("GET", "/crl").headers.getRawHeaders("etag")[0]
    answer = network.ask("GET", "/crl", {"If-None-Match": etag})
    assert (answer.status, answer.body) == (304, b"")


def test_long_poll_waits_for_a_change(network: Any) -> None:
    """A long poll is answered when the CRL changes, with the status that names the new one."""
    network.joined("pump-1")
    network.clock.advance(5)
    held = parse_document(network.ask("GET", "/status").body, Status)
    got: list[Any] = []
    network.begin("GET", f"/status?after={held.digest}").addCallback(got.append)
    network.treq.flush()
    network.clock.advance(5)
    network.treq.flush()
    assert not got
    revoked = network.admin("POST", "/admin/revocations", {"node": "pump-1"})
    network.clock.advance(1)
    network.treq.flush()
    assert parse_document(got[0].body, Status).body.crl.number == revoked.json["crl_number"]


def test_long_poll_ends(network: Any) -> None:
    """After 25 s without news a long poll is answered with the current status."""
    held = parse_document(network.ask("GET", "/status").body, Status)
    got: list[Any] = []
    network.begin("GET", f"/status?after={held.digest}").addCallback(got.append)
    network.treq.flush()
    network.clock.advance(24.9)
    network.treq.flush()
    assert not got
    network.clock.advance(0.2)
    network.treq.flush()
    assert got[0].status == 200


def test_long_poll_with_another_digest_is_answered_at_once(network: Any) -> None:
    """Who holds a status this daemon did not issue, or an old one, does not wait."""
    assert network.ask("GET", f"/status?after={'0' * 64}").status == 200


def test_status_is_signed_again_at_half_life(network: Any) -> None:
    """Without any change there is a new status with a higher number before the old one ends."""
    first = parse_document(network.ask("GET", "/status").body, Status).body
    for _ in range(190):
        network.clock.advance(10)
    second = parse_document(network.ask("GET", "/status").body, Status).body
    assert second.number > first.number
    assert second.expires_at > first.expires_at
    assert second.crl == first.crl


def test_a14_rows_of_the_audit_are_in_a_status_within_a_minute(network: Any) -> None:
    """And without rows, or long polls woken, none is signed before its time."""

    def head() -> tuple[int, str]:
        audit = parse_document(network.ask("GET", "/status").body, Status).body.audit
        return audit.size, audit.head

    network.clock.advance(1)
    waiting = network.begin("GET", f"/status?after={status_digest(network)}")
    woken: list[Any] = []
    waiting.addCallback(woken.append)
    network.joined("pump-1")
    for _ in range(2):
        network.clock.advance(10)
        network.treq.flush()
    assert woken == [], "it names the same documents"
    for _ in range(4):
        network.clock.advance(10)
    rows = network.admin("GET", "/admin/audit?limit=500").json["entries"]
    assert head() == (rows[-1]["seq"], rows[-1]["hash"])
    signed = status_digest(network)
    for _ in range(60):
        network.clock.advance(10)
    assert status_digest(network) == signed
    network.treq.flush()


def status_digest(network: Any) -> str:
    return parse_document(network.ask("GET", "/status").body, Status).digest


def test_crl_and_policy_are_issued_again_at_half_life(network: Any) -> None:
    """The CRL is refreshed before next_update, and the same policy text under a higher version."""
    crl = parse_document(network.ask("GET", "/crl").body, Crl).body
    policy = parse_document(network.ask("GET", "/policy").body, Policy).body
    network.clock.advance(46 * 86_400)
    network.clock.advance(10)
    network.clock.advance(10)
    fresh_crl = parse_document(network.ask("GET", "/crl").body, Crl).body
    fresh_policy = parse_document(network.ask("GET", "/policy").body, Policy).body
    assert fresh_crl.number > crl.number
    assert fresh_policy.version == policy.version + 1
    assert fresh_policy.rules == policy.rules
    status = parse_document(network.ask("GET", "/status").body, Status).body
    assert (status.crl.number, status.policy.version) == (fresh_crl.number, fresh_policy.version)


@pytest.mark.sqlite("daemons that share a database sign no status at each start: test_follow")
def test_numbers_go_on_after_a_restart(network: Any) -> None:
    """A restarted daemon serves the same CRL and policy and a status with a higher number."""
    before = {path: network.ask("GET", path).body for path in ("/crl", "/policy", "/status")}
    network.restart()
    assert network.ask("GET", "/crl").body == before["/crl"]
    assert network.ask("GET", "/policy").body == before["/policy"]
    numbers = [
        parse_document(body, Status).body.number
        for body in (before["/status"], network.ask("GET", "/status").body)
    ]
    assert numbers[0] < numbers[1]


def assemble(old: Crl, delta: CrlDelta) -> dict[str, Any]:
    """The full CRL as the design says a receiver makes it, written without the product's code."""
    serials = {entry[0]: list(entry) for entry in old.revoked if entry[1] >= delta.drop_expired_before}
    serials |= {entry[0]: list(entry) for entry in delta.added}
    nodes = {entry[0]: list(entry) for entry in old.revoked_nodes if entry[2] >= delta.drop_expired_before}
    nodes |= {entry[0]: list(entry) for entry in delta.added_nodes}
    keys = {entry[0]: list(entry) for entry in old.revoked_keys if entry[1] >= delta.drop_expired_before}
    keys |= {entry[0]: list(entry) for entry in delta.added_keys}
    return {
        "type": "crl",
        "network_id": delta.network_id,
        "number": delta.number,
        "issued_at": delta.issued_at,
        "next_update": delta.next_update,
        "revoked": [serials[key] for key in sorted(serials)],
        "revoked_nodes": [nodes[key] for key in sorted(nodes)],
        "revoked_keys": [keys[key] for key in sorted(keys)],
    }


def test_a_delta_makes_the_full_crl(network: Any) -> None:
    """From every earlier CRL the delta yields, byte for byte, the CRL in force, and its signatures verify."""
    list_nodes(network, 80)
    held: list[Crl] = []
    for number in range(6):
        network.joined(f"pump-{number}")
        network.admin("POST", "/admin/revocations", {"node": f"pump-{number}", "reason": "key-compromise"})
        held.append(parse_document(network.ask("GET", "/crl").body, Crl).body)
        network.clock.advance(8 * 86_400)
    network.joined("pump-9")
    network.admin("POST", "/admin/revocations", {"node": "pump-9"})
    newest = parse_document(network.ask("GET", "/crl").body, Crl)
    assert 40 < len(newest.body.revoked_nodes) < 80
    for old in held:
        answer = network.ask("GET", f"/crl?since={old.number}")
        delta = parse_document(answer.body, CrlDelta)
        verify_signatures(delta, authority_keys(network.genesis.body))
        assert assemble(old, delta.body) == json.loads(newest.encode())["signed"]
        signatures = [(entry.key_id, entry.signature) for entry in delta.body.result_signatures]
        assert signatures == [(name, b64url_encode(value)) for name, value in newest.signatures]
        assert apply_delta(sign_document(old, []), delta) == newest
        assert len(answer.body) < len(newest.encode()) / 2


@pytest.mark.parametrize("since", ["0", "1000", str(2**41)])
def test_where_no_delta_can_be_made_the_whole_crl_comes(network: Any, since: str) -> None:
    """Unknown and future numbers are answered with the CRL itself."""
    network.joined("pump-1")
    network.admin("POST", "/admin/revocations", {"node": "pump-1"})
    assert network.ask("GET", f"/crl?since={since}").body == network.ask("GET", "/crl").body


def test_a_bad_since_is_refused(network: Any) -> None:
    """C{since} is a number."""
    assert network.ask("GET", "/crl?since=-1").slug == "invalid-field"
    assert network.ask("GET", "/crl?since=1&since=2").slug == "invalid-field"


@pytest.mark.parametrize("times", [1, 2])
def test_a_status_that_could_not_be_made_is_tried_again(
    network: Any, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """At once after the spacing; then with each look, so that a full disk is not told of each second."""
    network.joined("pump-1")
    network.clock.advance(20)
    publisher, issuer = network.authority.publisher, network.authority.issuer
    sign, failures = issuer.status, [StoreError("unavailable", "the disk is full")] * times

    def status(tx: Any) -> Any:
        if failures:
            raise failures.pop()
        return sign(tx)

    monkeypatch.setattr(issuer, "status", status)
    network.admin("POST", "/admin/revocations", {"node": "pump-1"})
    before = publisher.status_document.body.crl.number
    network.clock.advance(1)
    assert len(failures) == 0
    if times > 1:
        assert publisher.status_document.body.crl.number == before
        network.clock.advance(10)
    assert publisher.status_document.body.crl.number == publisher.crl_document.body.number == before + 1


def test_a_daemon_that_stops_makes_no_status_any_more(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever becomes of the last one."""
    network.clock.advance(20)

    def status(tx: Any) -> Any:
        raise StoreError("unavailable", "the disk is full")

    monkeypatch.setattr(network.authority.issuer, "status", status)
    writer = network.authority.store._writer
    at_once, writer.threadpool = writer.threadpool, HeldThreads()
    network.authority.publisher.commands_changed()
    network.authority.publisher.stop()
    writer.threadpool.go()
    writer.threadpool = at_once
    assert network.authority.publisher._status_timer is None
