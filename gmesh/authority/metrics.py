# SPDX-License-Identifier: MIT
"""
C{/metrics}: numbers that are at hand anyway, read when they are asked for; none takes a look into the
database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from twisted.web.pages import notFound
from twisted.web.resource import IResource, Resource

from gmesh import __version__
from gmesh.authority.http import AuthoritySite
from gmesh.authority.rate_limit import RateLimiter
from gmesh.authority.service import Authority

__all__ = ["AuthorityCollector", "metrics_resource"]

PREFIX = "gmesh_authority_"


class AuthorityCollector:
    """
    The state of an authority as metrics.

    @param sites: the sites it is served on.
    @param wall: Unix time.
    """

    def __init__(
        self,
        authority: Authority,
        limiter: RateLimiter,
        sites: Sequence[AuthoritySite],
        wall: Callable[[], float],
    ) -> None:
        self._authority = authority
        self._limiter = limiter
        self._sites = sites
        self._wall = wall

    def collect(self) -> Iterable[Metric]:
        """Every number of now."""
        authority, limiter, sites = self._authority, self._limiter, self._sites
        status = authority.publisher.status_document.body
        crl = authority.publisher.crl_document.body
        yield _gauge("info", "The version that runs.", 1, version=__version__)
        yield _gauge("genesis_version", "Version of the genesis in force.", status.genesis.version)
        yield _gauge("policy_version", "Version of the policy in force.", status.policy.version)
        yield _gauge("crl_number", "Number of the CRL in force.", crl.number)
        yield _gauge("crl_entries", "Certificates on the CRL.", len(crl.revoked))
        yield _gauge("command_number", "Number of the newest command.", status.commands.number)
        yield _gauge("status_age_seconds", "Since the status was signed.", self._wall() - status.issued_at)
        yield _gauge("audit_rows", "Rows of the audit chain when the status was signed.", status.audit.size)
        yield _gauge("writable", "1 if the last group of decisions was written.", authority.store.writable)
        yield _gauge("decisions_waiting", "Decisions waiting for the disk.", authority.store.waiting)
        yield _gauge("clock_suspect", "1 while the clock stands too low to issue.", authority.clock.suspect)
        yield _gauge("long_polls", "Long polls that are open.", authority.publisher.waiting)
        yield _gauge("connections", "Open connections.", sum(site.connected for site in sites))
        yield _counter("decisions", "Decisions that were written.", authority.store.decided)
        yield _counter("groups", "Commits.", authority.store.groups)
        yield _counter("slow_connections", "Cut: too slow.", sum(site.too_slow for site in sites))
        yield _counter("excess_connections", "Cut: too many.", sum(site.too_many for site in sites))
        yield _counter("rate_limited", "Requests refused by a bucket.", limiter.refused)
        yield _counter("buckets_evicted", "Buckets forgotten for want of room.", limiter.evicted)
        yield _counters("bad_requests", "Refused before any route.", "reason", _sum(sites))
        yield _counters("receipts_dropped", "Not believed.", "reason", authority.control.dropped)


def metrics_resource(registry: CollectorRegistry, collector: AuthorityCollector) -> Resource:
    """The tree for C{--metrics}: C{/metrics} and nothing else."""
    registry.register(collector)
    ProcessCollector(registry=registry)
    root = _Root()
    root.putChild(b"metrics", _Page(registry))
    return root


class _Root(Resource):
    def getChild(self, path: bytes, request: Any) -> IResource:
        return notFound()


class _Page(Resource):
    isLeaf = True

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._registry = registry

    def render_GET(self, request: Any) -> bytes:
        """The text format of Prometheus."""
        request.setHeader("Content-Type", CONTENT_TYPE_LATEST)
        return generate_latest(self._registry)


def _gauge(name: str, text: str, value: float, **labels: str) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(PREFIX + name, text, value=value)


def _counters(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _sum(sites: Sequence[AuthoritySite]) -> dict[str, int]:
    found: dict[str, int] = {}
    for site in sites:
        for reason, count in site.refusals.items():
            found[reason] = found.get(reason, 0) + count
    return found
