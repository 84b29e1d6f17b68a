# SPDX-License-Identifier: MIT
"""
The local API and the page of metrics put together.

Imported with the first request, since an idle node can spare the memory of Klein and what is beside it.
Tests: C{tests/node/test_local_api.py}.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource

from gmesh.daemon.metrics import MetricsPage
from gmesh.node.heartbeat import Heartbeat
from gmesh.node.local_api import LocalApi
from gmesh.node.local_node import LocalNode
from gmesh.node.local_views import LocalViews, Settings
from gmesh.node.metrics import NodeCollector
from gmesh.node.reactor_lag import ReactorLag
from gmesh.node.runtime import NodeRuntime

__all__ = ["local_resource", "metrics_page"]


def local_resource(
    runtime: NodeRuntime, heartbeat: Heartbeat, clock: IReactorTime, settings: Settings, lag: ReactorLag
) -> IResource:
    """
    All routes of the local API.

    @param settings: what the daemon was told.
    """
    views = LocalViews(runtime, heartbeat, clock, settings)
    metrics = MetricsPage(NodeCollector(runtime, heartbeat, lag))
    return LocalApi(LocalNode(runtime, heartbeat, views), metrics.page).app.resource()


def metrics_page(runtime: NodeRuntime, heartbeat: Heartbeat, lag: ReactorLag) -> IResource:
    """What C{--metrics} serves."""
    return MetricsPage(NodeCollector(runtime, heartbeat, lag)).resource()
