# SPDX-License-Identifier: MIT
"""
Where the authority is asked, and what counts as its answer: one rule for daemons and commands.

A captive portal, a parked host or a broken proxy answers too; what it says is passed over, and the next URL
is asked.  This is about who answered at all: what is believed is another question, of signatures.
Tests: C{tests/trust/test_authority_answers.py}.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

from gmesh.trust.documents import Document, Genesis
from gmesh.trust.signed_requests import JSON_TYPE

__all__ = ["PROBLEM_PREFIX", "PROBLEM_TYPE", "former_urls", "is_answer", "known_urls", "spread_urls"]

PROBLEM_TYPE: Final = "application/problem+json"
"""RFC 9457, section 3."""
PROBLEM_PREFIX: Final = "urn:gmesh:problem:"
_DOCUMENTS = frozenset({"genesis", "status", "crl", "policy"})
_MEMBERS: Final = {"heartbeat": "status", "renew": "certificate", "commands": "commands"}
"""What the answers to nodes hold, by the first part of the path."""


def known_urls(own: Iterable[str], chain: Sequence[Document[Genesis]]) -> tuple[str, ...]:
    """
    The authority's URLs in the order in which they are asked, each once.

    First those that this host was given and no genesis named, then those of the newest genesis; last, those
    that an earlier genesis named and the newest no longer does: the authority has moved.

    @param own: of C{authority.json}.
    @param chain: the versions of the genesis that are known, the newest last.
    """
    own, former = tuple(own), former_urls(chain)
    kept = [url for url in own if url not in former]
    left = [url for url in own if url in former]
    return tuple(dict.fromkeys([*kept, *chain[-1].body.authority_urls, *left]))


def spread_urls(urls: Iterable[str], chain: Sequence[Document[Genesis]], node_id: str) -> tuple[str, ...]:
    """
    The same, but each node begins at another of those that the newest genesis names.

    So replicas behind several URLs have about as many nodes each, and those of one that is away are divided
    among the others.  A node's own order is the same each time (rendezvous hashing: Thaler and Ravishankar,
    1998), and a URL that is added moves only those that begin there.

    @param urls: as L{known_urls} gives them.
    """
    urls, named = tuple(urls), frozenset(chain[-1].body.authority_urls)
    own = iter(
        sorted(
            (url for url in urls if url in named),
            key=lambda url: sha256(f"{node_id} {url}".encode()).digest(),
        )
    )
    return tuple(next(own) if url in named else url for url in urls)


def former_urls(chain: Sequence[Document[Genesis]]) -> frozenset[str]:
    """What an earlier genesis named, and the newest no longer does."""
    named = {url for document in chain for url in document.body.authority_urls}
    return frozenset(named - set(chain[-1].body.authority_urls))


def is_answer(path: str, status: int, content_type: str, body: bytes) -> bool:
    """
    Whether the authority has answered, by type and form, or something else that speaks HTTP.

    @param path: that was asked for, behind what the URL begins with.
    """
    if status == 204:
        return path.startswith("/admin/") and not body
    kind = content_type.partition(";")[0].strip().lower()
    text = body.strip()
    if not (text.startswith(b"{") and text.endswith(b"}")):
        return False
    if 200 <= status < 300:
        part = path.partition("?")[0].split("/")[1]
        member = "signed" if part in _DOCUMENTS else _MEMBERS.get(part)
        return kind == JSON_TYPE and (member is None or f'"{member}"'.encode() in text)
    return kind == PROBLEM_TYPE and status >= 400 and PROBLEM_PREFIX.encode() in text
