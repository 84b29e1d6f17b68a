# SPDX-License-Identifier: MIT
"""
C{twistd gmesh-node}: options, and the whole daemon composed top to bottom.

Tests: C{tests/node/test_tap.py}, C{tests/live/test_node_daemon.py}.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from random import Random, SystemRandom
from time import thread_time, time
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred
from twisted.python import usage

import gmesh
from gmesh.daemon.interrupts import stop_once
from gmesh.daemon.logs import Lines, LoggedService, observer_for
from gmesh.daemon.monotonic import keep_monotonic_time
from gmesh.errors import ConfigurationError
from gmesh.files import told
from gmesh.node.configuration import Configuration, check_address, read_configuration
from gmesh.node.limits import HOLD_PATIENCE, HOLD_WINDOW, SHUTDOWN_DELAY
from gmesh.proxy_settings import check_shown

if TYPE_CHECKING:
    from gmesh.addresses import MeshAddress
    from gmesh.daemon.metrics import MetricsPage
    from gmesh.node.api.message_leg import LegNode
    from gmesh.node.api.stream_requests import StreamRequests
    from gmesh.node.api.views import LocalNode
    from gmesh.node.runtime import NodeRuntime

__all__ = ["NodeService", "Options", "makeService"]

UNIT = "gmesh-node"


class Options(usage.Options):
    """What C{twistd gmesh-node} understands."""

    synopsis = "[options]"
    longdesc = (
        "A node of a gmesh. Enrol the host first with `gmesh join - --state DIR`. Every option but "
        "--config may also stand in the configuration file, under the same name; options win."
    )
    optParameters = (
        ("state", "s", None, "State directory, as `gmesh join` made it."),
        ("control", None, None, "Endpoint of the local API. [default: unix:STATE/node.sock:mode=660]"),
        ("config", "c", None, "Configuration file (TOML)."),
        ("log-level", None, None, "Least level to log: debug, info, warn, error. [default: all]"),
        ("log-format", None, None, "Lines of the log: text or json. [default: twistd's text]"),
        ("read-group", None, None, "Group that may look at the node over the local API; the socket is its."),
        (
            "lead-to",
            None,
            None,
            "Addresses that others may lead to: public, private or any. [default: private]",
        ),
        ("behind", None, None, "unix:PATH of a web server for what comes to --listen ws:... and is no link."),
        ("proxy", None, None, "URL of a proxy to dial through, or none. [default: as the environment says]"),
        ("proxy-credentials", None, None, "File with USER:PASSWORD for the proxy."),
        ("tls-ca", None, None, "Certificates (PEM) to trust under TLS links. [default: those of the system]"),
        ("write-group", None, None, "Group that may also send and receive over the local API."),
    )
    optFlags = (
        ("stub", None, "Keep no table of the network: ask neighbours for paths, never relay."),
        ("relay-joins", None, "Let hosts join by way of this anchor, which passes their requests on."),
        ("tls-strict", None, "Make no link over TLS whose certificate is wrong. [default: warn]"),
        ("check", None, "Check options, configuration file and state directory, and exit."),
    )
    observer: Callable[[], Lines] | None = None
    """What makes the observer that twistd logs with, where its own does not suffice."""
    compData = usage.Completions(optActions={"state": usage.CompleteDirs(), "config": usage.CompleteFiles()})

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self["advertise"] = []
        self["peer"] = []
        self["metrics"] = []
        self["host"] = []
        self["tls-pin"] = []

    def opt_listen(self, endpoint: str) -> None:
        """Endpoint to accept links on, for example tcp:7443 (repeatable). [default: none, only dial]"""
        self["listen"].append(endpoint)

    def opt_advertise(self, address: str) -> None:
        """HOST:PORT, tls://HOST or wss://HOST/PATH by which others reach this node (repeatable)."""
        self["advertise"].append(_address(address))

    def opt_peer(self, address: str) -> None:
        """HOST:PORT, [fe80::1%eth0]:PORT, tls://HOST or wss://HOST/PATH to dial too (repeatable)."""
        self["peer"].append(_address(address, local=True))

    def opt_metrics(self, endpoint: str) -> None:
        """Endpoint to serve /metrics on, and nothing else (repeatable); tcp:PORT is one of loopback."""
        self["metrics"].append(endpoint)

    def opt_host(self, name: str) -> None:
        """Name for a --control or --metrics of TCP, beside this host's own (repeatable)."""
        self["host"].append(name)

    def opt_tls_pin(self, digest: str) -> None:
        """SHA-256 of a public key that is good under TLS links, whoever signed for it (repeatable)."""
        self["tls-pin"].append(digest)

    def opt_version(self) -> None:
        """Print the version of gmesh and exit."""
        print(f"gmesh {gmesh.__version__}")  # noqa: T201  # what --version is for
        raise SystemExit(0)

    def postOptions(self) -> None:
        """@raise SystemExit: with one line, when something is missing or wrong, and after C{--check}."""
        try:
            self.configuration: Configuration = self.reread()
            line = _check(self.configuration) if self["check"] else ""
        except (ConfigurationError, OSError) as error:
            raise SystemExit(f"{UNIT}: {told(error)}") from error
        self.observer = observer_for(self.parent, self.configuration.log_format)
        if self["check"]:
            print(f"{UNIT}: {line}")  # noqa: T201  # what --check is for
            raise SystemExit(0)

    def reread(self) -> Configuration:
        """
        The settings as options and file say now.

        @raise ConfigurationError: naming what is wrong.
        """
        file = self["config"]
        check_shown(self["proxy"] or "")
        # In the file C{proxy} is the table of the proxy for programs of this host.
        own = ("config", "check", "proxy")
        options = {name: value for name, value in self.items() if name not in own}
        options["proxy_url"] = self["proxy"]
        return read_configuration(Path(file) if file else None, options)


def _address(text: str, local: bool = False) -> str:
    try:
        return check_address(text, local)
    except ConfigurationError as error:
        raise SystemExit(f"{UNIT}: {error}") from error


def _check(configuration: Configuration) -> str:
    """@raise ConfigurationError: with the first thing that would keep the daemon from starting."""
    from gmesh.daemon.listen import parse_server
    from gmesh.node.identity_store import IdentityStore
    from gmesh.node.listening import mesh_server

    for endpoint in configuration.listen:
        mesh_server(None, endpoint)
    for endpoint in (configuration.control_endpoint(), *configuration.metrics_endpoints()):
        parse_server(None, endpoint)
    identity = IdentityStore(configuration.state).load()
    return f"{configuration.state} and its configuration are good: {identity.certificate.body.name} may start"


class NodeService(Service):
    """Starts and stops a L{NodeRuntime} with the daemon."""

    def __init__(self, runtime: NodeRuntime) -> None:
        self._runtime = runtime

    def startService(self) -> None:
        """Begin to dial and to route."""
        super().startService()
        self._runtime.start()
        for kind in (self._runtime.streams, self._runtime.datagrams):
            kind.hold(HOLD_WINDOW, HOLD_PATIENCE)

    def stopService(self) -> Deferred[None]:
        """Ask the neighbours to route around us, drain, close."""
        super().stopService()
        return self._runtime.stop()


def makeService(options: Options, reactor: Any = None) -> MultiService:
    """
    The daemon.

    @raise SystemExit: with one line, when the state directory or an endpoint cannot be used.
    """
    if reactor is None:
        from twisted.internet import reactor  # the tap alone may name the global reactor

        keep_monotonic_time(reactor)
    try:
        return _compose(options, reactor)
    except (ConfigurationError, OSError) as error:
        raise SystemExit(f"{UNIT}: {told(error)}") from error


def _compose(options: Options, reactor: Any) -> MultiService:
    from twisted.internet.threads import deferToThreadPool
    from twisted.web.resource import IResource

    from gmesh.daemon.browsers import ForPrograms
    from gmesh.daemon.listen import Listeners, ListenService, renew_certificates
    from gmesh.daemon.lock import LockService
    from gmesh.daemon.logs import LogLevelService, parse_level
    from gmesh.daemon.notify import HangupService, NotifyService, system_notifier
    from gmesh.daemon.synchronised import clock_synchronised
    from gmesh.node.api.acceptors import Acceptors
    from gmesh.node.api.access import AccessControl, AnswerAccess, ServiceGroups
    from gmesh.node.api.entrance import EntranceFactory
    from gmesh.node.api.http import LateResource, LocalSite, local_site
    from gmesh.node.api.local_connections import LocalConnections
    from gmesh.node.api.start_settings import Settings
    from gmesh.node.authority_client import AuthorityClient
    from gmesh.node.authority_http import AuthorityHTTP, http_client
    from gmesh.node.authority_relay import AuthorityRelay, FallbackPath, RelayedAuthority
    from gmesh.node.composition import Environment
    from gmesh.node.gateways.bench import BenchService
    from gmesh.node.gateways.gateways import Gateways
    from gmesh.node.heartbeat import Heartbeat
    from gmesh.node.identity_store import IdentityStore
    from gmesh.node.join_relay import JoinRelay
    from gmesh.node.listening import mesh_server
    from gmesh.node.reach import carriers, proxies_of
    from gmesh.node.reactor_lag import ReactorLag
    from gmesh.node.reload import Follow, Reload, regroup
    from gmesh.node.runtime import NodeRuntime
    from gmesh.streams.listeners import BENCH_SERVICE
    from gmesh.streams.peer_address import address_of

    configuration = options.configuration
    proxies = proxies_of(configuration, os.environ)
    random = Random(SystemRandom().getrandbits(64))
    store = IdentityStore(configuration.state)
    identity = store.load()
    runtime = NodeRuntime(
        identity,
        store,
        Environment(
            clock=reactor,
            wall=time,
            random=random,
            entropy=os.urandom,
            connect=carriers(reactor, configuration, proxies).endpoint,
            cpu=thread_time,
            aside=lambda work: deferToThreadPool(reactor, reactor.getThreadPool(), work),
            synchronised=clock_synchronised,
        ),
        advertise=configuration.advertise,
        peers=configuration.peer,
        stub=configuration.stub,
    )
    runtime.lead_to(configuration.may_lead_to())
    member = runtime.member
    http = AuthorityHTTP(http_client(reactor, proxies), member.authority_urls, reactor)
    datagrams, renewals = runtime.datagrams, runtime.renewals
    relayed = RelayedAuthority(datagrams, renewals, runtime.near_anchors, reactor, os.urandom)
    relay = AuthorityRelay(datagrams, http, relayed, renewals, runtime.is_anchor, reactor)
    runtime.parts.append(relay)
    joins = JoinRelay(http, runtime.joins, member, reactor)
    joins.allow(configuration.relay_joins)
    runtime.parts.append(joins)
    path = FallbackPath(http, relayed)
    client = AuthorityClient(path, identity.node_key, member.trust, member.wall, os.urandom)
    heartbeat = Heartbeat(member, client, reactor, member.wall, random, runtime.control, runtime.report)
    notifier = system_notifier()
    notify = NotifyService(notifier, reactor)

    daemon = LoggedService(reactor, options.observer)
    LockService(configuration.state, UNIT).setServiceParent(daemon)
    HangupService(reactor, notifier, lambda: reload()).setServiceParent(daemon)
    NodeService(runtime).setServiceParent(daemon)
    heartbeat.setServiceParent(daemon)
    served = partial(mesh_server, behind=configuration.behind)
    listening = Listeners(reactor, runtime.accepting, "listening", UNIT, configuration.listen, served)
    listening.setServiceParent(daemon)
    settings = Settings(str(configuration.state.resolve()), configuration.listen)
    access = AccessControl(configuration.read_group, configuration.write_group)
    lag = ReactorLag(reactor)
    lag.setServiceParent(daemon)
    ids = (member.trust.network_id, member.peer.node_id)
    gateways = Gateways(
        reactor,
        runtime.streams,
        UNIT,
        ids,
        configuration,
        access,
        lambda: [local.address] if local.address else [],
        runtime.count,
    )
    gateways.setServiceParent(daemon)
    BenchService(reactor, lambda take: runtime.streams.listen(BENCH_SERVICE, take, True)).setServiceParent(
        daemon
    )

    # Made with the first request: an idle node can spare the memory of Klein and what is beside it.

    def metrics_page() -> MetricsPage:
        from gmesh.daemon.metrics import MetricsPage
        from gmesh.node.metrics import NodeCollector

        return MetricsPage(NodeCollector(runtime, heartbeat, lag))

    @cache
    def local_node() -> LocalNode:
        from gmesh.node.api.views import LocalNode

        return LocalNode(runtime, heartbeat, reactor, settings)

    @cache
    def messages_node() -> LegNode:
        from gmesh.node.api.mesh_tables import leg_node

        return leg_node(runtime, local_node().on_change, reactor)

    def local_api() -> IResource:
        from gmesh.daemon.collector import keep_for_good
        from gmesh.node.api.gateway_requests import GatewayRequests
        from gmesh.node.api.routes import LocalApi

        api = LocalApi(
            local_node(),
            metrics_page().page,
            partial(runtime.count, "caller-gone"),
            GatewayRequests(gateways, acceptors.admit, access),
            AnswerAccess(access, acceptors.admit),
        )
        resource = api.resource()
        keep_for_good()  # all that programs ask for is loaded now
        return resource

    def metrics_site() -> LocalSite:
        return LocalSite(ForPrograms(LateResource(lambda: metrics_page().resource()), configuration.host))

    scraped = Listeners(reactor, metrics_site, "metrics", UNIT, configuration.metrics_endpoints())
    scraped.setServiceParent(daemon)
    site = local_site(LateResource(local_api), access, configuration.host)

    def address(service: str) -> MeshAddress:
        return address_of(member.peer, service)

    acceptors = Acceptors(runtime.streams, access, ServiceGroups(configuration.bind), reactor)

    @cache
    def stream_requests() -> StreamRequests:
        from gmesh.node.api.stream_requests import StreamRequests

        made = StreamRequests(runtime.streams, acceptors, access, address, reactor, configuration.host)
        made.node = messages_node
        return made

    connections = LocalConnections(reactor, runtime.count)
    entrance = EntranceFactory(site, lambda *asked: stream_requests().judge(*asked), reactor, connections)
    local = ListenService(
        reactor, configuration.control_endpoint(), entrance, "local API", UNIT, access.group
    )
    local.setServiceParent(daemon)
    levels = LogLevelService(parse_level(configuration.log_level) if configuration.log_level else None)
    levels.setServiceParent(daemon)

    async def listen(new: Configuration) -> None:
        await listening.follow(new.listen)
        settings.listen = new.listen

    def regrouped(new: Configuration) -> None:
        regroup(access, local, new)
        gateways.proxy.give(access.group)
        acceptors.judge()

    follow: dict[tuple[str, ...], Follow] = {
        ("log_format",): lambda new: daemon.use_format(new.log_format),
        ("log_level",): lambda new: levels.set(parse_level(new.log_level or "debug")),
        ("peer",): lambda new: runtime.set_peers(new.peer),
        ("advertise",): lambda new: runtime.set_advertised(new.advertise),
        ("lead_to",): lambda new: runtime.lead_to(new.may_lead_to()),
        ("listen",): listen,
        ("relay_joins",): lambda new: joins.allow(new.relay_joins),
        ("metrics",): lambda new: scraped.follow(new.metrics_endpoints()),
        ("bind",): lambda new: acceptors.regroup(ServiceGroups(new.bind)),
        ("read_group", "write_group"): regrouped,
        **gateways.follows(),
    }
    reload = Reload(
        store, runtime, heartbeat, configuration, options.reread, follow, lambda: renew_certificates(daemon)
    )
    runtime.attach(heartbeat, lambda: reactor.callLater(SHUTDOWN_DELAY, reactor.stop), reload, levels.set)
    notify.setServiceParent(daemon)
    reactor.callWhenRunning(notify.ready)
    stop_once(reactor)
    return daemon
