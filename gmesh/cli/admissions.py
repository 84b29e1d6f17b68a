# SPDX-License-Identifier: MIT
"""
Admissions: an operator's list of who needs one, signed where the admission key is, and brought back.

Only files go to and fro, so that the key's machine needs no network.
Tests: C{tests/cli/test_admissions.py}.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import click
import msgspec
from msgspec import Meta

from gmesh.cli.operator import operator_of
from gmesh.cli.options import json_option, passphrase_option, seconds
from gmesh.cli.output import Column, facts, listing, moment, print_json, table, time_column, wide_option
from gmesh.errors import ConfigurationError, DocumentRefused
from gmesh.files import read_capped, write_atomic
from gmesh.keyfiles import Passphrases, load_key
from gmesh.trust.documents import Admission, Document, document_from_dict, sign_document
from gmesh.trust.limits import MAX_ROLES
from gmesh.trust.names import Identifier, Key, Name, Role, human_error
from gmesh.trust.restricted_json import parse_json

__all__ = ["admit", "bring", "unadmitted"]

MAX_FILE = 16 * 1024 * 1024
BATCH = 32
"""Admissions in a request; the authority takes no more."""

_file = click.Path(path_type=Path)
_COLUMNS = [Column("name", "name"), Column("roles", "roles"), Column("node key", "node_key")]


class _Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    node_key: Key
    roles: Annotated[tuple[Role, ...], Meta(min_length=1, max_length=MAX_ROLES)]


class _Requests(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    network_id: Identifier
    requests: tuple[_Request, ...]


@click.command()
@click.option(
    "--within",
    metavar="SPAN",
    default="30d",
    show_default=True,
    help="Also those whose admission ends within.",
)
@json_option
@wide_option
@click.pass_context
def unadmitted(context: click.Context, within: str, as_json: bool) -> None:
    """
    List members and waiting joins that lack an admission.

    With --json it is what "gmesh genesis admit" signs.
    """
    operator = operator_of(context)
    soon = int(time.time()) + seconds(within)
    rows = operator.pages("/admin/admissions", "admissions")
    rows = [row for row in rows if row.get("admitted_until") is None or row["admitted_until"] < soon]
    if as_json:
        requests = [{name: row[name] for name in _Request.__struct_fields__} for row in rows]
        return print_json({"network_id": operator.trust.network_id, "requests": requests})
    listing([*_COLUMNS, time_column("admitted until", "admitted_until")], rows, "all are admitted", False)


@click.command()
@click.argument("source", metavar="REQUESTS", type=_file)
@click.option("--key", metavar="FILE", type=_file, required=True, help="The admission key.")
@click.option("--out", metavar="FILE", type=_file, required=True, help="Where to write the admissions.")
@click.option("--for", "span", metavar="SPAN", default="730d", show_default=True, help="How long they last.")
@click.option("--only", metavar="NAME", multiple=True, help="Admit this one; several are possible.")
@click.option("--yes", is_flag=True, help="All were compared: do not ask.")
@passphrase_option
def admit(
    source: Path,
    key: Path,
    out: Path,
    span: str,
    only: tuple[str, ...],
    yes: bool,
    passphrase_file: Path | None,
) -> None:
    """
    Review REQUESTS and sign an admission for each.

    REQUESTS is what "gmesh admin enrolments unadmitted --json" printed, on a machine that may be in a thief's
    hands: compare each name, its roles and its node key with what you know of the appliance, and its
    "gmesh key show STATE/identity.key".
    """
    requests = _read_requests(source)
    chosen = [request for request in requests.requests if not only or request.name in only]
    missing = sorted(set(only) - {request.name for request in chosen})
    if missing or not chosen:
        raise ConfigurationError("not-found", f"{source} asks nothing for {', '.join(missing) or 'anybody'}")
    if out.exists():
        raise ConfigurationError("exists", f"{out} exists: it is not written over")
    until = int(time.time()) + seconds(span)
    facts([("network id", requests.network_id), ("admitted until", moment(until))])
    table(_COLUMNS, [msgspec.to_builtins(request) for request in chosen], "")
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigurationError("unconfirmed", "compare all of them, and give --yes")
        click.confirm("\nHave you compared all of them?", abort=True)
    signer = load_key(key, Passphrases(passphrase_file))
    signed = [
        sign_document(
            Admission(
                network_id=requests.network_id,
                name=request.name,
                node_key=request.node_key,
                roles=request.roles,
                not_after=until,
            ),
            [signer],
        )
        for request in chosen
    ]
    value = {"admissions": [document.as_dict() for document in signed]}
    write_atomic(out, json.dumps(value, separators=(",", ":")).encode() + b"\n")
    click.echo(f"\nSigned by {signer.key_id}: {len(signed)}, in {out}")


@click.command("admit")
@click.argument("source", metavar="ADMISSIONS", type=_file)
@click.pass_context
def bring(context: click.Context, source: Path) -> None:
    """
    Bring the authority what "gmesh genesis admit" has signed.

    Joins that wait go on when their hosts ask again, members when they renew.
    """
    documents = _read_admissions(source)
    operator = operator_of(context)
    for start in range(0, len(documents), BATCH):
        batch = documents[start : start + BATCH]
        operator.ask("POST", "/admin/admissions", {"admissions": [one.as_dict() for one in batch]})
    click.echo(f"admitted: {len(documents)}")


def _read(path: Path) -> dict[str, Any]:
    try:
        return parse_json(read_capped(path, MAX_FILE), MAX_FILE)
    except DocumentRefused as error:
        raise ConfigurationError(error.reason, f"{path}: {error.detail}") from error


def _read_requests(path: Path) -> _Requests:
    try:
        return msgspec.convert(_read(path), _Requests, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigurationError("bad-input", f"{path}: {human_error(error)}") from error


def _read_admissions(path: Path) -> list[Document[Admission]]:
    listed = _read(path).get("admissions")
    if not isinstance(listed, list) or not listed:
        raise ConfigurationError("bad-input", f"{path} holds no admissions")
    try:
        return [document_from_dict(value, Admission) for value in listed]
    except DocumentRefused as error:
        raise ConfigurationError(error.reason, f"{path}: {error.detail}") from error
