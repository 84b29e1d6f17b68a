# SPDX-License-Identifier: MIT
"""
C{/metrics}: numbers that are kept anyway, read when they are asked for; none reads the
database.
Tests: C{tests/authority/test_request_log.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gmesh import __version__
from gmesh.authority.http import AuthoritySite
from gmesh.authority.issuer import entries
from gmesh.authority.rate_limit import RateLimiter
from gmesh.authority.service import Authority
from gmesh.daemon.metrics import Families

__all__ = ["AuthorityCollector"]

_FAMILIES = Families("gmesh_authority_")
_gauge, _counter, _counters = _FAMILIES.gauge, _FAMILIES.counter, _FAMILIES.counters


class AuthorityCollector(Collector):
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
        yield _gauge("crl_entries", "Certificates, nodes and keys on the CRL.", entries(crl))
        yield _gauge("command_number", "Number of the newest command.", status.commands.number)
        yield _gauge("status_age_seconds", "Since the status was signed.", self._wall() - status.issued_at)
        yield _gauge("audit_rows", "Rows of the audit chain when the status was signed.", status.audit.size)
        yield _gauge("writable", "1 if the last group of decisions was written.", authority.store.writable)
        held = authority.store.others.trouble is not None
        yield _gauge("database_held", "1 while another program keeps the database from being written.", held)
        away = authority.store.outage.trouble is not None
        yield _gauge("database_away", "1 while the database does not answer.", away)
        follower = authority.follower
        if follower is not None:
            yield _gauge("database_up", "1 while it answers.", follower.up and not away)
            yield _gauge("follow_age_seconds", "Since the last look for what others did.", follower.age)
        yield _gauge("database_log_bytes", "Of the log beside it.", authority.store.engine.log_size())
        yield _gauge("decisions_waiting", "Decisions waiting for the disk.", authority.store.waiting)
        yield _gauge("clock_suspect", "1 while the clock stands too low to issue.", authority.clock.suspect)
        another = authority.history.trouble is not None
        yield _gauge("another_history", "1 if nodes hold what this database never published.", another)
        yield _gauge("long_polls", "Long polls that are open.", len(authority.publisher.polls))
        yield _gauge("connections", "Open connections.", sum(site.connected for site in sites))
        yield _counter("decisions", "Decisions that were written.", authority.store.decided)
        yield _counter("groups", "Commits.", authority.store.groups)
        yield _counter("groups_retried", "Decided again: the connection was lost.", authority.store.retried)
        yield _counter("outcomes_resolved", "Commits not answered, found out.", authority.store.resolved)
        yield from authority.store.order.collect()
        yield _counter("slow_connections", "Cut: too slow.", sum(site.too_slow for site in sites))
        yield _counter("excess_connections", "Cut: too many.", sum(site.too_many for site in sites))
        yield _counter("rate_limited", "Requests refused by a bucket.", limiter.refused)
        yield _counter("buckets_evicted", "Buckets forgotten to make room.", limiter.evicted)
        yield _counters("bad_requests", "Refused before any route.", "reason", _sum(sites))
        yield _counters("receipts_dropped", "Not believed.", "reason", authority.commands.dropped)


def _sum(sites: Sequence[AuthoritySite]) -> dict[str, int]:
    found: dict[str, int] = {}
    for site in sites:
        for reason, count in site.refusals.items():
            found[reason] = found.get(reason, 0) + count
    return found
