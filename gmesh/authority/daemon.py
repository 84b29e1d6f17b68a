# SPDX-License-Identifier: MIT
"""
The authority daemon: the service that starts, reloads and stops, composed from its options.

Tests: C{tests/authority/test_tap.py}, C{tests/live/test_authority_daemon.py}.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet import defer, task, threads
from twisted.logger import Logger

from gmesh.authority import limits
from gmesh.authority.auth import Authenticator
from gmesh.authority.database_url import wait_for
from gmesh.authority.http import AuthoritySite
from gmesh.authority.metrics import AuthorityCollector
from gmesh.authority.options import UNIT, Options
from gmesh.authority.proxies import TrustedProxies, is_local_endpoint
from gmesh.authority.rate_limit import RateLimiter, RateLimits
from gmesh.authority.request_log import RequestLog
from gmesh.authority.server import Server, open_authority
from gmesh.authority.service import Authority
from gmesh.authority.signer import from_credentials
from gmesh.authority.state import StateDirectory
from gmesh.daemon.browsers import ForPrograms
from gmesh.daemon.collector import keep_for_good
from gmesh.daemon.listen import ListenService, renew_certificates
from gmesh.daemon.logs import LoggedService
from gmesh.daemon.metrics import MetricsPage
from gmesh.daemon.notify import HangupService, NotifyService, system_notifier
from gmesh.daemon.synchronised import clock_synchronised
from gmesh.errors import ConfigurationError, GmeshError
from gmesh.keyfiles import Passphrases

__all__ = ["AuthorityService", "compose"]

NO_PROXY = (
    "listening on this host only, and no proxy is trusted: if one stands in front, name it with"
    " --trusted-proxy (127.0.0.1, ::1 or unix), or all its clients count as one address"
)
START_SECONDS = 30
"""What a try to reach the database may take, and the start after it."""
CREDENTIALS_STAY = " (systemd copies credentials at the start: a new one takes a restart)"


class AuthorityService(LoggedService):
    """
    Runs the authority beside its listeners; stops them first, after the time of C{--drain}.

    @ivar site: what clients are connected to.
    """

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
        self._reloading = defer.DeferredLock()
        self.site: AuthoritySite | None = None

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
        """
        SIGHUP: read keys, genesis and approvals again, so that a new one needs no restart.

        In a thread, for each sealed key takes most of a second to open; one reload after the other.
        """
        done: defer.Deferred[None] = self._reloading.run(lambda: defer.Deferred.fromCoroutine(self._reload()))
        return done

    async def _reload(self) -> None:
        self._look_at_settings()
        for trouble in renew_certificates(self):
            self.log.error("reload: {cause}", cause=trouble)
        try:
            directory = await threads.deferToThreadPool(
                self._reactor,
                self._reactor.getThreadPool(),
                StateDirectory,
                self._state,
                self._authority.clock.now(),
                self._passphrases,
            )
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
        seconds = self._options["drain"]
        if seconds and self.site is not None:
            self.log.info("stops in {seconds} s: clients go elsewhere meanwhile", seconds=seconds)
            self._authority.drain()
            self.site.draining = True
            await task.deferLater(self._reactor, seconds)
        await defer.maybeDeferred(super().stopService)
        await self._authority.stop()

    def stopService(self) -> Any:
        """End, after what was begun is written."""
        return defer.Deferred.fromCoroutine(self._stop())


def _calm_collector() -> None:
    """Collect what the start left, and later less often: under load full collections came often."""
    keep_for_good()
    gc.set_threshold(*limits.COLLECTOR_THRESHOLDS)


def _tell(text: str) -> None:
    """Say something while nothing is logged yet: twistd begins with that when the daemon is made."""
    print(f"{UNIT}: {text}", file=sys.stderr, flush=True)  # noqa: T201  # as said above


def _pause(seconds: float) -> None:
    """Wait where nothing runs yet, and have the service manager be as patient (sd_notify(3))."""
    system_notifier().send(f"EXTEND_TIMEOUT_USEC={int((seconds + START_SECONDS) * 1e6)}")
    time.sleep(seconds)


def compose(options: Options, reactor: Any) -> AuthorityService:
    """
    The daemon.

    @raise GmeshError: C{OSError} too: what is wrong with the state directory.
    @raise SystemExit: with one line, when an endpoint cannot be used.
    """
    phrase = options["passphrase-file"]
    passphrases = Passphrases(Path(phrase) if phrase else None)
    engine = options.engine()
    if engine is not None:
        wait_for(engine, _tell, _pause)
    authority = open_authority(
        Path(options["state"]),
        reactor,
        time.time,
        lambda engine: (engine.writer_pool(reactor), engine.reader_pool(reactor)),
        passphrases,
        weaken_approvals=bool(options["weaken-approvals"]),
        clock_is_right=bool(options["clock-is-right"]) or clock_synchronised(),
        engine=engine,
    )
    passphrases.ask_no_more()
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
    service.site = site
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
    return service
