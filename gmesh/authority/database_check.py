# SPDX-License-Identifier: MIT
"""
What a shared database is like, for whoever looks after it: read only, one line a thing.

Tests: C{tests/authority/test_database_command.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import msgspec

from gmesh.authority import limits
from gmesh.authority.audit import verify_audit
from gmesh.authority.issuer import epoch
from gmesh.authority.state import StateDirectory
from gmesh.authority.store import documents, postgres_schema
from gmesh.authority.store.migrate import check_recorded, recorded
from gmesh.authority.store.transaction import Reader
from gmesh.errors import StoreError
from gmesh.trust.documents import Genesis, parse_document
from gmesh.trust.verify import network_id

__all__ = ["DatabaseFinding", "check_database"]


class DatabaseFinding(msgspec.Struct, frozen=True):
    """
    One thing.

    @ivar good: whether a daemon may rely on it.
    """

    what: str
    good: bool
    text: str


def check_database(directory: StateDirectory, wall: Callable[[], float]) -> list[DatabaseFinding]:
    """
    Look at the database of a state directory.

    @param wall: Unix time.
    @raise StoreError: C{unavailable}, C{refused-database}, C{empty-database}.
    """
    engine = directory.engine
    try:
        with closing(engine.connect()) as connection:
            cursor = connection.cursor()
            connection.begin_read(cursor)
            postgres_schema.check_filled(cursor, engine.name)
            return [
                _server(cursor),
                _judged("schema", lambda: _schema(cursor)),
                _judged("network", lambda: _network(Reader(cursor), directory)),
                _judged("audit", lambda: _audit(Reader(cursor))),
                _judged("commits", lambda: _commits(connection, cursor)),
                _durability(cursor),
                _clock(cursor, wall),
            ]
    except Exception as error:
        if engine.is_error(error):
            raise engine.explain(error) from error
        raise


def _judged(what: str, ask: Callable[[], str]) -> DatabaseFinding:
    try:
        return DatabaseFinding(what, True, ask())
    except StoreError as error:
        return DatabaseFinding(what, False, error.detail)


def _settings(cursor: Any, *names: str) -> list[str]:
    columns = ", ".join(["current_setting(?)"] * len(names))
    return list(cursor.execute(f"SELECT {columns}", names).fetchone())


def _server(cursor: Any) -> DatabaseFinding:
    version, encoding, most = _settings(cursor, "server_version", "server_encoding", "max_connections")
    text = f"PostgreSQL {version}, encoding {encoding}, at most {most} connections"
    return DatabaseFinding("server", encoding == "UTF8", text)


def _schema(cursor: Any) -> str:
    done, wanted = recorded(cursor), postgres_schema.migrations()
    check_recorded(done, wanted)
    pending = [migration.number for migration in wanted if migration.number not in done]
    if pending:
        return f"{max(done):04d}; the next daemon to start brings it to {max(pending):04d}"
    return f"{max(done):04d}, this program's"


def _network(reader: Reader, directory: StateDirectory) -> str:
    chain = documents.genesis_chain(reader)
    if not chain:
        raise StoreError("empty-database", "no authority is in it yet")
    name = network_id(parse_document(chain[0], Genesis))
    if name != directory.network_id:
        raise StoreError("wrong-network", f"{name}, another than that of {directory.path}")
    return f"{name}, genesis {len(chain)}, epoch {epoch(reader)}"


def _audit(reader: Reader) -> str:
    size, head = verify_audit(reader)
    return f"{size} rows, whole, head {head}"


def _commits(connection: Any, cursor: Any) -> str:
    postgres_schema.check_settings(connection)
    commits, standbys = _settings(cursor, "synchronous_commit", "synchronous_standby_names")
    waits = f"waits for {standbys}" if standbys else "no standby is waited for"
    return f"synchronous_commit {commits}, {waits}"


def _durability(cursor: Any) -> DatabaseFinding:
    names = ("fsync", "full_page_writes", "data_checksums")
    values = dict(zip(names, _settings(cursor, *names), strict=True))
    good = values["fsync"] == values["full_page_writes"] == "on"
    return DatabaseFinding("disk", good, ", ".join(f"{name} {value}" for name, value in values.items()))


def _clock(cursor: Any, wall: Callable[[], float]) -> DatabaseFinding:
    before = wall()
    (there,) = cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    differs = there - (before + wall()) / 2
    good = abs(differs) <= limits.CLOCK_DIFFERENCE_SECONDS
    return DatabaseFinding("clock", good, f"the server's differs by {differs:.1f} s from this host's")
