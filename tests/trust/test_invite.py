# SPDX-License-Identifier: MIT
"""Invites: one spelling, no secret shown, and the chain they pin."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trust.network import DAY, NOW, Network, key

from gmesh.errors import DocumentRefused
from gmesh.trust.invite import INVITE_PREFIX, Invite

NETWORK = Network()
NETWORK.next_genesis()
INVITE = Invite(
    urls=("http://authority.example:8400", "https://[2001:db8::1]:8443/gmesh"),
    network_id=NETWORK.network_id,
    genesis_version=2,
    genesis_digest=NETWORK.genesis.digest,
    authority=key("authority").key_id,
    seed=key("invite").seed,
)


def spell(value: Any) -> str:
    """An invite of any content, canonical if the content is."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return INVITE_PREFIX + base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def content() -> dict[str, Any]:
    """What the design says an invite contains."""
    return {
        "v": 1,
        "urls": list(INVITE.urls),
        "network_id": INVITE.network_id,
        "genesis": {"version": 2, "digest": INVITE.genesis_digest},
        "authority": INVITE.authority,
        "seed": base64.urlsafe_b64encode(INVITE.seed).rstrip(b"=").decode(),
    }


def test_form() -> None:
    """An invite is spelled as the design fixes it, and read back the same."""
    assert INVITE.encode() == spell(content())
    assert Invite.parse(INVITE.encode()) == INVITE
    assert Invite.parse(f"  {INVITE.encode()}\n") == INVITE
    assert INVITE.key.public == key("invite").public


WRAPPED = "\r\n> ".join(INVITE.encode()[at : at + 60] for at in range(0, len(INVITE.encode()), 60))


@pytest.mark.parametrize(
    "text",
    [
        INVITE.encode()[:100] + "\n" + INVITE.encode()[100:],
        INVITE.encode()[:100] + " \u00a0\t" + INVITE.encode()[100:],
        f"> {WRAPPED}\r\n",
        f'"{INVITE.encode()}"',
        f"\u201c{INVITE.encode()}\u201d",
        f"`{INVITE.encode()}`",
        f"<{INVITE.encode()}>",
        f"\ufeff{INVITE.encode()[:50]}\u200b\u00ad{INVITE.encode()[50:]}\u2060",
        quote(f" {INVITE.encode()}\n", safe=""),
    ],
)
def test_b12_d17_an_invite_survives_mail_and_chat(text: str) -> None:
    """Line breaks, blanks, quotes, zero-width characters and percent-encoding are dropped."""
    assert Invite.parse(text) == INVITE


def test_d5_anchors_are_absent_unless_given() -> None:
    """An invite that names anchors is read back with them, and one without is spelled as ever."""
    anchors = ["gate.example:7443", "tls://gate.example"]
    given = replace(INVITE, anchors=tuple(anchors))
    assert given.encode() == spell(content() | {"anchors": anchors})
    assert Invite.parse(given.encode()) == given
    for bad in ([], anchors * 5, ["a b"], [""], "gate.example:7443"):
        with pytest.raises(DocumentRefused, match="damaged"):
            Invite.parse(spell(content() | {"anchors": bad}))


def test_secret_is_not_shown() -> None:
    """Neither repr nor a refusal repeats the seed."""
    seed = content()["seed"]
    assert seed not in repr(INVITE) and repr(INVITE.seed) not in repr(INVITE)
    with pytest.raises(DocumentRefused) as caught:
        Invite.parse(INVITE.encode()[:-1])
    assert INVITE.encode()[13:40] not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"v": True},
        {"urls": []},
        {"urls": ["file:///etc"]},
        {"urls": ["http://a"] * 9},
        {"network_id": "x"},
        {"genesis": {"version": 1}},
        {"genesis": {"version": 0, "digest": "0" * 64}},
        {"authority": None},
        {"seed": "A" * 42},
        {"seed": "A" * 42 + "B"},
        {"more": 1},
    ],
)
def test_bad_content(change: dict[str, Any]) -> None:
    """Each field has its form, and there is no other."""
    with pytest.raises(DocumentRefused) as caught:
        Invite.parse(spell(content() | change))
    assert caught.value.reason == "bad-invite"


def test_one_spelling() -> None:
    """Another spelling of the same content is refused."""
    text = json.dumps(content()).encode()
    with pytest.raises(DocumentRefused, match="damaged"):
        Invite.parse(INVITE_PREFIX + base64.urlsafe_b64encode(text).rstrip(b"=").decode())
    with pytest.raises(DocumentRefused):
        Invite.parse(INVITE.encode() + "=")


@given(st.text(max_size=60), st.booleans())
def test_any_text(text: str, prefixed: bool) -> None:
    """Only DocumentRefused comes out of any text."""
    with pytest.raises(DocumentRefused):
        Invite.parse(INVITE_PREFIX + text if prefixed else text)


@given(st.integers(0, len(INVITE.encode()) - 1), st.characters())
def test_one_changed_character(at: int, character: str) -> None:
    """A typing error is refused, or hits only a value the genesis or the authority will refuse."""
    whole = INVITE.encode()
    text = whole[:at] + character + whole[at + 1 :]
    try:
        read = Invite.parse(text)
    except DocumentRefused as error:
        assert error.reason == "bad-invite"
    else:
        assert (read == INVITE) == (text == whole)


def test_chain_passes_by_the_pin() -> None:
    """The chain begins at the network, passes by the digest and lists the authority."""
    assert INVITE.check_chain(NETWORK.chain, NOW) is NETWORK.genesis
    older = replace(INVITE, genesis_version=1, genesis_digest=NETWORK.chain[0].digest)
    assert older.check_chain(NETWORK.chain, NOW) is NETWORK.genesis


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"genesis_digest": "0" * 64}, "wrong-genesis"),
        ({"genesis_version": 1}, "wrong-genesis"),
        ({"genesis_version": 3}, "wrong-genesis"),
        ({"network_id": "0" * 32}, "wrong-network"),
        ({"authority": key("other").key_id}, "unknown-key"),
    ],
)
def test_other_chains(change: dict[str, Any], reason: str) -> None:
    """Any other chain is refused."""
    with pytest.raises(DocumentRefused) as caught:
        replace(INVITE, **change).check_chain(NETWORK.chain, NOW)
    assert caught.value.reason == reason


def test_chain_too_short_or_expired() -> None:
    """A chain that stops before the pin, is empty, or whose end has expired is refused."""
    for chain, now, reason in (
        (NETWORK.chain[:1], NOW, "wrong-genesis"),
        ([], NOW, "no-genesis"),
        (NETWORK.chain, NOW + 4000 * DAY, "expired"),
    ):
        with pytest.raises(DocumentRefused) as caught:
            INVITE.check_chain(chain, now)
        assert caught.value.reason == reason
