# SPDX-License-Identifier: MIT
"""``twistd gmesh-authority``: options, and the service that listens."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet import defer
from twisted.logger import Logger
from twisted.python import usage

from gmesh import __version__
from gmesh.authority import limits
from gmesh.authority.auth import Authenticator
from gmesh.authority.http import AuthoritySite
from gmesh.authority.metrics import AuthorityCollector
from gmesh.authority.proxies import TrustedProxies, is_local_endpoint, parse_proxy
from gmesh.authority.rate_limit import RateLimiter, RateLimits, RequestRate
from gmesh.authority.request_log import RequestLog
from gmesh.authority.server import Server, open_authority
from gmesh.authority.service import Authority
from gmesh.authority.signer import from_credentials
from gmesh.authority.state import StateDirectory
from gmesh.authority.store import engine
from gmesh.daemon.browsers import ForPrograms
from gmesh.daemon.listen import ListenService, parse_server, renew_certificates
from gmesh.daemon.logs import LOG_FORMATS, Lines, LoggedService, observer_for
from gmesh.daemon.metrics import MetricsPage
from gmesh.daemon.monotonic import keep_monotonic_time
from gmesh.daemon.notify import HangupService, NotifyService, stop_once, system_notifier
from gmesh.daemon.settings_file import read_settings
from gmesh.daemon.synchronised import clock_synchronised
from gmesh.errors import ConfigurationError, GmeshError
from gmesh.files import told
from gmesh.keyfiles import Passphrases

__all__ = ["Options", "makeService"]

UNIT = "gmesh-authority"
DEFAULT_LISTEN = "tcp:8440:interface=127.0.0.1"
NO_PROXY = (
    "listening on this host only, and no proxy is trusted: if one stands in front, name it with"
    " --trusted-proxy (127.0.0.1, ::1 or unix), or all its clients count as one address"
)


CREDENTIALS_STAY = " (systemd copies credentials at the start: a new one takes a restart)"
RATES = {"rate": "address", "key-rate": "key", "failure-rate": "failures"}
"""Fields of L{RateLimits} by option."""
SETTINGS: dict[str, type] = {
    "state": str,
    "passphrase_file": str,
    "listen": list,
    "metrics": list,
    "host": list,
    "trusted_proxy": list,
    "rate": str,
    "key_rate": str,
    "failure_rate": str,
    "connections": int,
    "log_format": str,
}
"""What the configuration file may say."""


class Options(usage.Options):
    """The command line."""

    synopsis = "[options]"
    longdesc = (
        "Runs the Network Authority whose state was made by gmesh init. Endpoints are Twisted's:"
        " tcp:8440, ssl:8441:privateKey=K:certKey=C, unix:PATH. Every option that takes a value, but"
        " --config, may also stand in the configuration file, under the same name; options win."
    )
    optParameters: Sequence[Any] = [
        ["state", "s", None, "Directory with authority.key, genesis.json and the database."],
        [
            "passphrase-file",
            None,
            None,
            "File (/dev/fd/N: open descriptor) with the pass phrase of sealed keys"
            " [default: the systemd credential passphrase, else asked at the terminal].",
        ],
        [
            "rate",
            None,
            None,
            f"Requests a minute (and at once) from one address. [default: {RateLimits().address}]",
            RequestRate.parse,
        ],
        [
            "key-rate",
            None,
            None,
            f"Signed requests a minute (and at once) by one key. [default: {RateLimits().key}]",
            RequestRate.parse,
        ],
        [
            "failure-rate",
            None,
            None,
            f"Failures a minute (and at once) by one address, or key. [default: {RateLimits().failures}]",
            RequestRate.parse,
        ],
        ["log-format", None, None, "Lines of the log: text or json. [default: twistd's text]"],
        ["config", "c", None, "Configuration file (TOML)."],
    ]
    optFlags: Sequence[Any] = [
        ["clock-is-right", None, "Start although the clock is more than a day above the newest time seen."],
        ["check", None, "Check options, configuration file and state directory, and exit."],
        ["weaken-approvals", None, "Take an approvals.json that asks for less than it did."],
    ]
    observer: Callable[[], Lines] | None = None
    """What makes the observer that twistd logs with, where its own does not suffice."""

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self["metrics"] = []
        self["host"] = []
        self["trusted-proxies"] = []
        self["connections"] = None

    def opt_listen(self, endpoint: str) -> None:
        """Endpoint to serve on; may be given several times. [default: tcp:8440:interface=127.0.0.1]"""
        self["listen"].append(endpoint)

    opt_l = opt_listen

    def opt_metrics(self, endpoint: str) -> None:
        """Endpoint to serve /metrics on, and nothing else; may be given several times."""
        self["metrics"].append(endpoint)

    def opt_host(self, name: str) -> None:
        """Name for --metrics over TCP, beside this host's own; may be given several times."""
        self["host"].append(name)

    def opt_trusted_proxy(self, address: str) -> None:
        """Address, network or unix (socket) whose X-Forwarded-For is believed; may be given several times."""
        try:
            self["trusted-proxies"].append(parse_proxy(address))
        except ValueError as error:
            raise usage.UsageError(f"--trusted-proxy {address}: {error}") from None

    def opt_connections(self, count: str) -> None:
        """Connections one address may hold, 0 for any number. [default: 64]"""
        if not count.isdigit():
            raise usage.UsageError("--connections must be a whole number")
        self["connections"] = int(count)

    def opt_version(self) -> None:
        """Print the version of gmesh and exit."""
        print(f"gmesh {__version__}")  # noqa: T201  # what --version is for
        raise SystemExit(0)

    def postOptions(self) -> None:
        """@raise SystemExit: with one line, when the file or the directory is wrong, and after C{--check}."""
        try:
            self.settings = self.reread()
            for name, value in self.settings.items():
                self._set(name, value)
        except GmeshError as error:
            raise SystemExit(f"{UNIT}: {told(error)}") from error
        if not self["state"]:
            raise usage.UsageError("--state DIR is needed: the directory that gmesh init made")
        if self["log-format"] not in (None, *LOG_FORMATS):
            raise usage.UsageError(
                f"{self['log-format']!r} is not a log format: there are {', '.join(LOG_FORMATS)}"
            )
        self.observer = observer_for(self.parent, self["log-format"] or "")
        if not self["listen"]:
            self["listen"].append(DEFAULT_LISTEN)
        for name, field in RATES.items():
            self[name] = self[name] or getattr(RateLimits(), field)
        if self["connections"] is None:
            self["connections"] = limits.CONNECTIONS_PER_ADDRESS
        if self["check"]:
            self._check()

    def reread(self) -> dict[str, Any]:
        """
        What the configuration file says now, if there is one.

        @raise ConfigurationError: naming what is wrong.
        """
        return read_settings(Path(self["config"]), SETTINGS) if self["config"] else {}

    def _set(self, name: str, value: Any) -> None:
        """Take a setting of the file, unless an option says it. @raise ConfigurationError: if it is wrong."""
        option = name.replace("_", "-")
        try:
            if option == "trusted-proxy":
                for address in () if self["trusted-proxies"] else value:
                    self.opt_trusted_proxy(address)
            elif option == "connections":
                if self[option] is None:
                    self.opt_connections(str(value))
            elif not self[option]:
                self[option] = RequestRate.parse(value) if option in RATES else value
        except (usage.UsageError, ValueError) as error:
            raise ConfigurationError("bad-configuration", f"{self['config']}: {name}: {error}") from error

    def _check(self) -> None:
        """@raise SystemExit: with the first thing that would keep the daemon from starting, or with 0."""
        state = Path(self["state"])
        try:
            for endpoint in (*self["listen"], *self["metrics"]):
                parse_server(None, endpoint)
            phrase = self["passphrase-file"]
            directory = StateDirectory(state, int(time.time()), Passphrases(Path(phrase) if phrase else None))
        except (GmeshError, OSError) as error:
            raise SystemExit(f"{UNIT}: {told(error)}") from error
        network = directory.chain[-1].body.network
        print(f"{UNIT}: {state} and its configuration are good: the authority of {network} may start")  # noqa: T201  # what --check is for
        raise SystemExit(0)


class AuthorityService(LoggedService):
    """Runs the authority beside its listeners; stops them first."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        authority: Authority,
        options: Options,
        passphrases: Passphrases,
    ) -> None:
        super().__init__(reactor, options.observer)
        self._authority = authority
        self._options = options
        self._state = Path(options["state"])
        self._passphrases = passphrases

    def startService(self) -> None:
        """Begin."""
        super().startService()
        self._authority.start()
        self.log.info(
            "authority of network {network} ready, genesis {genesis}, policy {policy}",
            network=self._authority.issuer.network_id,
            genesis=self._authority.issuer.genesis.body.version,
            policy=self._authority.issuer.policy.body.version,
        )
        self._warn_of_missing_keys()

    def reload(self) -> defer.Deferred[None]:
        """SIGHUP: read keys, genesis and approvals again, so that a new one needs no restart."""
        return defer.Deferred.fromCoroutine(self._reload())

    async def _reload(self) -> None:
        self._look_at_settings()
        for trouble in renew_certificates(self):
            self.log.error("reload: {cause}", cause=trouble)
        try:
            directory = StateDirectory(self._state, self._authority.clock.now(), self._passphrases)
            await self._authority.reload(directory)
        except GmeshError as error:
            self.log.error("not reloaded, all stays as it was: {cause}", cause=error.detail)
            return
        note = CREDENTIALS_STAY if from_credentials() else ""
        self.log.info(
            "reloaded: {count} signing keys{note}, genesis {genesis}",
            count=len(list(directory.keys)),
            note=note,
            genesis=self._authority.issuer.genesis.body.version,
        )
        self._warn_of_missing_keys()

    def _look_at_settings(self) -> None:
        try:
            held, new = self._options.settings, self._options.reread()
        except ConfigurationError as error:
            self.log.error("reload: {cause}", cause=error.detail)
            return
        for name in sorted(name for name in held | new if held.get(name) != new.get(name)):
            self.log.warn("reload: {name} stays what it was: restart the authority to change it", name=name)

    def _warn_of_missing_keys(self) -> None:
        issuer = self._authority.issuer
        for key in issuer.keys.lacking(issuer.genesis.body, self._authority.clock.now()):
            self.log.warn("the genesis lists the authority key {key}, which is not held here", key=key)

    async def _stop(self) -> None:
        await defer.maybeDeferred(super().stopService)
        await self._authority.stop()

    def stopService(self) -> Any:
        """End, after what was begun is written."""
        return defer.Deferred.fromCoroutine(self._stop())


def _calm_collector() -> None:
    """
    Collect what the start left, then no longer look at what lives on.

    A full collection walks everything and holds every request meanwhile; under load they came often.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*limits.COLLECTOR_THRESHOLDS)


def makeService(options: Options, reactor: Any = None) -> AuthorityService:
    """
    The daemon.

    Everything that can be wrong with the state directory ends the program here, with one line.
    """
    if reactor is None:
        from twisted.internet import reactor

        keep_monotonic_time(reactor)
    phrase = options["passphrase-file"]
    passphrases = Passphrases(Path(phrase) if phrase else None)
    try:
        authority = open_authority(
            Path(options["state"]),
            reactor,
            time.time,
            lambda path: (engine.writer_pool(path, reactor), engine.reader_pool(path, reactor)),
            passphrases,
            weaken_approvals=bool(options["weaken-approvals"]),
            clock_is_right=bool(options["clock-is-right"]) or clock_synchronised(),
        )
    except (GmeshError, OSError) as error:
        raise SystemExit(f"{UNIT}: {told(error)}") from None
    service = AuthorityService(reactor, authority, options, passphrases)
    notifier = system_notifier()
    HangupService(reactor, notifier, service.reload).setServiceParent(service)
    rates = RateLimits(options["rate"], options["key-rate"], options["failure-rate"])
    limiter = RateLimiter(rates, reactor.seconds)
    authenticator = Authenticator(authority.store, authority.issuer, authority.clock, limiter)
    proxies = TrustedProxies(options["trusted-proxies"])
    request_log = RequestLog(reactor.seconds, os.urandom)
    server = Server(authority, authenticator, limiter, reactor, request_log, proxies)
    site = AuthoritySite(
        server.resource(),
        reactor,
        request_log.new_request_id,
        options["connections"],
        proxies,
        lambda: authority.publisher.url_paths,
    )
    if not proxies and any(map(is_local_endpoint, options["listen"])):
        reactor.callWhenRunning(service.log.info, NO_PROXY)
    collector = AuthorityCollector(authority, limiter, [site], time.time)
    page = MetricsPage(collector, request_log.registry).resource()
    pages = AuthoritySite(ForPrograms(page, options["host"]), reactor, request_log.new_request_id)
    for option, purpose, served in (("listen", "listening", site), ("metrics", "metrics", pages)):
        for text in options[option]:
            try:
                port = ListenService(reactor, text, served, purpose, UNIT)
            except GmeshError as error:
                raise SystemExit(f"{UNIT}: --{option}: {error.detail}") from None
            port.setServiceParent(service)
    notify = NotifyService(notifier, reactor)
    notify.setServiceParent(service)
    reactor.callWhenRunning(_calm_collector)
    reactor.callWhenRunning(notify.ready)
    stop_once(reactor)
    return service
