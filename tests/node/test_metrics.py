# SPDX-License-Identifier: MIT
"""The numbers of a node: each moves when what it counts happens, and Prometheus can read them all."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from treq.testing import StubTreq
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure

import gmesh
from gmesh.daemon.metrics import MetricsPage
from gmesh.errors import SendRefused
from gmesh.node.metrics import DROPS, PREFIX, NodeCollector, is_drop
from gmesh.node.reactor_lag import ReactorLag
from gmesh.streams.limits import MAX_LABELS
from gmesh.testing.mesh import MemoryMesh
from gmesh.trust.documents import Command, CommandTarget, sign_document
from gmesh.wire.frames import Kind

ROOT = Path(__file__).resolve().parents[2]


def page_of(mesh: MemoryMesh, name: str, lag: ReactorLag | None = None) -> MetricsPage:
    heartbeat: Any = SimpleNamespace(reachable=False)
    return MetricsPage(NodeCollector(mesh[name].runtime, heartbeat, lag or ReactorLag(mesh.clock)))


def samples(metrics: MetricsPage) -> dict[str, float]:
    """Each sample under its name and labels, as Prometheus' own parser reads it."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(metrics.page().decode()):
        assert family.documentation and family.type != "unknown", family.name
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            key = sample.name.removeprefix(PREFIX) + (f"{{{labels}}}" if labels else "")
            assert key not in found
            found[key] = sample.value
    return found


def test_what_a_quiet_node_says(mesh: MemoryMesh) -> None:
    """Age, time left, numbers, links and paths are those of the node."""
    metrics = page_of(mesh, "b")
    before = samples(metrics)
    mesh.run(100)
    now = samples(metrics)
    assert before["certificate_seconds_left"] - now["certificate_seconds_left"] == pytest.approx(100)
    assert now["status_age_seconds"] - before["status_age_seconds"] == pytest.approx(100)
    body = mesh["b"].enrolled.certificate.body
    assert now["certificate_seconds_left"] == pytest.approx(body.not_after - mesh.wall())
    expected = {
        f"info{{version={gmesh.__version__}}}": 1,
        "authority_reachable": 0,
        "links": 2,
        "paths{hops=1}": 2,
        "path_hops_longest": 1,
        "queue_bytes{kind=data}": 0,
        "queue_bytes{kind=control}": 0,
        "genesis_version": 1,
        "policy_version": mesh.issuer.policy.body.version,
        "crl_number": mesh.issuer.crl.body.number,
    }
    assert {name: now.get(name) for name in expected} == expected
    assert samples(page_of(mesh, "a"))["paths{hops=2}"] == 1
    assert now["process_resident_memory_bytes"] > 0


class LateClock(Clock):
    """A clock whose calls come as late as it is told."""

    late = 0.0

    def seconds(self) -> float:
        return super().seconds() + self.late


def test_field_l9_every_metric_moves(mesh: MemoryMesh) -> None:
    """In ten minutes in which enough happens, each changes, but the version that runs and genesis."""
    heartbeat: Any = SimpleNamespace(reachable=True)
    clock = LateClock()
    lag = ReactorLag(clock)
    metrics = MetricsPage(NodeCollector(mesh["b"].runtime, heartbeat, lag))
    before = samples(metrics)
    lag.startService()
    clock.late = 0.5
    clock.advance(1)
    heartbeat.reachable = False
    mesh.issuer.publish_policy()
    obey(mesh, "b")
    mesh.issuer.revoke(mesh["a"].enrolled)
    mesh.publish("b", "c")
    mesh.run(600)
    link = mesh["b"].link("c")
    stream = open_stream(mesh, "c", "b")
    stream.write(b"1")
    mesh.run(1)
    assert samples(metrics)["streams_open{service=web}"] == 1
    stream.abortConnection()
    stream = open_stream(mesh, "b", "c")
    with pytest.raises(SendRefused):
        mesh.result(mesh["c"].runtime.datagrams.send("b", "nothing", b"x", timeout=5))
    mesh.silence("b", "c")
    stream.write(b"2")
    mesh["b"].runtime.neighbours.twins.refused_us("c")
    mesh["b"].runtime._changes.heartbeat = SimpleNamespace(fell_back=True)  # type: ignore[assignment]
    while not link.backlog:
        link.send_data(b"x" * 1000, b"f" * 16)
    link.send_control(Kind.PING, b"x" * 8)
    pages = [before, samples(metrics)]
    mesh.run(60)
    pages.append(samples(metrics))
    mesh.heal()
    mesh.run(60)
    pages.append(samples(metrics))
    names = {name for page in pages for name in page}
    moved = {name.partition("{")[0] for name in names if len({page.get(name) for page in pages}) > 1}
    still = {name.partition("{")[0] for name in names} - moved
    assert {name for name in still if not name.startswith("process_")} == {"info", "genesis_version"}
    lag.stopService()


def test_two_nodes_have_two_registries(mesh: MemoryMesh) -> None:
    """What one counts, the other does not."""
    assert samples(page_of(mesh, "a"))["links"] == 1
    assert samples(page_of(mesh, "b"))["links"] == 2


def test_a_refused_neighbour_is_counted_by_cause(mesh: MemoryMesh) -> None:
    """A revoked node that dials: a handshake failure, under its reason."""
    metrics = page_of(mesh, "b")
    assert "handshake_failures_total{cause=revoked}" not in samples(metrics)
    mesh.issuer.revoke(mesh["a"].enrolled)
    mesh.publish("b", "c")
    mesh["a"].restart()
    mesh["b"].runtime.dialler.stop()
    mesh.run(90)
    mesh["b"].runtime.dialler.set_targets((mesh["a"].address,), ())
    mesh["b"].runtime.dialler.start()
    mesh.run(120)
    assert samples(metrics)["handshake_failures_total{cause=revoked}"] >= 1


def test_a_message_nobody_takes_is_a_drop(mesh: MemoryMesh) -> None:
    """At the receiving node, under its cause."""
    metrics = page_of(mesh, "c")
    with pytest.raises(SendRefused):
        mesh.result(mesh["a"].runtime.datagrams.send("c", "nothing", b"x", timeout=5))
    assert samples(metrics)["drops_total{cause=inbound-no-such-service}"] == 1
    assert samples(metrics)["events_total{cause=inbound-no-such-service}"] == 1


def test_what_waits_for_a_link_is_shown(mesh: MemoryMesh) -> None:
    """Bytes wait while the transport takes none, and are forgotten with the link."""
    metrics, link = page_of(mesh, "b"), mesh["b"].link("c")
    mesh.silence("b", "c")
    while not link.backlog:
        link.send_data(b"x" * 1000, b"f" * 16)
    assert samples(metrics)["queue_bytes{kind=data}"] == link.backlog
    mesh.run(60)
    assert samples(metrics)["queue_bytes{kind=data}"] == 0


def open_stream(mesh: MemoryMesh, near: str, far: str) -> Any:
    """The transport of a stream that one node has opened to another."""
    listening = mesh[far].runtime.streams.listen("web", lambda offer: offer.accept(Protocol()))
    protocol = mesh.result(mesh[near].runtime.streams.dial(far, "web", lambda peer: Protocol()))
    listening.stopListening()
    return protocol.transport


def test_streams_are_counted_by_service(mesh: MemoryMesh) -> None:
    """Those that are open, how others ended, and the bytes of both; at both ends."""
    near, far = page_of(mesh, "a"), page_of(mesh, "c")
    whole, broken = open_stream(mesh, "a", "c"), open_stream(mesh, "a", "c")
    whole.write(b"12345")
    broken.write(b"123")
    mesh.run(1)
    assert samples(near)["streams_open{service=web}"] == samples(far)["streams_open{service=web}"] == 2
    assert samples(near)["stream_bytes_total{direction=sent,service=web}"] == 8
    whole.loseConnection()
    broken.abortConnection()
    mesh.run(1)
    for page in (near, far):
        found = samples(page)
        assert "streams_open{service=web}" not in found
        assert found["streams_total{outcome=done,service=web}"] == 1
        assert found["streams_total{outcome=aborted,service=web}"] == 1
    assert samples(near)["stream_bytes_total{direction=sent,service=web}"] == 8
    assert samples(far)["stream_bytes_total{direction=received,service=web}"] == 8


def test_services_that_a_peer_invents_take_no_label_of_those_here(mesh: MemoryMesh) -> None:
    """They are counted together, also where a stream waits for a program that has yet to come."""
    mesh["c"].runtime.streams.hold(100.0, 1.0)
    failed: list[Failure] = []
    for number in range(MAX_LABELS):
        mesh["a"].runtime.streams.dial("c", f"made-up-{number}", lambda peer: None).addErrback(failed.append)
        mesh.run(0.1)
    mesh.run(5)
    assert len(failed) == MAX_LABELS
    open_stream(mesh, "a", "c").abortConnection()
    mesh.run(1)
    found = samples(page_of(mesh, "c"))
    assert found["streams_total{outcome=aborted,service=web}"] == 1
    assert found["streams_total{outcome=no-such-service,service=other}"] == MAX_LABELS


def obey(mesh: MemoryMesh, name: str) -> None:
    """A command of the authority for one node, flooded by another."""
    now = int(mesh.wall())
    body = Command(
        network_id=mesh.issuer.network_id,
        id="0" * 32,
        number=1,
        command="log-level",
        target=CommandTarget(node=name),
        arguments={"level": "info"},
        issued_at=now,
        expires_at=now + 60,
    )
    mesh[name].runtime.control.node.set_log_level = lambda level: None
    mesh["a"].runtime.control.flood.offer(sign_document(body, [mesh.issuer.authority]))
    mesh.run(5)


def test_commands_are_counted_by_outcome(mesh: MemoryMesh) -> None:
    """Done where it was meant for, for-others elsewhere."""
    obey(mesh, "c")
    assert samples(page_of(mesh, "c"))["commands_total{outcome=done}"] == 1
    assert samples(page_of(mesh, "b"))["commands_total{outcome=for-others}"] == 1


def test_reactor_lag(mesh: MemoryMesh) -> None:
    """How late the timer was, in buckets; in step again afterwards."""
    clock = LateClock()
    lag = ReactorLag(clock)
    metrics = page_of(mesh, "b", lag)
    lag.startService()
    clock.advance(1)
    clock.late = 0.05
    clock.advance(1)
    clock.late = 3.05
    clock.advance(1)
    found = samples(metrics)
    name = "reactor_lag_seconds"
    assert found[f"{name}_count"] == found[f"{name}_bucket{{le=+Inf}}"] == 3
    assert [found[f"{name}_bucket{{le={limit}}}"] for limit in ("0.001", "0.02", "0.1", "2.0", "10.0")] == [
        1,
        1,
        2,
        2,
        3,
    ]
    assert found[f"{name}_sum"] == pytest.approx(3.05)
    lag.stopService()
    assert clock.getDelayedCalls() == []


async def test_the_page_of_its_own(mesh: MemoryMesh) -> None:
    """--metrics serves /metrics, and nothing else at all."""
    web = StubTreq(page_of(mesh, "b").resource())
    answer = await web.get("http://node/metrics")
    assert answer.code == 200
    assert answer.headers.getRawHeaders("content-type")[0].startswith("text/plain; version=")
    assert b"gmesh_node_links 2.0" in await answer.content()
    for path in ("", "v1/status", "openapi.json"):
        assert (await web.get(f"http://node/{path}")).code == 404, path


def test_every_metric_is_in_the_reference(mesh: MemoryMesh) -> None:
    """docs/local-api.rst names each, with its labels; and names no other."""
    text = (ROOT / "docs/local-api.rst").read_text(encoding="utf-8")
    section = text[text.index("\nMetrics\n") : text.index("\nLogs\n")]
    families = {
        family.name.removeprefix(PREFIX) + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(page_of(mesh, "b").page().decode())
        if family.name.startswith(PREFIX)
    }
    terms = "\n".join(re.findall(r"^``.*``$", section, re.MULTILINE))
    assert set(re.findall(r"``(\w+)(?:\{[\w,]+\})?``", terms)) == families


def test_drops_are_told_from_other_events() -> None:
    """Every cause for which a frame or message is lost is a drop; what is merely noted is none."""
    counted = re.compile(r'"([a-z-]+)"')
    causes = {
        cause
        for room in ("mesh", "endtoend")
        for file in (ROOT / "gmesh" / room).glob("*.py")
        for cause in counted.findall(file.read_text(encoding="utf-8"))
    }
    assert causes >= DROPS, "no name is stale"
    for cause in ("data-waited-long", "forward-revoked", "inbound-denied", "no-session", "replayed"):
        assert is_drop(cause), cause
    for cause in ("handed", "records-sent", "spliced", "crl-applied", "established"):
        assert not is_drop(cause), cause
