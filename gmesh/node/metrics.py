# SPDX-License-Identifier: MIT
"""
C{/metrics} of a node: numbers that are at hand anyway, read when they are asked for.

Every name begins with C{gmesh_node_}; causes are words of the code, so there are few of each.
Tests: C{tests/node/test_metrics.py}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

import gmesh
from gmesh.daemon.metrics import Families
from gmesh.node.heartbeat import Heartbeat
from gmesh.node.reactor_lag import ReactorLag
from gmesh.node.runtime import NodeRuntime

__all__ = ["DROPS", "PREFIX", "NodeCollector", "is_drop"]

PREFIX = "gmesh_node_"
"""Of every name."""
_FAMILIES = Families(PREFIX)
_gauge, _gauges, _counters = _FAMILIES.gauge, _FAMILIES.gauges, _FAMILIES.counters
_COMMAND = "command-"
_DROP_PREFIXES = ("data-", "forward-", "inbound-", "inner-")
DROPS = frozenset(
    {
        "bundle-lost",
        "control-queue-full",
        "no-receiver",
        "no-session",
        "notice-malformed",
        "notice-unreachable",
        "own-link-gone",
        "pending-dropped",
        "purged",
        "queue-full",
        "replayed",
        "reply-lost",
        "stopped",
        "unknown-inner",
        "unknown-kind",
        "unreachable",
    }
)


def is_drop(cause: str) -> bool:
    """Whether a cause is one for which a frame or a message went no further."""
    return cause in DROPS or cause.startswith(_DROP_PREFIXES)


class NodeCollector(Collector):
    """
    The state of a node as metrics.

    @param lag: what measures how late the reactor is.
    """

    def __init__(self, runtime: NodeRuntime, heartbeat: Heartbeat, lag: ReactorLag) -> None:
        self._runtime = runtime
        self._heartbeat = heartbeat
        self._lag = lag

    def collect(self) -> Iterable[Metric]:
        """Every number of now."""
        yield _gauge("info", "The version that runs.", 1, version=gmesh.__version__)
        yield from self._beliefs()
        yield from self._faults()
        yield from self._links()
        yield from self._paths()
        yield from self._streams()
        counters = self._runtime.counters()
        drops = {cause: number for cause, number in counters.items() if is_drop(cause)}
        commands = {
            cause.removeprefix(_COMMAND): number
            for cause, number in counters.items()
            if cause.startswith(_COMMAND)
        }
        refused = self._runtime.refusals.refused
        yield _counters("handshake_failures", "Peers refused, at the handshake or later.", "cause", refused)
        yield _counters("drops", "Frames and messages that went no further.", "cause", drops)
        yield _counters("commands", "Operators' commands, by what became of them.", "outcome", commands)
        yield _counters("events", "Whatever is counted, the above included.", "cause", counters)
        yield self._lags()

    def _beliefs(self) -> Iterable[Metric]:
        member = self._runtime.member
        now, trust = member.wall(), member.trust
        left = member.certificate.body.not_after - now
        yield _gauge("certificate_seconds_left", "Until the certificate ends.", left)
        if trust.status is not None:
            age = now - trust.status.body.issued_at
            yield _gauge("status_age_seconds", "Since the newest status was signed.", age)
        yield _gauge("authority_reachable", "1 if the last attempt reached it.", self._heartbeat.reachable)
        for kind, number in member.numbers().items():
            unit = "number" if kind in ("crl", "status") else "version"
            yield _gauge(f"{kind}_{unit}", f"The newest {kind} that is applied.", number)

    def _faults(self) -> Iterable[Metric]:
        """What is wrong with the authority's documents, and which nodes run twice."""
        alarms = {slug: alarm.count for slug, alarm in self._runtime.member.alarms.kept.items()}
        yield _gauges("authority_alarms", "Contradictions in signed documents.", "alarm", alarms)
        fell_back = "fell-back" in self._runtime.faults()
        yield _gauge("authority_fell_back", "1 if it answers less than it signed.", fell_back)
        twins = self._runtime.neighbours.twins
        yield _gauge(
            "twins", "Nodes that run twice with one key, this one included.", len(twins.names()) + twins.here
        )

    def _links(self) -> Iterable[Metric]:
        links = self._runtime.links()
        yield _gauge("links", "Neighbours.", len(links))
        queues = {
            "control": sum(each.control_backlog for each in links),
            "data": sum(each.backlog for each in links),
        }
        yield _gauges("queue_bytes", "Waiting for the links.", "kind", queues)
        cost = self._runtime.budgets.spent_by_all
        yield _gauge("control_cpu_seconds", "CPU time that control frames of neighbours have cost.", cost)

    def _paths(self) -> Iterable[Metric]:
        runtime = self._runtime
        lengths = Counter(len(path) - 1 for _, path, _ in runtime.engine.table(runtime.now()))
        by_hops = {str(hops): number for hops, number in sorted(lengths.items())}
        yield _gauges("paths", "Nodes that can be reached, by the hops of the best path.", "hops", by_hops)
        longest = max(lengths, default=0)
        yield _gauge("path_hops_longest", "Hops of the longest of the best paths.", longest)

    def _streams(self) -> Iterable[Metric]:
        """By service: open, ended and how, and bytes each way, those of open streams too."""
        streams = self._runtime.streams
        opened = streams.open_streams()
        count = Counter(streams.tally.label(stream.service) for stream in opened)
        yield _gauges("streams_open", "Streams that are open or being opened.", "service", count)
        outcomes = streams.tally.outcomes
        labels = ("service", "outcome")
        yield _FAMILIES.counted("streams", "Streams that have ended, done or why not.", labels, outcomes)
        size = streams.tally.bytes(opened)
        labels = ("service", "direction")
        yield _FAMILIES.counted("stream_bytes", "Bytes of streams that arrived.", labels, size)
        resent = streams.counters["segments-resent"]
        yield _FAMILIES.counter("segments_resent", "Segments of streams that were lost on the way.", resent)

    def _lags(self) -> Metric:
        buckets = [(str(limit), float(number)) for limit, number in self._lag.cumulative()]
        return HistogramMetricFamily(
            PREFIX + "reactor_lag_seconds",
            "How late the reactor runs what is due.",
            buckets=[*buckets, ("+Inf", float(self._lag.count))],
            sum_value=self._lag.total,
        )
