# SPDX-License-Identifier: MIT
"""
One node as this one knows it: what its certificate says, its own record, the path to it, or why it is gone.

Tests: C{tests/node/api/test_views.py}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gmesh.errors import RequestRefused
from gmesh.interfaces import ILink
from gmesh.mesh.members import Departed
from gmesh.mesh.peer_identity import Peer
from gmesh.node.limits import WHOIS_CANDIDATES
from gmesh.node.runtime import NodeRuntime
from gmesh.trust.body_member import RevocationReason
from gmesh.trust.documents import Certificate, Crl
from gmesh.trust.encoding import b64url_encode

__all__ = ["links_of", "name_of", "whois"]

_NOTHING: dict[str, Any] = {
    "name": None,
    "node_id": None,
    "roles": [],
    "revoked": False,
    "revocation": None,
    "expired": False,
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
"""An empty answer: what is known takes its place."""


def whois(runtime: NodeRuntime, text: str) -> dict[str, Any]:
    """
    All that is known of the node with this name, node id, or beginning of either; members go first.

    @raise RequestRefused: C{unknown-node}, or C{ambiguous} when several nodes begin so.
    """
    peer = _find(runtime, text)
    if peer is None:
        return _departed(runtime, text)
    now = runtime.now()
    body = peer.certificate.body
    node = next((node for node in runtime.engine.nodes(now) if node.handle == peer.handle), None)
    own = peer.handle == runtime.member.handle
    path = (peer.handle,) if own else runtime.engine.path(peer.handle, now)
    records = runtime.engine.store.fragments(peer.handle).values()
    link = runtime.neighbours.links.get(peer.handle)
    return _NOTHING | {
        "name": peer.name,
        "node_id": peer.node_id,
        "roles": list(peer.roles),
        **_standing(runtime, peer.name, peer.serial, peer.node_id, body.not_after),
        "certificate": _validity(body),
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
    found = runtime.directory.find_name(text)
    if found is not None or not text:
        return found
    known = list({peer.handle: peer for peer in (*runtime.directory.peers(), own)}.values())
    if text in runtime.directory.former.nodes:
        return None
    name = _nearest(text, {peer.name: peer.node_id for peer in known})
    return next((peer for peer in known if peer.name == name), None)


def _nearest(text: str, nodes: Mapping[str, str]) -> str | None:
    """
    The name of the one node, of these by name and node id, that this text means.

    @raise RequestRefused: C{ambiguous}, when several begin so.
    """
    if text in nodes:
        return text
    near = [name for name, node_id in nodes.items() if node_id == text] or sorted(
        name for name, node_id in nodes.items() if name.startswith(text) or node_id.startswith(text)
    )
    if len(near) > 1:
        more = f" and {len(near) - WHOIS_CANDIDATES} more" if len(near) > WHOIS_CANDIDATES else ""
        raise RequestRefused(
            "ambiguous",
            f"{len(near)} nodes begin with {text[:40]}: {', '.join(near[:WHOIS_CANDIDATES])}{more}",
        )
    return near[0] if near else None


def _departed(runtime: NodeRuntime, text: str) -> dict[str, Any]:
    """What is left of a node no certificate of which is believed any longer."""
    nodes = runtime.directory.former.nodes
    name = _nearest(text, {name: node.node_id for name, node in nodes.items()}) if text else None
    if name is not None:
        node = nodes[name]
        return _NOTHING | {
            "name": name,
            "node_id": node.node_id,
            "roles": list(node.roles),
            **_standing(runtime, name, node.serial, node.node_id, node.not_after),
            "certificate": _validity(node),
        }
    node_id, serial = runtime.directory.revoked_nodes.get(text) or (_listed(runtime, text), None)
    if node_id is None:
        raise RequestRefused("unknown-node", f"no node is known by the name or node id {text[:64]!r}")
    return _NOTHING | {
        "name": None if serial is None else text,
        "node_id": node_id,
        "revoked": True,
        "revocation": _revocation(runtime, text, serial, node_id),
    }


def _listed(runtime: NodeRuntime, text: str) -> str | None:
    """The one node or key of the CRL that begins so; known even where the node never was."""
    crl = runtime.member.trust.crl
    if crl is None or not text:
        return None
    named = {entry[0] for entry in crl.body.revoked_nodes} | {entry[0] for entry in crl.body.revoked_keys}
    found = [name for name in named if name.startswith(text)]
    return found.pop() if len(found) == 1 else None


def _standing(runtime: NodeRuntime, name: str, serial: int, node_id: str, not_after: int) -> dict[str, Any]:
    revoked = runtime.member.trust.revoked(serial, node_id)
    return {
        "revoked": revoked,
        "revocation": _revocation(runtime, name, serial, node_id) if revoked else None,
        "expired": runtime.member.wall() > not_after,
    }


def _revocation(runtime: NodeRuntime, name: str, serial: int | None, node_id: str) -> dict[str, Any]:
    """Why, and since when and by which CRL this host knows it, as far as it does."""
    crl = runtime.member.trust.crl
    reason = None if crl is None else _reason(crl.body, serial, node_id)
    node = runtime.directory.former.nodes.get(name)
    known = node if node is not None and node.crl_number else None
    return {
        "serial": serial,
        "reason": _slug(reason),
        "crl_number": None if known is None else known.crl_number,
        "known_at": None if known is None else known.known_at,
    }


def _reason(crl: Crl, serial: int | None, node_id: str) -> int | None:
    if any(key_id == node_id for key_id, _ in crl.revoked_keys):
        return RevocationReason.KEY_COMPROMISE
    for listed, below, _, reason in crl.revoked_nodes:
        if listed == node_id and (serial is None or serial < below):
            return reason
    return next((reason for listed, _, reason in crl.revoked if listed == serial), None)


def _slug(reason: int | None) -> str | None:
    try:
        return None if reason is None else RevocationReason(reason).slug
    except ValueError:
        return str(reason)  # of a later version


def _validity(certificate: Certificate | Departed) -> dict[str, int]:
    return {name: getattr(certificate, name) for name in ("serial", "issued_at", "not_before", "not_after")}


def links_of(runtime: NodeRuntime, handle: bytes) -> dict[bytes, int]:
    """What a node says of its links: by neighbour, what each costs."""
    if handle == runtime.member.handle:
        return dict(runtime.engine.originator.links)
    fragments = runtime.engine.store.fragments(handle)
    return {peer: cost for entry in fragments.values() for peer, cost in entry.record.links}


def name_of(runtime: NodeRuntime, handle: bytes) -> str:
    """The name of a node, or its handle where no certificate of it is held."""
    if handle == runtime.member.handle:
        return runtime.member.name
    peer = runtime.directory.find_handle(handle)
    return peer.name if peer is not None else handle.hex()


def _link(link: ILink) -> dict[str, Any]:
    return {
        "address": link.address,
        "rtt_ms": None if link.rtt is None else round(link.rtt * 1000, 3),
        "initiator": link.initiator,
    }
