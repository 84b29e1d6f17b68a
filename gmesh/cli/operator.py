# SPDX-License-Identifier: MIT
"""
An operator: the key, where the authority is, the genesis that says who it is, and signed requests.

Tests: C{tests/cli/test_admin_requests.py}.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import click

from gmesh.cli.authority import RemoteAuthority, audience_of
from gmesh.cli.http import HttpRefused
from gmesh.cli.limits import MAX_PAGES, PAGE
from gmesh.cli.options import identifier
from gmesh.cli.output import SHORT_ID
from gmesh.cli.patience import Patience
from gmesh.errors import ConfigurationError, DocumentRefused, StoreError
from gmesh.files import check_owner, read_capped, write_atomic
from gmesh.keyfiles import Passphrases, load_key
from gmesh.trust.authority_answers import former_urls, known_urls
from gmesh.trust.documents import Document, Genesis, parse_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.invite import Invite
from gmesh.trust.keys import KEY_SIZE
from gmesh.trust.limits import DOCUMENT_LIMITS, MAX_URLS
from gmesh.trust.signed_requests import ADMIN_TAG
from gmesh.trust.state import TrustState
from gmesh.trust.verify import network_id, verify_genesis_chain

__all__ = ["PAUSE", "OperatorClient", "Pending", "one_id", "operator_of", "poll"]

PAUSE = 1.0
MAX_PAUSE = 5.0
Result = TypeVar("Result")
MAX_URL_FILE = 64 * 1024


class Pending(HttpRefused):
    """The request was taken, and is done once more operators have approved it."""


class OperatorClient:
    """
    What C{gmesh admin} acts with.

    @param directory: as C{gmesh init} made it.
    @param passphrases: asked if the key is sealed.
    @param patience: how long to wait where the authority says so; not at all, when left out.
    @raise ConfigurationError: if the directory is not complete.
    """

    def __init__(
        self, directory: Path, passphrases: Passphrases | None = None, patience: Patience | None = None
    ) -> None:
        self.directory = directory
        if not (directory / "operator.key").exists():
            check_owner(directory, "an operator")
        self.key = load_key(directory / "operator.key", passphrases or Passphrases())
        try:
            self.pin = parse_document(
                read_capped(directory / "genesis.json", DOCUMENT_LIMITS["genesis"]), Genesis
            )
            urls = json.loads(read_capped(directory / "authority.json", MAX_URL_FILE))["urls"]
        except DocumentRefused as error:
            raise ConfigurationError("bad-operator", f"{directory} is damaged: {error.detail}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                "bad-operator", f"{directory}/authority.json is not {{'urls': [...]}}"
            ) from error
        if not isinstance(urls, list) or not urls or not all(isinstance(url, str) for url in urls):
            raise ConfigurationError("bad-operator", f"{directory}/authority.json names no URL")
        self._own = tuple(urls)
        self.authority = RemoteAuthority(known_urls(urls, [self.pin]), patience=patience or Patience(0))
        self._trust: TrustState | None = None

    @property
    def trust(self) -> TrustState:
        """
        What the authority publishes, verified from the pinned genesis on; fetched once.

        The URLs of the newest genesis are those that are asked from then on.
        """
        if self._trust is None:
            now = self.authority.wall()
            chain = self.authority.genesis_chain()
            network = self.pin.body.network_id or network_id(self.pin)
            verify_genesis_chain(chain, network, now)
            if self.pin.digest not in {genesis.digest for genesis in chain}:
                raise DocumentRefused(
                    "wrong-genesis", "the authority shows another genesis than this operator's"
                )
            self.follow(chain)
            self._trust = self.authority.beliefs(network, chain)
        return self._trust

    def follow(self, chain: Sequence[Document[Genesis]]) -> None:
        """Ask where this verified chain says, now and the next time, whatever becomes of the old URLs."""
        urls = known_urls(self._own, chain)
        if urls != tuple(self.authority.urls):
            self.authority.follow(urls)
        with suppress(StoreError):  # of a directory that is not to be written
            if urls != self._own:
                write_atomic(self.directory / "authority.json", json.dumps({"urls": urls}).encode() + b"\n")
            if chain[-1].digest != self.pin.digest:
                write_atomic(self.directory / "genesis.json", chain[-1].encode())

    @property
    def audience(self) -> str:
        """The authority key that requests are meant for."""
        return audience_of(self.trust, self.authority.wall())

    def ask(self, method: str, path: str, value: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """
        One signed request.

        @raise Pending: if more operators must approve it first.
        @raise HttpRefused: with the authority's reason.
        """
        body = b"" if value is None else json.dumps(value, separators=(",", ":")).encode()
        answer = self.authority.signed(self.key, method, path, body, self.audience, ADMIN_TAG)
        if answer.status == 204:
            return {}
        decoded = answer.json()
        if not isinstance(decoded, dict):
            raise HttpRefused(
                "invalid-answer", "the authority did not answer with an object", answer.status, {}
            )
        if answer.status == 202:
            raise Pending(
                "pending",
                f"waits for approval: {decoded.get('votes')} of {decoded.get('required')} operators;"
                f" another one runs: gmesh admin approvals approve {decoded.get('id')}",
                answer.status,
                decoded,
            )
        return decoded

    def whole_id(self, text: str, path: str, member: str, field: str = "id") -> str:
        """
        The id that C{text} is, or begins, as lists show it in short.

        @param path: the list to look it up in; C{member} and C{field} say where.
        @raise ConfigurationError: if it is none, or none or several begin so.
        """
        if len(text) != SHORT_ID or not set(text) <= set("0123456789abcdef"):
            return identifier(text)
        return one_id([str(row.get(field)) for row in self.pages(path, member)], text)

    def get_document(self, path: str) -> bytes:
        """The body of a signed request for a document in file form."""
        return self.authority.signed(self.key, "GET", path, b"", self.audience, ADMIN_TAG).body

    def make_invite(
        self, name: str, roles: Sequence[str], ttl: int, anchors: Sequence[str] = (), **more: Any
    ) -> tuple[str, dict[str, Any]]:
        """
        Make an invite, whose public key is all the authority will know of it.

        @param ttl: seconds.
        @param anchors: by which the host may join.
        @param more: C{lifetime}, C{node_key}, C{approve}; None leaves it to the authority.
        @return: the invite, and the body of the request that makes it good.
        """
        trust = self.trust
        former = former_urls(trust.genesis_chain)
        made = Invite(
            urls=tuple(url for url in self.authority.urls if url not in former)[:MAX_URLS],
            network_id=trust.network_id,
            genesis_version=trust.genesis.body.version,
            genesis_digest=trust.genesis.digest,
            authority=self.audience,
            seed=os.urandom(KEY_SIZE),
            anchors=tuple(anchors),
        )
        given = {field: value for field, value in more.items() if value is not None}
        key = b64url_encode(made.key.public)
        return made.encode(), {"invite_key": key, "name": name, "roles": list(roles), "ttl": ttl, **given}

    def invite(self, name: str, roles: Sequence[str], ttl: int) -> tuple[str, dict[str, Any]]:
        """Make an invite and have it accepted. @return: the invite, and the authority's answer."""
        made, request = self.make_invite(name, roles, ttl)
        return made, self.ask("POST", "/admin/invites", request)

    def pages(self, path: str, member: str, after: str | None = None) -> list[dict[str, Any]]:
        """All entries of a list that comes in pages, from the one after C{after}."""
        rows: list[dict[str, Any]] = []
        mark = "&after=" if "?" in path else "?after="
        target = path if after is None else f"{path}{mark}{quote(after, safe='')}"
        for _ in range(MAX_PAGES):
            answer = self.ask("GET", target)
            rows += answer.get(member) or []
            if answer.get("next") is None:
                return rows
            target = f"{path}{mark}{quote(str(answer['next']), safe='')}&limit={PAGE}"
        raise HttpRefused("too-large", f"{path} has no end", 200, {})


def one_id(ids: Sequence[str], beginning: str) -> str:
    """The one of C{ids} that begins so. @raise ConfigurationError: if there is none, or another one."""
    found = [each for each in ids if each.startswith(beginning)]
    if len(found) != 1:
        raise ConfigurationError(
            "not-found", f"{len(found)} ids begin with {beginning}: the list shows all of each with --wide"
        )
    return identifier(found[0])


def operator_of(context: click.Context) -> OperatorClient:
    """The operator that the options of C{gmesh admin} name. @raise ConfigurationError: if they name none."""
    found = context.find_object(dict)
    directory = (found or {}).get("directory")
    if directory is None:
        raise ConfigurationError("no-operator", "who asks? give --operator DIR or set GMESH_OPERATOR")
    patience = Patience((found or {}).get("timeout") or 0)
    return OperatorClient(directory, Passphrases((found or {}).get("passphrase_file")), patience)


def poll(
    ask: Callable[[], Result],
    done: Callable[[Result], bool],
    timeout: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Result:
    """
    Ask until the answer will do, or the time is up; pauses grow from one second to five.

    @return: the last answer, whether it will do or not.
    """
    until, pause = clock() + timeout, PAUSE
    answer = ask()
    while not done(answer) and (left := until - clock()) > 0:
        sleep(min(pause, left))
        pause = min(pause * 1.5, MAX_PAUSE)
        answer = ask()
    return answer
