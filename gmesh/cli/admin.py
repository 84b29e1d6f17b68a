# SPDX-License-Identifier: MIT
"""C{gmesh admin}: what an operator asks of the authority, signed with the operator's own key."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from gmesh.cli.authority import Authority, audience_of
from gmesh.cli.http import HttpRefused
from gmesh.cli.limits import MAX_PAGES
from gmesh.cli.show import Column, moment, print_json, table, words
from gmesh.errors import ConfigurationError, DocumentRefused
from gmesh.files import read_capped, read_key_file
from gmesh.trust.documents import Genesis, RevocationReason, parse_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.invite import Invite
from gmesh.trust.keys import KEY_SIZE, SigningKey
from gmesh.trust.limits import DOCUMENT_LIMITS
from gmesh.trust.names import is_name, is_role
from gmesh.trust.requests import ADMIN_TAG
from gmesh.trust.state import TrustState
from gmesh.trust.verify import network_id, verify_genesis_chain

__all__ = ["Operator", "admin", "seconds"]

MAX_URL_FILE = 64 * 1024
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> int:
    """
    A span of time such as C{90s}, C{30m}, C{1h} or C{7d}, in seconds.

    @raise ConfigurationError: if it is none.
    """
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
    if match is None or int(match[1]) == 0:
        raise ConfigurationError("bad-duration", f"{text!r} is no span of time: 90s, 30m, 1h or 7d")
    return int(match[1]) * _UNITS[match[2] or "s"]


class Operator:
    """
    An operator's directory: the key, where the authority is, and the genesis that says who it is.

    @param directory: as C{gmesh init} made it.
    @raise ConfigurationError: if it is not complete.
    """

    def __init__(self, directory: Path) -> None:
        try:
            self.key = SigningKey.from_pem(read_key_file(directory / "operator.key"))
            self.pin = parse_document(
                read_capped(directory / "genesis.json", DOCUMENT_LIMITS["genesis"]), Genesis
            )
            urls = json.loads(read_capped(directory / "authority.json", MAX_URL_FILE))["urls"]
        except DocumentRefused as error:
            raise ConfigurationError("bad-operator", f"{directory} is damaged: {error.detail}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                "bad-operator", f"{directory}/authority.json is no {{'urls': [...]}}"
            ) from error
        if not isinstance(urls, list) or not urls or not all(isinstance(url, str) for url in urls):
            raise ConfigurationError("bad-operator", f"{directory}/authority.json names no URL")
        self.authority = Authority(urls)
        self._trust: TrustState | None = None

    @property
    def trust(self) -> TrustState:
        """What the authority publishes, verified from the pinned genesis on; fetched once."""
        if self._trust is None:
            now = self.authority.wall()
            chain = self.authority.genesis_chain()
            network = self.pin.body.network_id or network_id(self.pin)
            verify_genesis_chain(chain, network, now)
            if self.pin.digest not in {genesis.digest for genesis in chain}:
                raise DocumentRefused(
                    "wrong-genesis", "the authority shows another genesis than this operator's"
                )
            self._trust = self.authority.beliefs(network, chain)
        return self._trust

    @property
    def audience(self) -> str:
        """The authority key that requests are meant for."""
        return audience_of(self.trust, self.authority.wall())

    def ask(self, method: str, path: str, value: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One signed request."""
        return self.authority.signed_json(self.key, method, path, value, self.audience, ADMIN_TAG)

    def invite(self, name: str, roles: Sequence[str], ttl: int) -> tuple[str, dict[str, Any]]:
        """
        Make an invite; the authority learns only its public key.

        @param ttl: seconds.
        @return: the invite, and the authority's answer.
        """
        made = Invite(
            urls=tuple(self.authority.urls),
            network_id=self.trust.network_id,
            genesis_version=self.trust.genesis.body.version,
            genesis_digest=self.trust.genesis.digest,
            authority=self.audience,
            seed=os.urandom(KEY_SIZE),
        )
        request = {
            "invite_key": b64url_encode(made.key.public),
            "name": name,
            "roles": list(roles),
            "ttl": ttl,
        }
        return made.encode(), self.ask("POST", "/admin/invites", request)

    def pages(self, path: str, member: str) -> list[dict[str, Any]]:
        """All entries of a list that comes in pages."""
        rows: list[dict[str, Any]] = []
        target = path
        for _ in range(MAX_PAGES):
            answer = self.ask("GET", target)
            rows += answer.get(member) or []
            if answer.get("next") is None:
                return rows
            target = f"{path}?after={quote(str(answer['next']), safe='')}"
        raise HttpRefused("too-large", f"{path} has no end", 200, {})


@click.group()
@click.option(
    "--operator",
    "directory",
    metavar="DIR",
    envvar="GMESH_OPERATOR",
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="The operator's directory, as gmesh init made it.",
)
@click.pass_context
def admin(context: click.Context, directory: Path | None) -> None:
    """Admit, list and revoke nodes, as an operator."""
    context.obj = directory


def _operator(context: click.Context) -> Operator:
    directory = context.find_object(Path)
    if directory is None:
        raise ConfigurationError("no-operator", "who asks? give --operator DIR or set GMESH_OPERATOR")
    return Operator(directory)


_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@admin.command()
@click.option("--name", required=True, help="The name the node will have.")
@click.option(
    "--role",
    "roles",
    required=True,
    multiple=True,
    help="anchor, relay, client or service:NAME; several are possible.",
)
@click.option(
    "--ttl", default="1h", show_default=True, metavar="SPAN", help="How long the invite is good for."
)
@_json_option
@click.pass_context
def invite(context: click.Context, name: str, roles: tuple[str, ...], ttl: str, as_json: bool) -> None:
    """Print an invite: it admits one host, once, under this name."""
    if not is_name(name):
        raise ConfigurationError("bad-name", f"{name!r} cannot name a node: a-z, 0-9, dashes within")
    for role in roles:
        if not is_role(role):
            raise ConfigurationError("bad-role", f"{role!r} is none of anchor, relay, client, service:NAME")
    made, answer = _operator(context).invite(name, roles, seconds(ttl))
    if as_json:
        print_json({"invite": made, "id": answer.get("id"), "expires_at": answer.get("expires_at")})
    else:
        click.echo(made)


@admin.command()
@_json_option
@click.pass_context
def invites(context: click.Context, as_json: bool) -> None:
    """List the invites."""
    rows = _operator(context).pages("/admin/invites", "invites")
    if as_json:
        return print_json(rows)
    columns = [
        Column("id", "id"),
        Column("name", "name"),
        Column("roles", "roles"),
        Column("state", "state"),
        Column("expires", "expires_at", moment),
    ]
    table(columns, rows, "no invites")


@admin.command()
@_json_option
@click.pass_context
def nodes(context: click.Context, as_json: bool) -> None:
    """List the nodes that were admitted."""
    rows = _operator(context).pages("/admin/nodes", "nodes")
    if as_json:
        return print_json(rows)
    columns = [
        Column("name", "name"),
        Column("node id", "node_id"),
        Column("roles", "roles"),
        Column("serial", "serial"),
        Column("certified until", "not_after", moment),
        Column("last seen", "last_seen", moment),
        Column("revoked", "revoked"),
    ]
    table(columns, rows, "no nodes")


@admin.command()
@click.argument("node")
@click.option(
    "--reason",
    type=click.Choice([reason.slug for reason in RevocationReason]),
    default=RevocationReason.UNSPECIFIED.slug,
    show_default=True,
    help="Why; key-compromise bars the key too.",
)
@_json_option
@click.pass_context
def revoke(context: click.Context, node: str, reason: str, as_json: bool) -> None:
    """Cut NODE off: all its certificates are revoked, and it cannot renew them."""
    answer = _operator(context).ask("POST", "/admin/revocations", {"node": node, "reason": reason})
    if as_json:
        return print_json(answer)
    click.echo(
        f"revoked {node}: serials {words(answer.get('serials'))}, in CRL {words(answer.get('crl_number'))}"
    )
