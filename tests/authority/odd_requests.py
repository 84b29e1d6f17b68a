# SPDX-License-Identifier: MIT
"""Requests and documents that are odd (absent, extra, extreme, doubled fields) and well signed."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from authority.network import Member, Network

from gmesh.authority.route import Access, Route
from gmesh.trust.ceremony import rotate_authority
from gmesh.trust.document import signature_input
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.join import make_join_request
from gmesh.trust.keys import SigningKey, decode_public, key_id
from gmesh.trust.limits import MAX_AUTHORITY_KEYS
from gmesh.trust.signed_requests import ADMIN_TAG, JOIN_TAG, NODE_TAG

Json = Any
EXTREMES: tuple[Json, ...] = (
    None, True, False, 0, -1, 1, 2**53 - 1, 2**53, 2**63, 2**64, -(2**63), 1.5, 1e308, float("nan"),
    float("inf"), "", " ", "*", "a" * 300, "a" * 70_000, "\0", "e\u0301", "\ud800", "../..", "%00", [], {},
    [[]], [None], [0] * 1000, {"": 0}, {"signed": {}, "signatures": []}, ["a", "a"],
)  # fmt: skip
_FIELD = re.compile(r'"([a-z_]+)":')
_ARGUMENT = re.compile(r"<[^>]*>")


def deep(levels: int) -> Json:
    """Lists in lists."""
    value: Json = 0
    for _ in range(levels):
        value = [value]
    return value


class Odd:
    """
    Makes one request after another.

    @param signers: by what they are: C{node}, C{administer}, C{stranger}, ...
    @param members: whose certificates are sent.
    """

    def __init__(
        self,
        chance: random.Random,
        network: Network,
        signers: dict[str, SigningKey],
        members: dict[str, Member],
    ) -> None:
        self.chance = chance
        self.network = network
        self.signers = signers
        self.members = members
        self.documents: list[Json] = []
        self.words: list[Json] = ["pump-1", "pump-2", "f" * 32]
        self._bodies: dict[str, Callable[[SigningKey], Json]] = {
            "POST /join": self._join,
            "POST /renew": self._renew,
            "POST /heartbeat": self._heartbeat,
            "POST /admin/invites": self._invite,
            "POST /admin/revocations": self._revocation,
            "POST /admin/policies": self._policy,
            "POST /admin/operators": self._operator,
            "POST /admin/operators/<id>": lambda key: {"key": self.some_key()},
            "POST /admin/enrolments/<id>": lambda key: {
                "decision": self.chance.choice(["approve", "reject"])
            },
            "POST /admin/genesis": self._genesis,
            "POST /admin/commands": self._command,
            "POST /admin/admissions": lambda key: {"admissions": [self.document("admission", {}, key)]},
        }

    def request(self, route: Route) -> tuple[str, str, str, str, dict[str, str], bytes]:
        """Who signs (as what), method, target, headers and body."""
        chance = self.chance
        kind = chance.choice([*self.signers, *self._fitting(route)])
        key = self.signers[kind]
        target = _ARGUMENT.sub(lambda _: self._argument(), route.path)
        if route.query and chance.random() < 0.5:
            name = chance.choice([*route.query, "x"])
            word = chance.choice(["1", "0", "-1", "x", "9" * 20, "pump-1", "%ff", "", "1&limit=1&limit=2"])
            target += f"?{name}={word}"
        text = ""
        if route.body is not None:
            value = self._bodies[route.name](key)
            for _ in range(chance.choice([0, 0, 1, 1, 2])):
                value = self.changed(value)
            text = self.doubled(json.dumps(value))
        body = text.encode("utf-8", "surrogatepass")
        tag = {Access.JOIN: JOIN_TAG, Access.NODE: NODE_TAG}.get(route.access, ADMIN_TAG)
        if route.access is Access.MEMBER and kind in self.members:
            tag = NODE_TAG
        if chance.random() < 0.02:
            tag = chance.choice([ADMIN_TAG, JOIN_TAG, NODE_TAG])
        return (
            kind,
            key.key_id,
            route.method,
            target,
            self.network.signed(key, route.method, target, body, tag),
            body,
        )

    def _fitting(self, route: Route) -> list[str]:
        """Who might get somewhere: asked as often as all others together."""
        if route.access in (Access.JOIN, Access.NODE, Access.MEMBER):
            return ["node"] * len(self.signers)
        return ["administer"] * len(self.signers)

    # What is changed.

    def changed(self, value: Json) -> Json:
        """One thing in it is absent, more, or extreme."""
        value = deepcopy(value)
        places = list(_places(value))
        if not places:
            return self._extreme()
        inside, name = self.chance.choice(places)
        act = self.chance.randrange(4)
        if act == 0:
            del inside[name]
        elif act == 1 and isinstance(inside, dict):
            inside[self.chance.choice(["x", "type", "version", "", "A", "signed"])] = self._extreme()
        elif act == 2 and isinstance(inside, list):
            inside.append(inside[name])
        else:
            inside[name] = self._extreme()
        return value

    def _extreme(self) -> Json:
        pick = self.chance.randrange(len(EXTREMES) + 8)
        if pick < len(EXTREMES):
            return EXTREMES[pick]
        if pick == len(EXTREMES):
            return deep(self.chance.choice([10, 20, 100]))
        if pick == len(EXTREMES) + 1:
            return self.some_key()
        return (
            self.chance.choice(self.documents or self.words) if pick % 2 else self.chance.choice(self.words)
        )

    def doubled(self, text: str) -> str:
        """Now and then a field stands there twice."""
        found = list(_FIELD.finditer(text)) if self.chance.random() < 0.1 else []
        if not found:
            return text
        place = self.chance.choice(found)
        return f"{text[: place.start()]}{place[0]}0,{text[place.start() :]}"

    def document(self, type: str, signed: Json, *usual: SigningKey) -> Json:
        """Signed, after it was changed or before, by who should or by anybody, once or more often."""
        chance = self.chance
        if chance.random() < 0.4:
            signed = self.changed(signed)
        keys = list(usual)
        if chance.random() < 0.4:
            keys = [chance.choice(list(self.signers.values())) for _ in range(chance.choice([0, 1, 2]))]
        if chance.random() < 0.1:
            keys *= 2
        try:
            text = signature_input(type, signed)
        except Exception:  # it has no canonical form: what is signed does not matter
            text = json.dumps(signed).encode("utf-8", "surrogatepass")
        signatures = [{"key_id": key.key_id, "signature": b64url_encode(key.sign(text))} for key in keys]
        made = {"signed": signed, "signatures": signatures}
        self.documents = [*self.documents[-20:], made]
        return made

    # What is asked.

    def some_key(self) -> str:
        """Somebody's, or nobody's; at times none at all."""
        pick = self.chance.randrange(4)
        if pick == 0:
            return b64url_encode(bytes(32))
        if pick == 1:
            return b64url_encode(self.chance.choice(list(self.signers.values())).public)
        return b64url_encode(self.network.keys.signing().public)

    def _argument(self) -> str:
        words = [*self.words[-12:], "1", "0", "9007199254740991", "9007199254740992", "f" * 64, "%2e%2e"]
        return str(self.chance.choice(words)) or "-"

    def _join(self, key: SigningKey) -> Json:
        member = self.network.member(
            self.chance.choice([self.signers["invite"], self.network.keys.signing()])
        )
        request = make_join_request(
            member.invite,
            key if self.chance.random() < 0.8 else self.network.keys.signing(),
            member.noise.public,
            self.network.network_id,
            self.network.now,
            self.network.entropy(16),
        )
        return json.loads(request.encode())

    def _certificate(self, key: SigningKey) -> Json:
        whose = [name for name in self.members if self.signers[name] is key]
        member = self.members[whose[0] if whose else self.chance.choice(list(self.members))]
        assert member.certificate is not None
        genuine = member.certificate.as_dict()
        if self.chance.random() < 0.5:
            return genuine
        signed = {**genuine["signed"], "node_key": b64url_encode(key.public)}
        return self.document("certificate", signed, self.chance.choice(list(self.signers.values())))

    def _renew(self, key: SigningKey) -> Json:
        return {
            "certificate": self._certificate(key),
            "noise_key": b64url_encode(self.network.keys.noise().public),
        }

    def _heartbeat(self, key: SigningKey) -> Json:
        network = self.network
        receipt = {
            "type": "receipt", "network_id": network.network_id, "command": self._argument(),
            "outcome": "done", "detail": "", "at": network.now,
        }  # fmt: skip
        return {
            "certificate": self._certificate(key),
            "sent_ms": int(network.wall() * 1000),
            "numbers": {"genesis": 1, "policy": 1, "crl": 1, "status": 1},
            "receipts": [self.document("receipt", receipt, key)] if self.chance.random() < 0.5 else [],
        }

    def _invite(self, key: SigningKey) -> Json:
        name = self.chance.choice(["pump-1", "pump-3", "pump-4", "-"])
        more = self.chance.choice(
            [{}, {"ttl": 600}, {"approve": True}, {"lifetime": 600}, {"node_key": self.some_key()}]
        )
        return {"invite_key": self.some_key(), "name": name, "roles": ["client"], **more}

    def _revocation(self, key: SigningKey) -> Json:
        named = self.chance.choice([{"node": "pump-3"}, {"serial": 10**9}, {"key": self._argument()}])
        return {**named, "reason": self.chance.choice(["unspecified", "key-compromise", "x"])}

    def _policy(self, key: SigningKey) -> Json:
        text = self.network.ask("GET", "/policy").json["signed"]
        kept = ("certificate", "max_hops", "max_nodes", "rules", "control", "stale_grace")
        return {"text": {name: text[name] for name in kept}, "dry_run": self.chance.random() < 0.7}

    def _operator(self, key: SigningKey) -> Json:
        return {"key": self.some_key(), "role": self.chance.choice(["read", "operate", "administer"])}

    def _genesis(self, key: SigningKey) -> Json:
        network = self.network
        keys = network.genesis.body.authority
        dropped = [key_id(decode_public(keys[-1].key))] if len(keys) == MAX_AUTHORITY_KEYS else []
        added = network.keys.signing().public
        following = rotate_authority(network.genesis, network.now, add=added, drop=dropped)
        return {"genesis": self.document("genesis", following.signed, network.keys.root)}

    def _command(self, key: SigningKey) -> Json:
        command = {
            "type": "command", "network_id": self.network.network_id,
            "id": f"{self.chance.randrange(9):032x}", "number": self.chance.choice([1, 2, 3]),
            "command": "ping-report", "target": {"all": True}, "arguments": {},
            "issued_at": self.network.now, "expires_at": self.network.now + 600,
        }  # fmt: skip
        return {"command": self.document("command", command, key)}


def _places(value: Json) -> list[tuple[Any, Any]]:
    """Each place in a value: what it lies in, and under which name."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for name, item in inside:
        found.append((value, name))
        found += _places(item)
    return found
