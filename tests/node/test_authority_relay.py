# SPDX-License-Identifier: MIT
"""Requests to the authority by way of an anchor: verbatim, bounded, and no proxy for anything else."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from node.managed_mesh import ManagedMesh

from gmesh.endtoend.authorization import AUTHORITY_SERVICE
from gmesh.errors import RequestRefused, SendRefused
from gmesh.node.authority_relay import _question
from gmesh.node.limits import RELAY_BURST


@pytest.fixture
def mesh() -> Iterator[ManagedMesh]:
    """a - b - c; only the anchor a reaches the authority."""
    made = ManagedMesh(seed=21)
    made.add("a", "anchor")
    made.add("b", "relay", peers=["a"])
    made.add("c", "client", peers=["b"], lifetime=3600)
    for name in ("b", "c"):
        made[name].line.open = False
    made.network.blocked.add(frozenset((made["a"].host, made["c"].host)))
    made.start()
    made.run_until(lambda: made["c"].reaches("a") and made["a"].reaches("c"))
    made.run(90)
    yield made
    made.stop()
    assert made.clock.getDelayedCalls() == []


SENDER = "5e" * 16


def signed_by(*senders: str) -> list[list[str]]:
    return [["Signature", "gmesh=:x:"], ["Signature-Input", "".join(f';keyid="{each}"' for each in senders)]]


def id_of(mesh: ManagedMesh, name: str) -> str:
    return mesh[name].runtime.member.certificate.body.node_id


def question(sender: str = SENDER, **changed: Any) -> bytes:
    fields = {
        "ask": "0" * 32,
        "method": "POST",
        "target": "/heartbeat",
        "headers": signed_by(sender),
        "body": base64.b64encode(b"{}").decode(),
    }
    return json.dumps({key: value for key, value in (fields | changed).items() if value is not None}).encode()


def test_heartbeats_arrive_from_two_hops_away(mesh: ManagedMesh) -> None:
    """Signed by the node, judged by the authority as if it came from there; it counts as in touch."""
    assert set(mesh.authority.heard) == {"a", "b", "c"}
    assert mesh["c"].heartbeat.reachable
    assert "POST /heartbeat" in mesh["a"].line.asked


def test_a_renewal_by_way_of_the_anchor(mesh: ManagedMesh) -> None:
    """At half life the certificate is another one, though HTTP never worked."""
    serial = mesh["c"].runtime.member.peer.serial
    mesh.run(2400)
    assert mesh["c"].runtime.member.peer.serial > serial
    assert mesh["c"].link_names == ["b"]


@pytest.mark.parametrize("linked", [True, False])
def test_a_stub_is_renewed_by_way_of_an_anchor(linked: bool) -> None:
    """It keeps no table: it asks an anchor it is linked to, or one behind a relay that it was told of."""
    mesh = ManagedMesh(seed=22)
    mesh.add("a", "anchor")
    mesh.add("b", "relay", peers=["a"])
    stub = mesh.add("s", "client", peers=["a" if linked else "b"], lifetime=3600)
    stub.keep_no_table()
    stub.line.open = False
    if not linked:
        mesh.network.blocked.add(frozenset((mesh["a"].host, stub.host)))
        told = [{"name": "a", "endpoint": f"tcp:{mesh['a'].host}:7443"}]
        stub.runtime.member.state.bootstrap = {"genesis": 1, "anchors": told}
    mesh.start()
    serial = stub.runtime.member.peer.serial
    mesh.run(2400)
    assert stub.heartbeat.reachable and stub.runtime.member.peer.serial > serial
    mesh.stop()


def test_when_the_anchor_does_not_reach_the_authority_either(mesh: ManagedMesh) -> None:
    """The node is out of touch, says so once, and is back by itself."""
    mesh.authority.up = False
    mesh.run(150)
    assert not mesh["c"].heartbeat.reachable
    mesh.authority.up = True
    mesh.run(90)
    assert mesh["c"].heartbeat.reachable


def test_only_anchors_pass_requests_on(mesh: ManagedMesh) -> None:
    """A relay refuses."""
    send = mesh["c"].runtime.datagrams.send
    with pytest.raises(SendRefused, match="refused"):
        mesh.result(send("b", AUTHORITY_SERVICE, question()))


@pytest.mark.parametrize("changed", [{"ask": None}, {"target": "//[/heartbeat"}])
def test_c17_a_question_of_no_shape_is_refused_as_any_other(
    mesh: ManagedMesh, changed: dict[str, Any]
) -> None:
    """The service itself fails at nothing that a member sends, so that the log has no traceback of it."""
    with pytest.raises(SendRefused, match="refused"):
        mesh.result(mesh["c"].runtime.datagrams.send("a", AUTHORITY_SERVICE, question(**changed)))
    counters = mesh["a"].runtime.counters()
    assert counters["receiver-refused"] == 1
    assert "receiver-failed" not in counters


def test_one_node_cannot_make_an_anchor_busy(mesh: ManagedMesh) -> None:
    """Beyond its burst it is refused; the others are served."""
    send = mesh["c"].runtime.datagrams.send
    refused = 0
    for _ in range(RELAY_BURST + 5):
        try:
            mesh.result(send("a", AUTHORITY_SERVICE, question(id_of(mesh, "c"))))
        except SendRefused:
            refused += 1
    assert refused >= 5
    before = len(mesh["a"].line.asked)
    own = question(id_of(mesh, "b"))
    mesh.result(mesh["b"].runtime.datagrams.send("a", AUTHORITY_SERVICE, own))
    mesh.run(1)
    assert len(mesh["a"].line.asked) == before + 1


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "DELETE"},
        {"method": "GET", "target": "/heartbeat"},
        {"target": "/admin/revocations"},
        {"target": "/join"},
        {"target": "http://elsewhere/heartbeat"},
        {"method": "GET", "target": "/commands?since=1&x=2"},
        {"method": "GET", "target": "/status?after=" + "0" * 64},
        {"target": "/heart\r\nbeat"},
        {"target": "//[/heartbeat"},
        {"ask": None},
        {"ask": 7},
        {"headers": [["Host", "elsewhere"]]},
        {"headers": [["Signature", "a\r\nX: b"]]},
        {"headers": {"Signature": "x"}},
        {"headers": [["Signature"]]},
        {"body": "!"},
        {"body": base64.b64encode(bytes(40_000)).decode()},
        {"body": None},
        {"headers": []},
        {"headers": [["Signature", "gmesh=:x:"]]},
        {"headers": signed_by("66" * 16)},
        {"headers": signed_by(SENDER, "66" * 16)},
        {"method": "GET", "target": "/commands?since=1", "headers": []},
        {"method": "GET", "target": "/status", "headers": signed_by("66" * 16)},
    ],
)
def test_a9_no_proxy_for_anything_else(changed: dict[str, Any]) -> None:
    """What no node asks is not passed on."""
    with pytest.raises(RequestRefused):
        _question(json.loads(question(**changed)), SENDER)


@pytest.mark.parametrize(
    "changed",
    [{}, {"method": "GET", "target": "/status", "headers": []}],
)
def test_what_a_node_asks_is_passed_on(changed: dict[str, Any]) -> None:
    """Its own request, and what anybody may fetch."""
    assert _question(json.loads(question(**changed)), SENDER)[4] == b"{}"


def test_a9_an_anchor_passes_on_nothing_under_the_key_of_another(mesh: ManagedMesh) -> None:
    """Not under its own either: the authority hears from it what its members signed, and nothing forged."""
    before = list(mesh["a"].line.asked)
    for victim in ("a", "b"):
        forged = question(id_of(mesh, victim))
        with pytest.raises(SendRefused, match="refused"):
            mesh.result(mesh["c"].runtime.datagrams.send("a", AUTHORITY_SERVICE, forged))
    assert mesh["a"].line.asked == before


@given(
    st.dictionaries(
        st.sampled_from(["method", "target", "headers", "body", "ask"]),
        st.one_of(st.none(), st.integers(), st.text(), st.lists(st.lists(st.text()))),
    )
)
def test_any_question_is_answered_by_a_refusal(value: dict[str, Any]) -> None:
    """No input gets further than L{RequestRefused}."""
    with pytest.raises(RequestRefused):
        _question(value, SENDER)
