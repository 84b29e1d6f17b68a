# SPDX-License-Identifier: MIT
"""A new Noise key: on disk before it is certified, used with its certificate, the old one kept to its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.task import Clock

from gmesh.node.identity_store import IdentityStore
from gmesh.node.limits import NOISE_KEY_LIFE
from gmesh.node.local_member import LocalMember
from gmesh.testing.issuer import DAY, Enrolled, Issuer
from gmesh.trust.keys import noise_keys_from_pem


def start(
    directory: Path, wall: Any, changed: Callable[[bool], object] = lambda rekeyed: None
) -> LocalMember:
    store = IdentityStore(directory)
    return LocalMember(store.load(), store, Clock(), wall, Random(1).randbytes, certificate_changed=changed)


def on_disk(directory: Path) -> list[bytes]:
    return [key.public for key in noise_keys_from_pem((directory / "noise.key").read_bytes())]


def certify(issuer: Issuer, node: Enrolled, directory: Path, member: LocalMember, public: bytes) -> None:
    """Adopt a certificate that names one of the keys on disk."""
    keys = noise_keys_from_pem((directory / "noise.key").read_bytes())
    [key] = [key for key in keys if key.public == public]
    member.adopt_certificate(issuer.certify(node.node_key, key, "a", ("anchor",)))


def test_a_life_of_keys(directory: Path, node: Enrolled, issuer: Issuer, wall: Any) -> None:
    """The same key for a week, then a new one, the same after a lost answer; the old one goes in time."""
    member = start(directory, wall)
    first = node.noise_key.public
    assert member.noise_to_certify() == first
    wall.now += NOISE_KEY_LIFE + 1
    new = member.noise_to_certify()
    assert new != first
    assert on_disk(directory) == [first, new]
    assert member.noise_key.public == first, "not in use before a certificate names it"
    member = start(directory, wall)
    assert member.noise_to_certify() == new, "a lost answer or a restart makes no third key"
    certify(issuer, node, directory, member, new)
    assert member.noise_key.public == new
    assert [key.public for key in member.noise_keys] == [new], "the old certificate ended long ago"
    assert on_disk(directory) == [new]


def test_the_old_key_stays_while_a_certificate_names_it(
    directory: Path, node: Enrolled, issuer: Issuer, wall: Any
) -> None:
    """Who holds the older certificate still reaches us, also after a restart, until that has ended."""
    rekeyed: list[bool] = []
    member = start(directory, wall, rekeyed.append)
    first = node.noise_key.public
    wall.now += NOISE_KEY_LIFE - 600
    member.adopt_certificate(issuer.renew(node).certificate)
    wall.now += 1200
    new = member.noise_to_certify()
    certify(issuer, node, directory, member, new)
    assert rekeyed == [False, True]
    member.save_now()
    member = start(directory, wall)
    assert [key.public for key in member.noise_keys] == [new, first]
    wall.now += DAY + 600
    certify(issuer, node, directory, member, new)
    assert [key.public for key in member.noise_keys] == [new]
    assert on_disk(directory) == [new]
    member.stop()
