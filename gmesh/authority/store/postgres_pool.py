# SPDX-License-Identifier: MIT
"""
Connections to PostgreSQL as adbapi keeps them: one that broke is given up, one that hangs is cut.

Tests: C{tests/authority/test_postgres.py}.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg
from twisted.enterprise import adbapi
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from gmesh.authority import limits

__all__ = ["PostgresPool"]


class _Pooled(adbapi.Connection):
    """One that is given up where it broke, so that the next work of its thread makes another."""

    def rollback(self) -> None:
        """Take back what was begun."""
        connection: Any = self._connection
        with suppress(psycopg.Error):
            connection.rollback()
        if connection.closed:
            self._pool.disconnect(connection)
            self._connection = None


class PostgresPool(adbapi.ConnectionPool):
    """
    A pool of connections.

    @param engine: makes them.
    @param reactor: what adbapi goes by.
    @param size: how many at most.
    """

    connectionFactory = _Pooled

    def __init__(self, engine: Any, reactor: Any, size: int) -> None:
        super().__init__("psycopg", cp_min=1, cp_max=size, cp_noisy=False, cp_reactor=reactor)
        self.dbapi = engine
        self._timers = reactor if IReactorTime.providedBy(reactor) else None

    def runWithConnection(self, func: Any, *args: Any, **kw: Any) -> Deferred[Any]:
        """As adbapi does; a connection that is busy too long is severed, so that its thread goes on."""
        busy: list[Any] = []

        def run(pooled: Any) -> Any:
            busy.append(pooled._connection)
            try:
                return func(pooled, *args, **kw)
            except psycopg.errors.ReadOnlySqlTransaction:
                pooled._connection.close()  # another of the hosts may take writes by now
                raise

        done: Deferred[Any] = super().runWithConnection(run)
        return done if self._timers is None else _bounded(done, busy, self._timers)


def _bounded(done: Deferred[Any], busy: list[Any], timers: IReactorTime) -> Deferred[Any]:
    def sever() -> None:
        timer[0] = timers.callLater(limits.DATABASE_WAIT_SECONDS, sever)
        for connection in list(busy):
            connection.sever()

    def over(result: Any) -> Any:
        timer[0].cancel()
        busy.clear()  # not before: adbapi commits or rolls back after the work
        return result

    timer = [timers.callLater(limits.DATABASE_WAIT_SECONDS, sever)]
    return done.addBoth(over)
