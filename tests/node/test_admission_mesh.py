# SPDX-License-Identifier: MIT
"""A mesh whose genesis names an admission key, and a thief who has the authority's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace
from node.managed_mesh import ManagedMesh, ManagedNode

from gmesh.errors import PeerRefused
from gmesh.testing.issuer import DAY, Enrolled
from gmesh.trust.documents import Certificate, Document, sign_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import NoiseKey

ROLES = ("client", "relay", "anchor")


class Thief:
    """
    Signs what it likes with the authority's key, and has seen every certificate with its admission.

    @ivar victim: the node whose certificate is forged.
    """

    def __init__(self, mesh: ManagedMesh, victim: ManagedNode) -> None:
        self._mesh = mesh
        self._seen = victim.runtime.member.certificate
        self._keys = victim.enrolled

    def forged(self, **changed: Any) -> Document[Certificate]:
        """A certificate like the victim's but for this, newer, with the victim's admission beside it."""
        body = replace(self._seen.body, serial=self._seen.body.serial + 1000, **changed)
        return sign_document(body, [self._mesh.authority.authority]).with_admission(self._seen.admission)

    def another_name(self) -> Enrolled:
        """The victim itself, under a name that was never admitted."""
        return Enrolled(self._keys.node_key, self._keys.noise_key, self.forged(name="gate"))

    def more_roles(self) -> Enrolled:
        """The victim, promoted."""
        return Enrolled(self._keys.node_key, self._keys.noise_key, self.forged(roles=ROLES))

    def new_key(self) -> Enrolled:
        """Somebody else, under the victim's name."""
        node_key, noise_key = self._new_keys()
        public = b64url_encode(node_key.public)
        return Enrolled(node_key, noise_key, self.forged(node_key=public, noise_key=_text(noise_key)))

    def new_node(self) -> Enrolled:
        """Somebody else, under a name of their own, with nothing to show but the authority's signature."""
        node_key, noise_key = self._new_keys()
        changed = {"node_key": b64url_encode(node_key.public), "noise_key": _text(noise_key)}
        certificate = self.forged(name="gate", **changed).with_admission(None)
        return Enrolled(node_key, noise_key, certificate)

    def _new_keys(self) -> Any:
        return self._mesh.authority.new_key(), NoiseKey.from_private(self._mesh.random.randbytes(32))


def _text(key: NoiseKey) -> str:
    return b64url_encode(key.public)


FORGERIES = [Thief.another_name, Thief.more_roles, Thief.new_key, Thief.new_node]


def line(admitting: bool) -> ManagedMesh:
    """a - b - c, where a is an anchor and never meets c; everybody admitted."""
    mesh = ManagedMesh(seed=7)
    if admitting:
        mesh.authority.require_admission()
    mesh.run(2)
    mesh.add("a", "anchor")
    mesh.add("b", "relay", peers=["a"])
    mesh.add("c", "client", peers=["b"])
    mesh.network.blocked.add(frozenset((mesh["a"].host, mesh["c"].host)))
    mesh.start()
    mesh.run_until(lambda: mesh["a"].reaches("c") and mesh["c"].reaches("a"))
    return mesh


@pytest.fixture(name="mesh")
def admitted_line() -> Iterator[ManagedMesh]:
    mesh = line(admitting=True)
    yield mesh
    mesh.stop()
    assert mesh.clock.getDelayedCalls() == []


def links_of_intruder(mesh: ManagedMesh, intruder: Enrolled) -> list[str]:
    """Whom it is linked with after it dialled the anchor for five minutes."""
    mesh["c"].stop()
    mesh.run(5)
    node = mesh.make_node(intruder, "10.9.9.9", [mesh["a"].address])
    mesh.nodes["intruder"] = node
    node.start()
    mesh.run(300)
    return node.link_names


@pytest.mark.parametrize("forgery", FORGERIES)
def test_no_node_links_with_what_a_stolen_authority_key_admits(mesh: ManagedMesh, forgery: Any) -> None:
    """Another name, more roles, a new key: the anchor refuses all of them."""
    intruder = forgery(Thief(mesh, mesh["c"]))
    assert links_of_intruder(mesh, intruder) == []
    assert mesh["a"].link_names == ["b"]


@pytest.mark.parametrize("forgery", FORGERIES)
def test_without_the_rule_the_same_thief_is_in(forgery: Any) -> None:
    """What the admission key is for."""
    mesh = line(admitting=False)
    assert "a" in links_of_intruder(mesh, forgery(Thief(mesh, mesh["c"])))
    mesh.stop()


@pytest.mark.parametrize("forgery", FORGERIES)
def test_records_under_such_a_certificate_count_nowhere(mesh: ManagedMesh, forgery: Any) -> None:
    """No node takes it into its directory, from whomever it comes; a renewed one it does."""
    forged = forgery(Thief(mesh, mesh["c"])).certificate
    for name in ("a", "b"):
        members = mesh[name].runtime.directory
        with pytest.raises(PeerRefused) as refused:
            members.add_encoded(forged.encode())
        assert refused.value.reason == "not-admitted"
    honest = mesh.authority.renew(mesh["c"].enrolled).certificate
    assert mesh["a"].runtime.directory.add_encoded(honest.encode()).serial == honest.body.serial


@pytest.mark.parametrize(("honest", "arrives"), [(True, [b"hello"]), (False, [])])
def test_no_sealed_session_under_such_a_certificate(
    mesh: ManagedMesh, honest: bool, arrives: list[bytes]
) -> None:
    """A member that the thief promotes seals nothing to others any more; one that renewed does."""
    node, came = mesh["c"].runtime, []
    mesh["a"].runtime.datagrams.register("log", lambda message: came.append(message.data))
    mesh.run(30)
    thief = Thief(mesh, mesh["c"])
    certificate = (
        mesh.authority.renew(mesh["c"].enrolled).certificate if honest else thief.more_roles().certificate
    )
    node.member.adopt_certificate(certificate)
    node.datagrams.send("a", "log", b"hello").addErrback(lambda _: None)
    mesh.run(60)
    assert came == arrives


def test_an_honest_fleet_renews_with_one_admission(mesh: ManagedMesh) -> None:
    """For three days, with new Noise keys on the way: nobody loses a neighbour for good."""
    before = {node.name: node.runtime.member.certificate for node in mesh}
    for node in mesh:
        node.runtime.member.state.noise_made_at = 1
    mesh.lapse(60)
    mesh.run(3 * DAY / 60)
    for node in mesh:
        held, first = node.runtime.member.certificate, before[node.name]
        assert held.body.serial > first.body.serial and held.body.noise_key != first.body.noise_key
        assert held.admission == first.admission is not None
    mesh.run_until(lambda: mesh["a"].reaches("c") and mesh["c"].reaches("a"))


def test_a_member_whose_admission_ends_is_cut_off_and_comes_back_with_another(mesh: ManagedMesh) -> None:
    """Its certificate would last on, but its links end with the next status; another brings it back."""
    body = mesh["c"].runtime.member.certificate.body
    mesh.authority.lifetime = 30 * DAY
    mesh.authority.admit(body.node_key, body.name, body.roles, lifetime=1800)
    mesh["c"].heartbeat._renew_point = 0.0
    mesh["c"].heartbeat.soon()
    mesh.run_until(lambda: mesh["c"].runtime.member.certificate.body.serial > body.serial)
    assert mesh["c"].not_after > mesh.wall() + 20 * DAY
    mesh.run(1800 - 120)
    assert mesh["b"].link_names == ["a", "c"]
    mesh.run(3600)
    assert mesh["b"].link_names == ["a"]
    assert not mesh["a"].reaches("c")
    mesh.authority.admit(body.node_key, body.name, body.roles)
    mesh.run(900)
    assert mesh["b"].link_names == ["a", "c"]
    assert mesh["a"].reaches("c")


def test_members_of_before_go_over_without_a_gap() -> None:
    """They hold admissions before the rule begins, by renewals of their own; whoever has none is cut then."""
    mesh = line(admitting=False)
    mesh.authority.require_admission(required_from=3 * 1800)
    for name in ("a", "b"):
        body = mesh[name].runtime.member.certificate.body
        mesh.authority.admit(body.node_key, body.name, body.roles)
    mesh.run(1800)
    held = {node.name: node.runtime.member.certificate.admission is not None for node in mesh}
    assert held == {"a": True, "b": True, "c": False}
    assert mesh["a"].reaches("c")
    link = mesh["b"].link("a")
    mesh.run(1800 + 3600)
    assert mesh["b"].link_names == ["a"]
    assert mesh["b"].link("a") is link
    mesh.stop()
