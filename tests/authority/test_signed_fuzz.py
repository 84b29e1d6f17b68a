# SPDX-License-Identifier: MIT
"""Odd but well-signed requests and documents by everybody: no 500, and nothing changes but what may."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from authority.network import WHO_VOTES, Network
from authority.odd_requests import Odd
from authority.test_revoked_model import MEMORY

from gmesh.authority.approval_rules import APPROVALS_FILE
from gmesh.authority.rate_limit import RateLimits, RequestRate
from gmesh.authority.route import Access, Route
from gmesh.authority.routes import ROUTES
from gmesh.errors import StoreError
from gmesh.keyfiles import save_key
from gmesh.trust.ceremony import attach, rotate_authority, sign_detached
from gmesh.trust.documents import Genesis, parse_document
from gmesh.trust.encoding import b64url_decode, b64url_encode
from gmesh.trust.keys import KEY_SIZE, key_id

WORLD = 1000
"""Requests to one authority, before it is so changed that little is left to do."""
FREE = RequestRate(10**9, 1e9)
RANKS = ("read", "operate", "administer")
REFUSAL = {"nonce", "meta", "audit"}
ASKED = {"approval", "approval_vote"}
ADMITTED = {"invite", "enrolment", "node", "member", "noise_key", "noise_key_of_node", "certificate"}
REVOKED = {"revoked_certificate", "revoked_node", "revoked_key", "certificate", "node", "member", "crl"}
EFFECTS = {
    "POST /join": ADMITTED,
    "POST /renew": ADMITTED - {"invite", "enrolment"},
    "POST /heartbeat": {"receipt"},
    "POST /admin/invites": {"invite"},
    "DELETE /admin/invites/<id>": {"invite"},
    "POST /admin/enrolments/<id>": {"enrolment"},
    "POST /admin/revocations": REVOKED,
    "POST /admin/policies": {"policy"},
    "POST /admin/operators": {"operator", "policy"},
    "POST /admin/operators/<id>": {"operator", "policy"},
    "DELETE /admin/operators/<id>": {"operator", "policy"},
    "POST /admin/genesis": {"genesis"},
    "POST /admin/commands": {"command"},
    "POST /admin/admissions": {"admission_document"},
    "POST /admin/backup": set(),
    "DELETE /admin/approvals/<id>": ASKED,
}
"""Which tables an answer below 300 may have changed, beside those of every decision."""
SAFE = tuple(route for route in ROUTES if route.name != "POST /admin/backup")
"""What takes a backup writes a file each time."""


class World:
    """An authority, everybody who might sign, and what may be so."""

    def __init__(self, path: Path, seed: int, votes: bool) -> None:
        self.network = network = Network(path, RateLimits(FREE, FREE, FREE))
        keys = network.keys
        invited = network.invite("pump-3", ttl=7 * 86_400)
        member, gone = network.joined("pump-1"), network.joined("pump-2")
        removed, second, dropped = keys.signing(), keys.signing(), keys.authority
        for key, role in ((removed, "administer"), (second, "administer")):
            body = {"key": b64url_encode(key.public), "role": role}
            assert network.admin("POST", "/admin/operators", body).status == 201
        assert network.admin("DELETE", f"/admin/operators/{removed.key_id}").status == 200
        assert network.admin("POST", "/admin/revocations", {"node": "pump-2"}).status == 201
        self._rotate()
        if votes:
            text = json.dumps({"required": 2, "operations": [*WHO_VOTES, "POST /admin/revocations"]})
            (path / APPROVALS_FILE).write_text(text)
            network.restart()
        self.roles = {row["key_id"]: row["role"] for row in self.listed("operators")}
        self.doubted = False
        self.serials = {row["serial"] for row in self.listed("certificates")}
        self.members = {member.node.key_id}
        signers = {
            "stranger": keys.signing(), "invite": invited.invite.key, "node": member.node,
            "revoked": gone.node, "read": keys.reader, "operate": keys.operator, "administer": keys.admin,
            "second": second, "removed": removed, "authority": keys.authority, "dropped": dropped,
            "root": keys.root,
        }  # fmt: skip
        self.odd = Odd(random.Random(seed), network, signers, {"node": member, "revoked": gone})
        self.odd.words += [each.key_id for each in signers.values()] + sorted(self.serials)
        self.watch()

    def _rotate(self) -> None:
        """The authority key is dropped, and another one in its place."""
        network, new = self.network, self.network.keys.signing()
        save_key(network.path / "authority-2.key", new)
        genesis = rotate_authority(network.genesis, network.now, add=new.public, stolen=True)
        network.restart()
        signed = attach(genesis, [sign_detached(genesis, network.keys.root)], network.genesis)
        assert network.admin("POST", "/admin/genesis", {"genesis": signed.as_dict()}).status == 201
        network.keys.authority, network.genesis = new, signed
        network.clock.advance(2)

    def listed(self, what: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.network.admin("GET", f"/admin/{what}?limit=500").json[what]
        return rows

    def watch(self) -> None:
        """Note which tables change; what is undone is noted no more."""
        writer: Any = self.network.authority.store._writer
        if self.network.engine is not None:
            return self._watch_server()
        self.connection = writer.connect()
        self.connection.execute("CREATE TEMP TABLE touched (name TEXT)")
        tables = self.connection.execute(
            "SELECT name FROM main.sqlite_schema WHERE type = 'table'"
        ).fetchall()
        for (table,) in tables:
            for event in ("INSERT", "UPDATE", "DELETE"):
                self.connection.execute(
                    f"CREATE TEMP TRIGGER touch_{table}_{event} AFTER {event} ON main.{table}"
                    f" BEGIN INSERT INTO touched VALUES ('{table}'); END"
                )

    def _watch_server(self) -> None:
        """The same where the database is a server's."""
        self.network.change(
            "CREATE SCHEMA watch",
            "CREATE TABLE watch.touched (name TEXT)",
            "CREATE FUNCTION watch.touch() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN INSERT INTO watch.touched VALUES (TG_TABLE_NAME); RETURN NULL; END'",
        )
        for (table,) in self.network.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
            self.network.change(
                f"CREATE TRIGGER touch AFTER INSERT OR UPDATE OR DELETE ON {table}"
                " FOR EACH ROW EXECUTE FUNCTION watch.touch()"
            )

    def touched(self) -> set[str]:
        """Tables that have changed since the last call, but for a daemon's notes of itself and reads."""
        if self.network.engine is not None:
            names = {name for (name,) in self.network.rows("DELETE FROM watch.touched RETURNING name")}
            return names - {"replica", "ordering", "read_nonce"}
        found = {name for (name,) in self.connection.execute("SELECT DISTINCT name FROM temp.touched")}
        if found:
            self.connection.execute("DELETE FROM temp.touched")
        return found

    def one(self) -> None:
        """A request, and what it may have done."""
        route = self.odd.chance.choice(SAFE)
        kind, who, method, target, headers, body = self.odd.request(route)
        if route.path == "/status":
            target = "/status"  # without ?after=, for which it would wait
        self.network.clock.advance(0.01)
        self.touched()
        answer = self.network.ask(method, target, headers, body)
        told = (kind, route.name, target, body[:3000], answer.status, answer.body[:500])
        if answer.status == 503 and b":another-history" in answer.body:
            self.doubted = True  # somebody has shown what the authority's key signed elsewhere
            return
        assert answer.status < 500, told
        touched = self.touched() - {"counter", "sqlite_sequence"}
        if answer.status >= 300:
            assert touched <= REFUSAL | ASKED, (touched, told)
            if who not in self.roles and "audit" in touched:  # numbers of a twin: it issues nothing any more
                assert route.access is Access.NODE and self.network.keys.authority.key_id in body.decode(), (
                    told
                )
                self.doubted = True
            else:
                assert who in self.roles or touched <= {"nonce", "meta"}, (touched, told)
        else:
            assert self.may(route, who, answer.json if answer.body else None), told
            own = ASKED if answer.status == 202 and route.votable else EFFECTS.get(route.name, set())
            assert touched <= REFUSAL | ASKED | own | {"status"}, (touched, told)
            self.note(route, target, answer.status, answer.json if answer.body else None)

    def may(self, route: Route, who: str, said: Any) -> bool:
        """Whether the model lets this key get this answer."""
        if route.access in (Access.PUBLIC, Access.PUBLISHED):
            return True
        if route.access is Access.JOIN:
            return True  # whom it admitted is judged by what it handed out
        role = self.roles.get(who)
        if route.access is Access.NODE:
            return who in self.members
        if route.access is Access.MEMBER:
            return who in self.members or role is not None
        return role is not None and RANKS.index(role) >= RANKS.index(route.access.value)

    def note(self, route: Route, target: str, status: int, said: Any) -> None:
        """What is so from now on."""
        name = target.rpartition("/")[2]
        if isinstance(said, dict) and "certificate" in said and route.method == "POST":
            signed = said["certificate"]["signed"]
            assert signed["name"] in ("pump-1", "pump-3", "pump-4"), signed
            self.serials.add(signed["serial"])
        if status == 202 or route.method == "GET":
            return
        if route.name == "POST /admin/operators":
            self.roles[said["key_id"]] = said["role"]
        elif route.name == "POST /admin/operators/<id>":
            self.roles[said["key_id"]] = self.roles.pop(name)
        elif route.name == "DELETE /admin/operators/<id>":
            del self.roles[name]
        elif route.name == "POST /admin/genesis":
            network = self.network
            network.genesis = parse_document(network.ask("GET", "/genesis").body, Genesis)
        elif route.name == "POST /admin/revocations":
            self.members -= {*said["nodes"], *said["keys"]}
        elif route.name == "POST /join":
            key = said["certificate"]["signed"]["node_key"]
            self.members.add(key_id(b64url_decode(key, KEY_SIZE)))

    def check(self) -> None:
        """At the end: operators and certificates are those of the model."""
        rows = self.network.rows("SELECT key_id, role FROM operator WHERE revoked_at IS NULL")
        assert dict(rows) == self.roles
        serials = {serial for (serial,) in self.network.rows("SELECT serial FROM certificate")}
        assert serials <= self.serials, serials - self.serials
        self.network.stop()


def fuzz(seed: int, requests: int) -> None:
    """So many, in one world after another; a world that was shown a twin's numbers ends early."""
    for number in range(0, requests, WORLD):
        path = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        try:
            world = World(path / "authority", seed + number, votes=number // WORLD % 2 == 1)
            for _ in range(min(WORLD, requests - number)):
                world.one()
                if world.doubted:
                    break
            world.check()
        finally:
            shutil.rmtree(path)


@pytest.mark.parametrize("seed", range(1, 3))
def test_odd_but_well_signed_requests(seed: int, flush_logged_errors: Any) -> None:
    """No 500, and nothing changes but what this signer may change."""
    fuzz(seed * 10**9, 2 * WORLD)
    flush_logged_errors(StoreError)  # of a world that was shown a twin's numbers


@pytest.mark.soak
def test_a_million_odd_but_well_signed_requests(flush_logged_errors: Any) -> None:
    """The same, for hours."""
    fuzz(random.SystemRandom().randrange(10**12), 10**6)
    flush_logged_errors(StoreError)
