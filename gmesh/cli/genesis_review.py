# SPDX-License-Identifier: MIT
"""
A genesis as people read it before they sign: every field, and what differs from the version before.

Tests: C{tests/cli/test_genesis.py}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gmesh.cli.output import facts, moment, printable
from gmesh.trust.ceremony import Quorum, quorums
from gmesh.trust.documents import Document, Genesis
from gmesh.trust.keys import decode_public, key_id
from gmesh.trust.transport_address import FORMS, read_address
from gmesh.trust.verify import network_id

__all__ = ["as_json", "network_of", "print_quorums", "review", "warnings"]

DAY = 86_400
LONG_VALIDITY_WARNING = 90 * DAY


def network_of(document: Document[Genesis]) -> str:
    """The network_id of any version."""
    return document.body.network_id or network_id(document)


def _lines(document: Document[Genesis]) -> list[tuple[str, str]]:
    body = document.body
    keys = [f"{key_id(decode_public(key))}  {key}" for key in body.root.keys]
    authority = [
        f"{key_id(decode_public(entry.key))}  {entry.key}  {moment(entry.valid_from)} to"
        f" {moment(entry.valid_to)}"
        for entry in body.authority
    ]
    anchors = [
        f"{anchor.name} at {anchor.endpoint}" + (f", node id {anchor.node_id}" if anchor.node_id else "")
        for anchor in body.anchors
    ]
    lines = [
        ("network", body.network),
        ("network id", network_of(document)),
        ("version", str(body.version)),
        ("issued", moment(body.issued_at)),
        ("expires", moment(body.expires_at)),
        ("root", f"{body.root.threshold} of {len(body.root.keys)} must sign"),
        *_numbered("root key", keys),
        *_numbered("authority key", authority),
        *_numbered("authority URL", body.authority_urls),
        *_numbered("anchor", anchors),
        ("suites", ", ".join(body.suites)),
        ("policy at least", str(body.policy.version)),
    ]
    if body.admission is not None:
        admission = [f"{key_id(decode_public(key))}  {key}" for key in body.admission.keys]
        lines += _numbered("admission key", admission)
        lines.append(("admission required", f"from {moment(body.admission.required_from)} on"))
    if body.previous is not None:
        lines.append(("follows", body.previous))
    return [(name, printable(value)) for name, value in lines]


def _numbered(name: str, values: Sequence[str]) -> list[tuple[str, str]]:
    return [(f"{name} {number}", value) for number, value in enumerate(values, 1)]


def review(document: Document[Genesis], previous: Document[Genesis] | None = None) -> None:
    """Print all of it; with the version before, what is gone and what is new is marked."""
    facts([*_lines(document), ("digest", document.digest)])
    if previous is not None:
        before, after = _values(previous), _values(document)
        print(f"\nAgainst version {previous.body.version} ({previous.digest}):")
        changes = [f"  - {line}" for line in before if line not in after]
        changes += [f"  + {line}" for line in after if line not in before]
        print("\n".join(changes) or "  nothing but times and version differs")
    for text in warnings(document, previous):
        print(f"\nNote: {text}")


def _values(document: Document[Genesis]) -> list[str]:
    passing = {"version", "issued", "follows", "network id"}
    return [
        f"{name.rstrip('0123456789').rstrip()}: {value}"
        for name, value in _lines(document)
        if name not in passing
    ]


def warnings(document: Document[Genesis], previous: Document[Genesis] | None) -> list[str]:
    """What a holder might overlook."""
    body = document.body
    found = []
    starts = [entry.valid_from for entry in body.authority]
    if body.root.threshold == 1 and len(body.root.keys) > 1:
        found.append("any single root key may change this network: threshold is 1.")
    if len(body.root.keys) == body.root.threshold > 1:
        found.append("every root key is needed: one lost key, and this network can never be changed again.")
    if min(entry.valid_to for entry in body.authority) - body.issued_at < LONG_VALIDITY_WARNING:
        found.append("an authority key ends within 90 days.")
    odd = [anchor.name for anchor in body.anchors if read_address(anchor.endpoint) is None]
    if odd:
        found.append(f"no node dials {', '.join(odd)}: an anchor is at {FORMS}.")
    if previous is not None and body.admission not in (None, previous.body.admission):
        found.append(
            "members without an admission by these keys end when it is required: bring theirs first."
        )
    if previous is not None:
        kept = {entry.key for entry in body.authority}
        dropped = [entry.key for entry in previous.body.authority if entry.key not in kept]
        if dropped:
            found.append(
                f"{len(dropped)} authority key(s) are no longer believed: certificates they signed end at"
                " once, and their nodes renew.  After a theft this is what you want; else wait until the last"
                " certificate they signed has ended by itself."
            )
        elif min(starts) != max(starts):
            found.append(f"the newest authority key signs from {moment(max(starts))} on.")
    return found


def print_quorums(document: Document[Genesis], previous: Document[Genesis] | None) -> list[Quorum]:
    """Print who has signed and who is missing."""
    found = quorums(document, previous)
    for quorum in found:
        state = "enough" if quorum.reached else f"{quorum.threshold - len(quorum.signed)} missing"
        print(
            f"signatures by the root of version {quorum.version}: {len(quorum.signed)} of"
            f" {quorum.threshold} needed, {state}"
        )
        for name in quorum.signed:
            print(f"  signed       {name}")
        for name in quorum.missing:
            print(f"  not signed   {name}")
    return found


def as_json(document: Document[Genesis], previous: Document[Genesis] | None = None) -> dict[str, Any]:
    """The same for programs."""
    return {
        "network_id": network_of(document),
        "version": document.body.version,
        "digest": document.digest,
        "signed": document.signed,
        "signatures": [
            {
                "version": quorum.version,
                "threshold": quorum.threshold,
                "signed": list(quorum.signed),
                "missing": list(quorum.missing),
                "reached": quorum.reached,
            }
            for quorum in quorums(document, previous)
        ],
    }
