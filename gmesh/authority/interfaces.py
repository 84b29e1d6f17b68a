# SPDX-License-Identifier: MIT
"""
The seams of the authority, as zope interfaces: between its decisions and its database, and under that.

Tests: C{tests/authority/test_store.py}, C{tests/authority/test_postgres.py}.
"""

from __future__ import annotations

from zope.interface import Attribute, Interface

__all__ = ["IAuthorityStore", "IEngine"]


class IAuthorityStore(Interface):
    """
    The authority's durable state as its use cases see it: each method is one transaction.

    Methods return Deferreds, which fail with L{gmesh.errors.StoreError} when state cannot be read or written.
    """

    def decide(function):
        """
        Run C{function(transaction)} as one write decision, grouped with others into one commit.

        @return: Deferred of its result, fired after the commit.
        """

    def decide_in_bulk(bulk, item):
        """
        As L{decide}, about C{item}, at once with others of its kind in the group.

        @param bulk: has C{one(transaction, item)} and C{many(transaction, items)}.
        """

    def note(function, regardless=False, lasting=True):
        """
        As L{decide}: a small write outside the order of decisions, of what decisions leave as it is.

        @param regardless: it is done although the database was found damaged.
        @param lasting: False for what may be lost, with a second of others, when a server of the database
            crashes.
        """

    def read(function, patient=True, once=False):
        """
        Run C{function(cursor)} on a read-only connection.

        @param patient: wait a while for a database that is away.
        @param once: it asks one question, which is cheaper alone.
        @return: Deferred of its result.
        """


class IEngine(Interface):
    """
    The database below the authority's store: how to reach it, and what its errors mean.

    Its connections are those of PEP 249, with C{begin(cursor)}, after which only the caller writes until it
    commits, C{begin_note(cursor, lasting)} for a small write beside the decisions, C{begin_read(cursor)} for
    a snapshot, or C{one_question()} for a cursor of one statement, C{begin_schema(cursor)} and
    C{run_script(cursor, migration)} to change tables, and C{in_transaction}; before a daemon commits a group
    it calls C{sign_off(cursor, replica, now)}.  Statements have C{?} for each value.
    """

    path = Attribute("The file that holds it, a C{Path}; None if it is not one of this host.")
    name = Attribute("What it is called in messages, a C{str}.")
    shared = Attribute("Whether several daemons may serve from it, a C{bool}; none fills it then.")

    def connect():
        """A connection of the caller's own."""

    def open(now):
        """
        Bring it up to the program's schema, at the start of a daemon.

        @param now: Unix seconds.
        @return: a connection of the caller's own, and whether the whole was read and found good.
        @raise StoreError: C{corrupt}, C{newer-schema}, C{changed-migration}, C{empty-database},
            C{unsafe-database}.
        """

    def fill(connection, cursor, now):
        """
        Begin to write in an empty database, and make its tables: only of those that are shared.

        @return: as C{begin(cursor)} of a connection.
        @raise StoreError: C{not-empty}, C{unsafe-database}.
        """

    def writer_pool(reactor):
        """The C{adbapi.ConnectionPool} of one connection through which every change goes."""

    def reader_pool(reactor):
        """A pool of connections that cannot change anything."""

    def is_error(error):
        """Whether an exception is the engine's own. @rtype: C{bool}"""

    def is_locked(error):
        """Whether it means that another program kept the writer waiting too long. @rtype: C{bool}"""

    def is_passing(error):
        """
        Whether the same may go well a moment later on another connection; nothing was written if it is
        not L{unknown_turn} either.

        @rtype: C{bool}
        """

    def is_busy(error):
        """
        Whether it says that the server had no room or no time for one question, and nothing of others.

        @rtype: C{bool}
        """

    def unknown_turn(error):
        """
        The turn of the group whose commit was sent and never answered; None if an error means anything else.

        A connection's C{outcome(boot, turn)} says whether it was committed.
        """

    def explain(error):
        """What an error of the engine means to people. @rtype: L{gmesh.errors.StoreError}"""

    def log_size():
        """Bytes of the log beside the database on this host. @rtype: C{int}"""

    def log_held(connection):
        """Bytes of the log that cannot be taken up, because somebody reads what was before. @rtype: C{int}"""

    def check(given_up=None):
        """Read the whole, until C{given_up()}. @raise StoreError: C{corrupt}, C{unavailable}."""

    def closed():
        """The last connection was closed, and nothing was found wrong."""
