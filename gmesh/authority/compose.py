# SPDX-License-Identifier: MIT
"""An authority from a state directory: the only place where its parts are put together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReactorTime

from gmesh.authority.approvals import Approvals, read_rules
from gmesh.authority.clock import SteadyClock
from gmesh.authority.openapi import describe
from gmesh.authority.published import Publisher
from gmesh.authority.routes import ROUTES
from gmesh.authority.service import Authority
from gmesh.authority.state import LOCK, StateDirectory
from gmesh.authority.store.writer import Store
from gmesh.daemon.lock import StateLock
from gmesh.keyfiles import Passphrases

__all__ = ["open_authority"]


def open_authority(
    state: Path,
    clock: IReactorTime,
    wall: Callable[[], float],
    pools: Callable[[Path], tuple[Any, Any]],
    passphrases: Passphrases | None = None,
) -> Authority:
    """
    Open a state directory.

    @param pools: makes the writer pool and the reader pool of a database file.
    @param passphrases: asked for the signing keys that are sealed.
    @raise ConfigurationError: if the directory cannot be used.
    @raise StoreError: if the database cannot.
    """
    now = int(wall())
    possible = frozenset(route.name for route in ROUTES if route.changes_by_operator)
    directory = StateDirectory(state, now, passphrases)
    lock = StateLock(state / LOCK, "gmesh-authority")
    try:
        issuer = directory.issuer()
        rules = read_rules(state, possible)
        opened = directory.open(issuer, now, rules)
    except BaseException:
        lock.release()
        raise
    steady = SteadyClock(wall, clock.seconds, opened.high_water)
    store = Store(
        directory.database,
        *pools(directory.database),
        steady,
        opened.mirror.append,
        claimed=opened.claimed,
        checked=opened.checked,
    )
    publisher = Publisher(store, issuer, clock, wall)
    publisher.load(opened.chain, opened.policy, opened.crl, opened.status)
    approvals = Approvals(store, rules, possible)
    description = json.dumps(describe(ROUTES)).encode()
    return Authority(store, issuer, publisher, approvals, steady, clock, lock, description)
