# SPDX-License-Identifier: MIT
"""To be watched: metrics and log lines tell what happened, on lines nobody else writes, without a secret."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from prometheus_client.parser import text_string_to_metric_families
from treq.testing import StubTreq
from twisted.logger import LogEvent, globalLogPublisher

from gmesh.authority.metrics import AuthorityCollector
from gmesh.authority.proxies import TrustedProxies, parse_proxy
from gmesh.daemon.logs import json_line
from gmesh.daemon.metrics import MetricsPage
from gmesh.trust.documents import Status, parse_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.signed_requests import JOIN_TAG


def scrape(network: Any, path: str = "/metrics") -> tuple[int, dict[tuple[str, ...], float]]:
    """The metrics as an independent reader of the format sees them."""
    collector = AuthorityCollector(network.authority, network.limiter, [], network.wall)
    request_log = network.request_log
    treq = StubTreq(MetricsPage(collector, request_log.registry).resource())
    asked = treq.get(f"http://metrics.example{path}")
    got: list[Any] = []
    asked.addCallback(got.append)
    treq.flush()
    text: list[str] = []
    treq.text_content(got[0]).addCallback(text.append)
    request_log.registry.unregister(collector)
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in (text_string_to_metric_families(text[0]) if got[0].code == 200 else ())
        for sample in family.samples
    }
    return got[0].code, samples


def test_metrics_tell_what_happened(network: Any) -> None:
    """Answers by route and status, refusals by reason, the numbers in force; nothing else there."""
    member = network.joined("pump-1")
    network.admin("POST", "/admin/revocations", {"node": "pump-1"})
    network.renew(member)
    network.ask("GET", "/nowhere")
    network.clock.advance(5)
    code, found = scrape(network)
    assert code == 200
    assert found["gmesh_authority_answers_total", "POST /join", "201"] == 1
    assert found["gmesh_authority_answers_total", "POST /renew", "403"] == 1
    assert found["gmesh_authority_answers_total", "unknown", "404"] == 1
    assert found["gmesh_authority_refusals_total", "cert-revoked"] == 1
    assert found["gmesh_authority_crl_entries",] == 1
    status = parse_document(network.ask("GET", "/status").body, Status).body
    in_force = {
        "genesis_version": status.genesis.version,
        "policy_version": status.policy.version,
        "crl_number": status.crl.number,
        "command_number": status.commands.number,
        "audit_rows": status.audit.size,
    }
    assert {name: found[f"gmesh_authority_{name}",] for name in in_force} == in_force
    assert status.crl.number >= 2
    assert found["gmesh_authority_writable",] == 1
    assert found["gmesh_authority_status_age_seconds",] in (4, 5)
    assert network.ask("GET", "/metrics").slug == "not-found"


def test_field_r9_test_metrics_do_not_look_into_the_database(
    network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So they take as long with a million certificates as with one."""

    def asked(*arguments: Any) -> Any:
        raise AssertionError("metrics asked the database")

    monkeypatch.setattr(network.authority.store, "read", asked)
    monkeypatch.setattr(network.authority.store, "decide", asked)
    assert scrape(network)[0] == 200
    monkeypatch.undo()
    assert scrape(network, "/genesis")[0] == 404


def test_changes_and_refusals_are_logged_on_one_line(network: Any, logged: list[str]) -> None:
    """Route, status, reason, who, from where, and the request_id of the answer; reads are not."""
    member = network.joined("pump-1")
    before = len(logged)
    network.heartbeat(member)
    network.ask("GET", "/crl")
    assert len(logged) == before
    answer = network.admin("DELETE", f"/admin/invites/{'0' * 32}")
    assert logged[before:] == [
        f"DELETE /admin/invites/<id> 404 not-found caller={network.keys.admin.key_id}"
        f" address=127.0.0.1 request={answer.json['request_id']} ms=0"
    ]


HOSTILE = ["a\r\nX-Injected: 1", "\x1b[2J", "a\u2028b", "\ud800", "a\x00b"]


def test_a_request_in_a_json_line_has_its_parts(network: Any) -> None:
    """They are as the text has them, and all such lines say they are of one kind."""
    events: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        events.append(event)

    globalLogPublisher.addObserver(observe)
    network.joined("pump-1")
    network.join(network.member(network.keys.signing()))
    request_log = network.request_log
    record = replace(request_log.begin("POST /join"), request_id="r", address="fe80::1%{0} {x} }")
    request_log.answered(record, 403, "enrolment-refused")
    globalLogPublisher.removeObserver(observe)
    lines = [json.loads(line) for line in map(json_line, events) if line]
    lines = [line for line in lines if line["namespace"].endswith("RequestLog")]
    assert len(lines) == 4
    assert {line["event"] for line in lines} == {
        "{route} {status} {reason} caller={caller} address={address} request={request_id} ms={ms}"
    }
    for line in lines:
        assert line["message"] == line["event"].format(**line["fields"])
    assert [line["fields"]["status"] for line in lines] == [201, 201, 403, 403]
    assert lines[-1]["fields"]["address"] == "fe80::1%{0} {x} }"


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_strangers_write_no_line_of_ours(network: Any, logged: list[str], text: str) -> None:
    """CR LF, escapes and separators in headers, names, reasons, queries: refused or escaped."""
    raw = text.encode("utf-8", "surrogatepass")
    network.server.proxies = TrustedProxies([parse_proxy("127.0.0.1")])
    quoted = quote(raw)
    headers = {"User-Agent": quoted, "X-Request-ID": quoted, "X-Forwarded-For": quoted}
    answers = [network.ask("GET", f"/admin/nodes?after={quoted}", headers)]
    asked = f"/admin/policies/explain?source={quoted}&target={quoted}&service=a"
    answers.append(network.admin("GET", asked))
    for body in ({"node": "pump-1", "reason": text}, {"node": text}):
        answers.append(network.admin("POST", "/admin/revocations", body))
    for answer in answers:
        assert answer.status >= 400 and answer.slug
        assert text not in answer.json["detail"]
        for _, values in answer.headers.getAllRawHeaders():
            assert not any(raw in value for value in values)
    rows = network.admin("GET", "/admin/audit").body.decode()
    for line in [*logged, rows]:
        assert line.isprintable() and line.isascii(), line


def test_no_secret_is_ever_logged_or_stored(network: Any, logged: list[str]) -> None:
    """Neither log, nor files of the authority, nor a recorded join hold a seed or a private key."""
    member = network.invite("pump-1")
    headers, body = network.join_request(member)
    assert network.ask("POST", "/join", headers, body).status == 201
    network.admin("POST", "/admin/backup")
    network.heartbeat(network.joined("pump-2"))
    secrets = {
        "seed": member.invite.seed,
        "node key": member.node.seed,
        "noise key": member.noise.private,
        "operator key": network.keys.admin.seed,
    }
    wire = (json.dumps(headers).encode(), body)
    files = [
        path.read_bytes() for path in network.path.rglob("*") if path.is_file() and path.suffix != ".key"
    ]
    assert len(files) >= 6
    for name, secret in secrets.items():
        spellings = (secret, secret.hex().encode(), b64url_encode(secret).encode(), b64encode(secret))
        for spelling in spellings:
            assert not any(spelling in data for data in (*files, *wire)), name
            assert not any(spelling.decode("latin-1") in line for line in logged), name
    assert member.invite.encode() not in "".join(logged)


def test_a_recorded_join_admits_nobody_else(network: Any) -> None:
    """With the whole request and the database in hand a thief can neither swap the keys nor make another."""
    member = network.invite("pump-1")
    _, body = network.join_request(member)
    thief = network.keys.signing()
    value = json.loads(body)
    value["node_key"] = b64url_encode(thief.public)
    swapped = json.dumps(value).encode()
    headers = network.signed(thief, "POST", "/join", swapped, JOIN_TAG)
    assert network.ask("POST", "/join", headers, swapped).slug == "enrolment-refused"
    headers = network.signed(thief, "POST", "/join", body, JOIN_TAG)
    assert network.ask("POST", "/join", headers, body).slug == "bad-signature"
    other = network.member(thief)
    other.invite = replace(other.invite, seed=bytes(32))
    assert network.join(other).slug == "enrolment-refused"
    assert network.join(member).status == 201
