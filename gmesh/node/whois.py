# SPDX-License-Identifier: MIT
"""
One node as this one knows it: what its certificate says, what its own record says, and the way to it.

Tests: C{tests/node/test_local_views.py}.
"""

from __future__ import annotations

from typing import Any

from gmesh.errors import RequestRefused
from gmesh.interfaces import ILink
from gmesh.mesh.peer_identity import Peer
from gmesh.node.limits import WHOIS_CANDIDATES
from gmesh.node.runtime import NodeRuntime
from gmesh.trust.encoding import b64url_encode

__all__ = ["links_of", "name_of", "whois"]


def whois(runtime: NodeRuntime, text: str) -> dict[str, Any]:
    """
    All that is known of the node with this name, node id, or beginning of either.

    @raise RequestRefused: C{unknown-node}, or C{ambiguous} when several nodes begin so.
    """
    peer = _find(runtime, text)
    if peer is None:
        return _revoked(runtime, text)
    now = runtime.now()
    body = peer.certificate.body
    node = next((node for node in runtime.engine.nodes(now) if node.handle == peer.handle), None)
    own = peer.handle == runtime.member.handle
    path = (peer.handle,) if own else runtime.engine.path(peer.handle, now)
    records = runtime.engine.store.fragments(peer.handle).values()
    link = next((link for link in runtime.links() if link.peer.handle == peer.handle), None)
    return {
        "name": peer.name,
        "node_id": peer.node_id,
        "roles": list(peer.roles),
        "revoked": False,
        "certificate": {
            "serial": body.serial,
            "issued_at": body.issued_at,
            "not_before": body.not_before,
            "not_after": body.not_after,
        },
        "node_key": b64url_encode(peer.node_key),
        "reachable": path is not None,
        "path": None if path is None else [name_of(runtime, handle) for handle in path],
        "link": None if link is None else _link(link),
        "links": [
            {"name": name, "cost": cost}
            for name, cost in sorted(
                (name_of(runtime, handle), cost) for handle, cost in links_of(runtime, peer.handle).items()
            )
        ],
        "addresses": [] if node is None else list(node.addresses),
        "services": [] if node is None else list(node.services),
        "version": None if node is None else node.software,
        "last_heard": max((entry.record.issued_at for entry in records), default=None),
    }


def _find(runtime: NodeRuntime, text: str) -> Peer | None:
    """@raise RequestRefused: C{ambiguous}, when several nodes begin so."""
    own = runtime.member.peer
    if text in (own.name, own.node_id):
        return own
    found = runtime.book.find_name(text)
    if found is not None or not text:
        return found
    known = list({peer.handle: peer for peer in (*runtime.book.peers(), own)}.values())
    near = [peer for peer in known if peer.node_id == text] or [
        peer for peer in known if peer.name.startswith(text) or peer.node_id.startswith(text)
    ]
    if len(near) > 1:
        names = sorted(peer.name for peer in near)
        more = f" and {len(names) - WHOIS_CANDIDATES} more" if len(names) > WHOIS_CANDIDATES else ""
        raise RequestRefused(
            "ambiguous",
            f"{len(names)} nodes begin with {text[:40]}: {', '.join(names[:WHOIS_CANDIDATES])}{more}",
        )
    return near[0] if near else None


def _revoked(runtime: NodeRuntime, text: str) -> dict[str, Any]:
    """What is left of a node whose certificate is believed no longer."""
    crl = runtime.member.trust.crl
    keys = (
        [] if crl is None or not text else [key for key, _ in crl.body.revoked_keys if key.startswith(text)]
    )
    by_name = runtime.book.was_revoked(text)
    if not by_name and len(keys) != 1:
        raise RequestRefused("unknown-node", f"no node is known by the name or node id {text[:64]}")
    return {
        "name": text if by_name else None,
        "node_id": keys[0] if len(keys) == 1 else None,
        "roles": [],
        "revoked": True,
        "certificate": None,
        "node_key": None,
        "reachable": False,
        "path": None,
        "link": None,
        "links": [],
        "addresses": [],
        "services": [],
        "version": None,
        "last_heard": None,
    }


def links_of(runtime: NodeRuntime, handle: bytes) -> dict[bytes, int]:
    """What a node says of its links: by neighbour, what each costs."""
    if handle == runtime.member.handle:
        return dict(runtime.engine.originator.links)
    fragments = runtime.engine.store.fragments(handle)
    return {peer: cost for entry in fragments.values() for peer, cost in entry.record.links}


def name_of(runtime: NodeRuntime, handle: bytes) -> str:
    """The name of a node, or its handle where no certificate of it is held."""
    peer = runtime.book.find_handle(handle)
    return peer.name if peer is not None else handle.hex()


def _link(link: ILink) -> dict[str, Any]:
    return {
        "address": link.address,
        "rtt_ms": None if link.rtt is None else round(link.rtt * 1000, 3),
        "initiator": link.initiator,
    }
