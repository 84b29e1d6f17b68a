# SPDX-License-Identifier: MIT
"""The file form, the signature input and the rules of every document type."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import msgspec
import nacl.signing
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from trust.network import DAY, NOW, Network, key

from gmesh.errors import DocumentRefused
from gmesh.trust.documents import (
    DOCUMENT_TYPES,
    Body,
    Certificate,
    CommandTarget,
    Crl,
    CrlDelta,
    Document,
    Genesis,
    Policy,
    RevocationReason,
    Rule,
    SignatureEntry,
    add_signature,
    document_from_dict,
    encoded_digest,
    parse_any_document,
    parse_document,
    sign_document,
    sign_documents,
    signature_input,
)
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import verify
from gmesh.trust.limits import DOCUMENT_LIMITS

NETWORK = Network()


def delta() -> Document[CrlDelta]:
    """A delta that adds one entry."""
    body = CrlDelta(
        network_id=NETWORK.network_id,
        from_number=1,
        number=2,
        issued_at=NOW,
        next_update=NOW + DAY,
        added=((7, NOW + DAY, 1),),
        added_nodes=(("0" * 32, 9, NOW + DAY, 4),),
        added_keys=(("0" * 32, NOW + DAY),),
        drop_expired_before=NOW - DAY,
        result_signatures=(SignatureEntry(key_id="0" * 32, signature=b64url_encode(bytes(64))),),
    )
    return sign_document(body, [NETWORK.authority])


SAMPLES: dict[str, Document[Any]] = {
    document.type: document
    for document in (
        NETWORK.genesis,
        NETWORK.certificate(),
        NETWORK.admission(),
        NETWORK.crl(
            5,
            [(7, NOW + DAY, 1), (3, NOW + DAY, 0)],
            [("f" * 32, NOW + DAY)],
            revoked_nodes=[("f" * 32, 9, NOW + DAY, 0), ("e" * 32, 4, NOW + DAY, 5)],
        ),
        delta(),
        NETWORK.policy(min_version="1.2"),
        NETWORK.status(),
        NETWORK.command(arguments={"level": "debug", "count": 3}),
        NETWORK.receipt(),
    )
}
TYPES = sorted(SAMPLES)


def test_there_is_a_sample_of_every_type() -> None:
    """The tests below cover all types there are."""
    assert set(SAMPLES) == set(DOCUMENT_TYPES) == set(DOCUMENT_LIMITS)


@pytest.mark.parametrize("kind", TYPES)
def test_round_trip(kind: str) -> None:
    """A written document is read back the same, by type and by what it says it is."""
    document = SAMPLES[kind]
    for read in (
        parse_document(document.encode(), DOCUMENT_TYPES[kind]),
        parse_any_document(document.encode()),
    ):
        assert read == document
        assert read.body == document.body
        assert (read.digest, read.encode(), read.as_dict()) == (
            document.digest,
            document.encode(),
            document.as_dict(),
        )
    assert encoded_digest(document.encode()) == document.digest


@pytest.mark.parametrize("kind", TYPES)
def test_verifiable_by_strangers(kind: str) -> None:
    """The design's words, PyNaCl and rfc8785 are enough to verify a document."""
    document = SAMPLES[kind]
    value = json.loads(document.encode())
    assert set(value) == {"signed", "signatures"}
    data = b"gmesh-signature-v1\0" + kind.encode() + b"\0" + rfc8785.dumps(value["signed"])
    signer = {"genesis": key("root"), "receipt": key("node"), "admission": key("admission")}.get(
        kind, key("authority")
    )
    (entry,) = value["signatures"]
    assert entry["key_id"] == signer.key_id
    signature = base64.urlsafe_b64decode(entry["signature"] + "==")
    nacl.signing.VerifyKey(signer.public).verify(data, signature)


@pytest.mark.parametrize("kind", TYPES)
def test_spelling_of_the_bytes_does_not_matter(kind: str) -> None:
    """White space, key order and escapes change neither digest nor signature input."""
    document = SAMPLES[kind]
    value = json.loads(document.encode())
    value["signed"] = dict(reversed(value["signed"].items()))
    for text in (json.dumps(value, indent=3), json.dumps(value).replace("o", "\\u006f")):
        read = parse_document(text.encode(), DOCUMENT_TYPES[kind])
        assert read == document
        assert (read.digest, read.signature_input) == (document.digest, document.signature_input)


@pytest.mark.parametrize("signed_as", [*TYPES, "join"])
def test_each_type_is_refused_as_any_other(signed_as: str) -> None:
    """What was signed as one type is refused as every other, even with its type field changed."""
    document = SAMPLES.get(signed_as, SAMPLES["receipt"])
    signer = key("somebody")
    signature = signer.sign(signature_input(signed_as, document.signed))
    for offered in TYPES:
        good = verify(signer.public, signature, signature_input(offered, document.signed))
        assert good == (signed_as == offered)
        if document.type != offered:
            with pytest.raises(DocumentRefused) as caught:
                parse_document(document.encode(), DOCUMENT_TYPES[offered])
            assert caught.value.reason == "wrong-type"
            changed = document.signed | {"type": offered}
            assert not verify(signer.public, signature, signature_input(offered, changed))


@pytest.mark.parametrize("kind", TYPES)
def test_every_field_is_needed_and_no_other_taken(kind: str) -> None:
    """A missing field, a null and an unknown field are refused in every type."""
    struct = DOCUMENT_TYPES[kind]
    whole = SAMPLES[kind].as_dict()
    optional = {"network_id", "previous"} if kind == "genesis" else {"min_version"}
    for name in whole["signed"]:
        for change in ("missing", "null"):
            value = copy.deepcopy(whole)
            if change == "null":
                value["signed"][name] = None
            elif name not in optional:
                del value["signed"][name]
            else:
                continue
            with pytest.raises(DocumentRefused):
                document_from_dict(value, struct)
    value = copy.deepcopy(whole)
    value["signed"]["more"] = 1
    with pytest.raises(DocumentRefused, match="unknown field"):
        document_from_dict(value, struct)


@pytest.mark.parametrize("kind", TYPES)
def test_numbers_are_not_words(kind: str) -> None:
    """No field takes a number for a text, a text for a number or true for 1."""
    whole = SAMPLES[kind].as_dict()
    for name, content in whole["signed"].items():
        wrong = [str(content)] if isinstance(content, int) else [7]
        wrong += [True] if isinstance(content, int) else []
        for replacement in wrong:
            value = copy.deepcopy(whole)
            value["signed"][name] = replacement
            with pytest.raises(DocumentRefused):
                document_from_dict(value, DOCUMENT_TYPES[kind])


@pytest.mark.parametrize(
    "signatures",
    [
        None,
        {},
        [{}],
        [{"key_id": "0" * 32}],
        [{"key_id": "0" * 32, "signature": "A" * 85}],
        [{"key_id": "0" * 32, "signature": "A" * 85 + "="}],
        [{"key_id": "0" * 32, "signature": "A" * 85 + "B"}],
        [{"key_id": "0" * 31 + "G", "signature": "A" * 86}],
        [{"key_id": "0" * 32 + "\n", "signature": "A" * 86}],
        [{"key_id": "0" * 32, "signature": "A" * 86, "more": 1}],
        [{"key_id": "0" * 32, "signature": "A" * 86}] * 2,
        [{"key_id": f"{n:032x}", "signature": "A" * 86} for n in range(17)],
    ],
)
def test_malformed_signatures(signatures: Any) -> None:
    """Signatures have one form, each key_id once and at most 16 of them."""
    with pytest.raises(DocumentRefused):
        document_from_dict(SAMPLES["certificate"].as_dict() | {"signatures": signatures}, Certificate)


def test_envelope() -> None:
    """The file form has two members, both needed."""
    value = SAMPLES["certificate"].as_dict()
    bad: list[Any] = [{}, [], None, value | {"more": 1}, {"signed": value["signed"]}]
    bad += [value | {"signed": []}, value | {"signed": {}}]
    for wrong in bad:
        with pytest.raises(DocumentRefused):
            document_from_dict(wrong, Certificate)


def test_too_large() -> None:
    """Each type has its own size limit, also when the type is read from the bytes."""
    data = SAMPLES["certificate"].encode() + b" " * DOCUMENT_LIMITS["certificate"]
    for read in (lambda: parse_document(data, Certificate), lambda: parse_any_document(data)):
        with pytest.raises(DocumentRefused) as caught:
            read()
        assert caught.value.reason == "too-large"


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a.b", "a_b", "ä", "a\n", "a" * 64, "a b", "\u0430"])
def test_names_in_documents(name: str) -> None:
    """Names are ASCII letters, digits and inner dashes, at most 63."""
    with pytest.raises(DocumentRefused):
        NETWORK.certificate(name=name)


@pytest.mark.parametrize("name", ["a", "0", "a-b", "a--b", "a" * 63])
def test_good_names(name: str) -> None:
    """What a DNS label may be, a node name may be."""
    assert NETWORK.certificate(name=name).body.name == name


@pytest.mark.parametrize(
    "roles", [(), ("admin",), ("service:",), ("service:A",), ("relay", "relay"), ("Relay",)]
)
def test_field_t18_roles(roles: tuple[str, ...]) -> None:
    """Roles are a closed list, each once, at least one."""
    with pytest.raises(DocumentRefused):
        NETWORK.certificate(roles=roles)


def test_certificate_names_its_node() -> None:
    """A certificate knows the node_id and the raw keys it certifies."""
    body = NETWORK.certificate("node").body
    assert (body.node_id, body.node_public) == (key("node").key_id, key("node").public)
    assert b64url_encode(body.noise_public) == body.noise_key


@pytest.mark.parametrize(
    "changes",
    [
        {"not_before": NOW, "not_after": NOW},
        {"serial": -1},
        {"serial": 2**53},
        {"node_key": "A" * 42},
        {"noise_key": "A" * 44},
        {"network_id": "A" * 32},
    ],
)
def test_certificate_fields(changes: dict[str, Any]) -> None:
    """A certificate ends after it begins, and its numbers and keys have their form."""
    with pytest.raises(DocumentRefused):
        NETWORK.certificate(**changes)


SMALL_ORDER_KEY = b64url_encode(b"\x01" + bytes(31))


@pytest.mark.parametrize(
    "changes",
    [
        {"network_id": None},
        {"previous": None},
        {"previous": "0" * 63},
        {"roots": ("root",), "threshold": 2},
        {"roots": ("root", "root")},
        {"roots": ()},
        {"roots": ("root",), "threshold": 0},
        {"authority": ("authority", "authority")},
        {"authority": ()},
        {"authority": ("root",)},
        {"suites": ()},
        {"suites": ("Noise_XX_25519_ChaChaPoly_SHA256",) * 2},
        {"suites": ("Noise_NN_25519_ChaChaPoly_SHA256",)},
        {"authority_urls": ("ftp://authority",)},
        {"authority_urls": ("http://user@authority",)},
        {"authority_urls": ("http://authority/?a=1",)},
        {"version": 0},
        {"issued_at": NOW, "expires_at": NOW},
    ],
)
def test_genesis_fields(changes: dict[str, Any]) -> None:
    """A genesis that contradicts itself cannot be made, hence not be read."""
    with pytest.raises(DocumentRefused):
        NETWORK.next_genesis(keep=False, **changes)


def test_keys_in_documents() -> None:
    """A small-order key is refused as root, authority and operator."""
    genesis = NETWORK.genesis.as_dict()
    for path in (("root", "keys"), ("authority",)):
        value = copy.deepcopy(genesis)
        if path == ("authority",):
            value["signed"]["authority"][0]["key"] = SMALL_ORDER_KEY
        else:
            value["signed"]["root"]["keys"] = [SMALL_ORDER_KEY]
        with pytest.raises(DocumentRefused) as caught:
            document_from_dict(value, Genesis)
        assert caught.value.reason == "bad-key"
    value = copy.deepcopy(SAMPLES["policy"].as_dict())
    value["signed"]["operators"][0]["key"] = SMALL_ORDER_KEY
    with pytest.raises(DocumentRefused) as caught:
        document_from_dict(value, Policy)
    assert caught.value.reason == "bad-key"


@pytest.mark.parametrize(
    "rule",
    [
        {"sources": ("node:A",)},
        {"sources": ("role:admin",)},
        {"sources": ()},
        {"to": ("relay",)},
        {"services": ("a b",)},
        {"services": ()},
        {"effect": "maybe"},
    ],
)
def test_policy_rules(rule: dict[str, Any]) -> None:
    """Selectors are *, role:R and node:NAME; services exact or *."""
    fields: dict[str, Any] = {"effect": "allow", "sources": ("*",), "to": ("*",), "services": ("*",)}
    with pytest.raises(DocumentRefused):
        NETWORK.policy(rules=(Rule(**(fields | rule)),))


def test_policy_spells_from() -> None:
    """In the document, the sources of a rule are called "from"."""
    assert SAMPLES["policy"].signed["rules"][0].keys() == {"effect", "from", "to", "services"}


def test_who_may_command() -> None:
    """A role suffices for what it or a lower role may do, and unlisted commands are nobody's."""
    policy = NETWORK.policy(
        control={"policy_update": "read", "reload": "operate", "shutdown": "administer"}
    ).body
    assert policy.may_command("read", "policy-update")
    assert policy.may_command("administer", "reload")
    assert not policy.may_command("operate", "shutdown")
    assert not policy.may_command("administer", "unlisted")
    assert not policy.may_command(None, "reload")


@pytest.mark.parametrize(
    "target",
    [
        CommandTarget(),
        CommandTarget(all=False),
        CommandTarget(all=True, node="a"),
        CommandTarget(role="relay", node="a"),
    ],
)
def test_command_target(target: CommandTarget) -> None:
    """A command has exactly one target."""
    with pytest.raises(DocumentRefused, match="exactly one"):
        NETWORK.command(target=target)


def test_command_concerns() -> None:
    """All nodes, those of a role, or the one named."""
    assert NETWORK.command(target=CommandTarget(all=True)).body.concerns("a", ["client"])
    assert NETWORK.command(target=CommandTarget(role="relay")).body.concerns("a", ["relay"])
    assert not NETWORK.command(target=CommandTarget(role="relay")).body.concerns("a", ["client"])
    assert NETWORK.command(target=CommandTarget(node="a")).body.concerns("a", [])
    assert not NETWORK.command(target=CommandTarget(node="a")).body.concerns("b", ["relay"])


@pytest.mark.parametrize("arguments", [{"a": 1.5}, {"A": 1}, {"a": [None]}, {"a": "\n"}, {"a": 2**53}])
def test_command_arguments(arguments: dict[str, Any]) -> None:
    """Free arguments obey the restricted form, too."""
    with pytest.raises(DocumentRefused):
        NETWORK.command(arguments=arguments)


@pytest.mark.parametrize(
    "revoked",
    [
        [[2, NOW, 0], [1, NOW, 0]],
        [[1, NOW, 0], [1, NOW, 0]],
        [[1, NOW]],
        [[1, NOW, 0, 0]],
        [[1, NOW, 256]],
        [1],
    ],
)
def test_crl_entries(revoked: list[Any]) -> None:
    """Entries ascend by serial, one each, and have three members."""
    value = copy.deepcopy(SAMPLES["crl"].as_dict())
    value["signed"]["revoked"] = revoked
    with pytest.raises(DocumentRefused):
        document_from_dict(value, Crl)


def test_reasons() -> None:
    """Revocation reasons have the words and numbers of RFC 5280."""
    assert RevocationReason.from_slug("key-compromise") is RevocationReason.KEY_COMPROMISE
    assert RevocationReason.KEY_COMPROMISE == 1 and RevocationReason.PRIVILEGE_WITHDRAWN == 9
    with pytest.raises(DocumentRefused, match="cessation-of-operation"):
        RevocationReason.from_slug("boredom")


def test_add_signature() -> None:
    """A second signer is added, the same signer again replaces its signature."""
    document = sign_document(NETWORK.genesis.body, [])
    assert document.signatures == ()
    for name, count in (("one", 1), ("two", 2), ("one", 2)):
        document = add_signature(document, key(name))
        assert len(document.signatures) == count
    assert parse_document(document.encode(), Genesis) == document


def test_many_are_signed_as_each_alone() -> None:
    """Ed25519 leaves no choice: in order, the very bytes; one that readers would refuse has all refused."""
    bodies = [msgspec.structs.replace(SAMPLES["certificate"].body, serial=serial) for serial in (5, 7)]
    signers = [key("one"), key("two")]
    together = sign_documents(bodies, signers)
    for document in together:
        data = b"gmesh-signature-v1\0certificate\0" + rfc8785.dumps(document.signed)
        alone = [nacl.signing.SigningKey(signer.seed).sign(data).signature for signer in signers]
        assert [signature for _, signature in document.signatures] == alone
    assert [each.encode() for each in together] == [sign_document(body, signers).encode() for body in bodies]
    assert [each.body.serial for each in together] == [5, 7] and sign_documents([], signers) == []
    bad = msgspec.structs.replace(bodies[0], serial=-1)
    with pytest.raises(DocumentRefused):
        sign_documents([bodies[0], bad], signers)


def test_frozen() -> None:
    """A body cannot be changed after it was read."""
    with pytest.raises(AttributeError):
        SAMPLES["certificate"].body.name = "other"


CHANGES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just([]) | st.just({})
)


def paths(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [prefix, *(path for name, inner in items for path in paths(inner, (*prefix, name)))]


@given(st.sampled_from(TYPES), st.data())
def test_any_change_is_read_or_refused(kind: str, data: st.DataObject) -> None:
    """One place of a document replaced by anything: read or DocumentRefused, and never both digests equal."""
    value = copy.deepcopy(SAMPLES[kind].as_dict())
    path = data.draw(st.sampled_from([path for path in paths(value) if path]))
    place = value
    for step in path[:-1]:
        place = place[step]
    before = place[path[-1]]
    place[path[-1]] = data.draw(CHANGES)
    text = json.dumps(value).encode("utf-8", "surrogatepass")
    struct: type[Body] = DOCUMENT_TYPES[kind]
    try:
        read = parse_document(text, struct)
    except DocumentRefused:
        return
    same = place[path[-1]] == before and type(place[path[-1]]) is type(before)
    assert (read == SAMPLES[kind]) == same


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    """Random bytes are never a document and never crash."""
    for struct in DOCUMENT_TYPES.values():
        with pytest.raises(DocumentRefused):
            parse_document(data, struct)
    with pytest.raises(DocumentRefused):
        parse_any_document(data)
