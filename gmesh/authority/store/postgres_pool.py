# SPDX-License-Identifier: MIT
"""
Connections to PostgreSQL as adbapi keeps them: one that broke is given up without a word.

Tests: C{tests/authority/test_postgres.py}.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg
from twisted.enterprise import adbapi

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
