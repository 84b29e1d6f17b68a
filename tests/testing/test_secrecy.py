# SPDX-License-Identifier: MIT
"""What the suite finds in its own log: each spelling of a secret, and nothing that is none."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger, LogPublisher
from twisted.python.failure import Failure

from gmesh.testing.mesh import MemoryMesh
from gmesh.testing.secrecy import SecretWatch
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.invite import Invite
from gmesh.trust.keys import NoiseKey, SigningKey

SPELLINGS: dict[str, Callable[[bytes], str]] = {
    "hex": bytes.hex,
    "HEX": lambda key: key.hex().upper(),
    "base64url": b64url_encode,
    "base64": lambda key: base64.b64encode(key).decode(),
    "repr": repr,
    "latin-1": lambda key: repr(key.decode("latin-1"))[1:-1],
    "inside base64": lambda key: base64.b64encode(b"ab" + key + b"c").decode(),
    "JSON in base64": lambda key: b64url_encode(json.dumps({"seed": b64url_encode(key)}).encode()),
    "PEM": lambda key: SigningKey(key).to_pem().decode(),
}


@pytest.fixture
def watch() -> Iterator[SecretWatch]:
    made = SecretWatch()
    made.start()
    yield made
    made.stop()


@pytest.mark.parametrize("spelling", sorted(SPELLINGS))
@given(st.binary(min_size=32, max_size=32).filter(lambda key: len(set(key)) >= 10), st.text(max_size=5))
def test_each_spelling_is_found(spelling: str, key: bytes, around: str) -> None:
    """Wherever in a line it stands."""
    watch = SecretWatch()
    text = f"{around} key={SPELLINGS[spelling](key)}, {around}"
    assert not watch.finds(text)
    watch.add(key)
    assert watch.finds(text)


def invite_of(seed: bytes) -> str:
    return Invite(("http://a",), "0" * 32, 1, "0" * 64, "0" * 32, seed).encode()


def test_whatever_is_made_is_known(watch: SecretWatch) -> None:
    """Keys and invites, generated or loaded; their public halves and names are no secrets."""
    signing, noise = SigningKey.generate(), NoiseKey.generate()
    seed = os.urandom(32)
    text = invite_of(seed)
    for secret in (signing.seed.hex(), signing.to_pem().decode(), noise.private.hex(), repr(seed), text):
        assert watch.finds(f"got {secret} from a peer")
    for known in (
        signing.public.hex(),
        signing.key_id,
        repr(signing),
        b64url_encode(noise.public),
        repr(noise),
    ):
        assert not watch.finds(known)
    assert not watch.finds(repr(Invite.parse(text)))


def test_events_are_looked_at(watch: SecretWatch) -> None:
    """The text, the traceback, and fields that no format names."""
    log = Logger("gmesh.node", observer=LogPublisher(watch))
    key = SigningKey.generate()
    log.info("an innocent line about {key}", key=key)
    assert watch.told == []
    log.info("the seed is {seed}", seed=b64url_encode(key.seed))
    log.debug("loaded", seed=key.seed)
    try:
        raise ValueError(f"bad seed {key.seed!r}")
    except ValueError:
        log.failure("not loaded", Failure())
    assert watch.told == [
        "a secret was logged by gmesh.node: 'the seed is {seed}'",
        "a secret was logged by gmesh.node: 'loaded'",
        "a secret was logged by gmesh.node: 'not loaded'",
    ]


def test_payloads_are_known_however_they_are_sent(watch: SecretWatch) -> None:
    """Acknowledged, posted, as a flow; by their beginning."""
    canaries = [b"canary %d: the valve stands at 42 per cent" % number for number in range(3)]
    mesh = MemoryMesh.line("a", "b")
    mesh.run_until(lambda: mesh["a"].reaches("b"))
    mesh["b"].runtime.datagrams.register("log", lambda message: None)
    datagrams = mesh["a"].runtime.datagrams
    mesh.result(datagrams.send("b", "log", data=canaries[0]))
    datagrams.post("b", "log", canaries[1])
    flow = datagrams.open("b", "log")
    flow.send(canaries[2])
    mesh.run(5)
    flow.stop()
    mesh.stop()
    for canary in canaries:
        assert watch.finds(f"handed over {canary!r}")


def test_it_leaves_no_trace() -> None:
    """After the watch the classes are as before."""
    before: Any = SigningKey.__init__
    watch = SecretWatch()
    watch.start()
    assert SigningKey.__init__ is not before
    watch.stop()
    assert SigningKey.__init__ is before
