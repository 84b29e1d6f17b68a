# SPDX-License-Identifier: MIT
"""
A page of metrics in the text format of Prometheus, and what makes its families.

Tests: C{tests/node/test_metrics.py}, C{tests/authority/test_request_log.py}.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from twisted.web.pages import notFound
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request

__all__ = ["METRICS_TYPE", "Families", "MetricsPage"]

METRICS_TYPE = CONTENT_TYPE_LATEST.encode("ascii")


class Families:
    """
    Makes the families of one daemon.

    @param prefix: how all their names begin.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def gauge(self, name: str, text: str, value: float, **labels: str) -> Metric:
        """What may rise and fall."""
        family = GaugeMetricFamily(self._prefix + name, text, labels=list(labels))
        family.add_metric(list(labels.values()), value)
        return family

    def gauges(self, name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
        """Several, distinguished by a label."""
        family = GaugeMetricFamily(self._prefix + name, text, labels=[label])
        for key, value in values.items():
            family.add_metric([key], value)
        return family

    def counter(self, name: str, text: str, value: float) -> Metric:
        """What only rises."""
        return CounterMetricFamily(self._prefix + name, text, value=value)

    def counters(self, name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
        """Several, distinguished by a label."""
        family = CounterMetricFamily(self._prefix + name, text, labels=[label])
        for key, value in values.items():
            family.add_metric([key], value)
        return family

    def counted(
        self, name: str, text: str, labels: tuple[str, str], values: Mapping[tuple[str, str], int]
    ) -> Metric:
        """As L{counters}, distinguished by two labels."""
        family = CounterMetricFamily(self._prefix + name, text, labels=labels)
        for key, value in values.items():
            family.add_metric(key, value)
        return family


class MetricsPage:
    """
    The numbers of a daemon and of its process, read when they are asked for.

    @param registry: holds those that are counted as they happen; none outside this page's own by default.
    """

    def __init__(self, collector: Collector, registry: CollectorRegistry | None = None) -> None:
        self._registry = CollectorRegistry() if registry is None else registry
        self._registry.register(collector)
        ProcessCollector(registry=self._registry)

    def page(self) -> bytes:
        """The text."""
        return bytes(generate_latest(self._registry))

    def resource(self) -> Resource:
        """The tree for C{--metrics}: C{/metrics} and nothing else."""
        root = _Root()
        root.putChild(b"metrics", _Page(self))
        return root


class _Root(Resource):
    def getChild(self, path: bytes, request: Request) -> IResource:
        return notFound()


class _Page(Resource):
    isLeaf = True

    def __init__(self, metrics: MetricsPage) -> None:
        super().__init__()
        self._metrics = metrics

    def render_GET(self, request: Request) -> bytes:
        """The page."""
        request.setHeader(b"content-type", METRICS_TYPE)
        return self._metrics.page()
