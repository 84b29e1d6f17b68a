# SPDX-License-Identifier: MIT
"""
The C{gmesh} command: a table of sub-commands, each imported only when it is called.

Exit status: 0 success, 1 refused or failed (one line on standard error), 2 wrong usage;
3 is of C{gmesh admin revoke --wait}.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import click

from gmesh import __version__
from gmesh.cli.groups import LazyGroup
from gmesh.cli.output import printable
from gmesh.errors import GmeshError

__all__ = ["COMMANDS", "gmesh", "main"]

#: Sub-command -> (module, attribute, what it is for); the order is the order of C{--help}.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "demo": ("gmesh.cli.demo", "demo", "Run a whole mesh on this machine and show it work."),
    "init": ("gmesh.cli.init", "init", "Create a network: its keys, its genesis, its directories."),
    "key": ("gmesh.cli.key", "key", "Make and protect signing keys."),
    "genesis": ("gmesh.cli.genesis", "genesis", "Make, sign and check the genesis, offline."),
    "admin": ("gmesh.cli.admin", "admin", "Admit, list and revoke nodes, as an operator."),
    "audit": ("gmesh.cli.audit", "audit", "Check audit.jsonl or an export of it, offline."),
    "restore": ("gmesh.cli.recovery", "restore", "Put a backup in the place of the authority's database."),
    "recover-operator": (
        "gmesh.cli.recovery",
        "recover_operator",
        "Let a new key administer, when the last one is lost.",
    ),
    "database": ("gmesh.cli.database", "database", "Make and check the database that authorities share."),
    "join": ("gmesh.cli.join", "join", "Enrol this host with an invite."),
    "status": ("gmesh.cli.node", "status", "What the node of this host is and knows."),
    "peers": ("gmesh.cli.node", "peers", "The neighbours it has links to."),
    "routes": ("gmesh.cli.node", "routes", "The path to every node it can reach."),
    "nodes": ("gmesh.cli.node", "nodes", "All nodes it knows of."),
    "transits": ("gmesh.cli.node", "transits", "The paths of others that passed through it."),
    "capture": ("gmesh.cli.diagnostics", "capture", "The headers of the frames on one of its links."),
    "services": ("gmesh.cli.node", "services", "The services of the mesh it knows of."),
    "whois": ("gmesh.cli.whois", "whois", "All it knows of one node."),
    "ping": ("gmesh.cli.diagnostics", "ping", "Round trips to a node."),
    "trace": ("gmesh.cli.diagnostics", "trace", "The path to a node, hop by hop."),
    "send": ("gmesh.cli.messages", "send", "Send a message to a service of a node."),
    "receive": ("gmesh.cli.messages", "receive", "Print the messages sent to a service of this node."),
    "connect": ("gmesh.cli.connect", "connect", "Join standard input and output to a service of a node."),
    "expose": ("gmesh.cli.gateways", "expose", "Expose a program as a service of this node."),
    "forward": ("gmesh.cli.gateways", "forward", "Listen at a port that leads to a service of a node."),
    "streams": ("gmesh.cli.streams", "streams", "The byte streams that are open on this node."),
    "bench": ("gmesh.cli.bench", "bench", "How fast streams to a node are."),
    "doctor": ("gmesh.cli.doctor", "doctor", "What is wrong with the node of this host, and what to do."),
    "watch": ("gmesh.cli.watch", "watch", "A live view of the mesh, with a picture."),
}


#: Raised by a group that was given nothing; click 8.1 prints the help and exits instead.
_NO_ARGUMENTS: type[Exception] | tuple[()] = getattr(click.exceptions, "NoArgsIsHelpError", ())


WORDS = {
    "anchor": "a node that is always reachable, by which others find the mesh",
    "authority": "the daemon that admits nodes and revokes them; it carries no messages",
    "cost": "what a link or a path is worth: long round trips cost more, and the cheapest path is taken",
    "CRL": "certificate revocation list: who is cut off; every node holds the newest",
    "genesis": "the signed document that says what the network is: its keys, anchors, addresses",
    "invite": "a text that admits one host, once, under one name",
    "node": "a host that was admitted, and its daemon",
    "operator": "a person with a key for gmesh admin, whose role is read (look), operate (admit,"
    " revoke, command) or administer (also policy and operators)",
    "policy": "who may send to whom, who is an operator, how long certificates live",
}
"""What C{--help} says of the words that it uses; C{docs/glossary.rst} has the rest."""


class _Gmesh(LazyGroup):
    """Knows what is asked of an operator too, which people look for here, and what its words mean."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The words."""
        with formatter.section("Words"):
            formatter.write_dl(list(WORDS.items()))

    def nearby(self, ctx: click.Context) -> dict[str, str]:
        """Also the commands of C{gmesh admin}, except those that have the name of one here."""
        from gmesh.cli.admin import COMMANDS as OF_ADMIN

        return {name: f"admin {name}" for name in OF_ADMIN} | {name: name for name in COMMANDS}


@click.group(cls=_Gmesh, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gmesh")
def gmesh() -> None:
    """
    A permissioned mesh for fleets of appliances.

    Nodes are admitted by name, find their way through each other, and seal every
    message end to end; a revoked node is cut off at once.

    New here?  "gmesh demo" shows all of it in one go.
    """


def _fail(message: str) -> int:
    print(f"gmesh: {printable(message)}", file=sys.stderr)
    return 1


NAMED = 64
"""Characters shown of what is no text."""
_STATUSES = {"away": 3}
"""Reasons that end with a status of their own: C{away} is of C{gmesh admin revoke --wait}."""

_WORDS = {
    "is not a valid float range": "is not a number",
    "is not a valid integer range": "is not a whole number",
    "is not a valid integer": "is not a whole number",
}
"""What click calls a kind of value, and what people do."""


def _misused(error: click.UsageError) -> int:
    """One line too; the help of a group that was given nothing is its own answer."""
    if isinstance(error, _NO_ARGUMENTS):
        error.show()
        return error.exit_code
    report = " ".join(error.format_message().split()).rstrip(".")
    for theirs, ours in _WORDS.items():
        report = report.replace(theirs, ours)
    hint = f' (see "{error.ctx.command_path} --help")' if error.ctx is not None else ""
    _fail(report + hint)
    return error.exit_code


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: the console script, and the only place that turns errors into text."""
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    if sys.stderr is None:  # closed by the process that started us
        sys.stderr = io.StringIO()
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BytesIO())  # nothing to read, and no terminal
    if sys.stdout is None:
        return _fail("standard output is closed: nothing was done")
    options: dict[str, Any] = {"prog_name": "gmesh", "standalone_mode": False}
    try:
        gmesh.main(None if arguments is None else list(arguments), **options)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.UsageError as error:
        return _misused(error)
    except click.ClickException as error:
        _fail(error.format_message())
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 128 + signal.SIGINT
    except GmeshError as error:
        failed = _fail(error.detail)
        return _STATUSES.get(error.reason, failed)
    except BrokenPipeError:
        # The reader (head, less) has gone: nothing is left to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except UnicodeEncodeError as error:
        if error.encoding == "utf-8":
            return _fail(f"{str(error.object)[:NAMED]!r} is no text in UTF-8: see its locale")
        return _fail(f"the output takes {error.encoding} only, and not all of this: set PYTHONUTF8=1")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}")
    return 0


if __name__ == "__main__":
    main()
