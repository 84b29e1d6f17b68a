# SPDX-License-Identifier: MIT
"""
Whose signatures make a document believable.

Pure functions from documents, keys and C{now} to a verdict; L{gmesh.trust.state} remembers
what they found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from gmesh.errors import DocumentRefused
from gmesh.trust.documents import Body, Certificate, Command, CommandReceipt, Document, Genesis, Policy
from gmesh.trust.encoding import b64url_decode
from gmesh.trust.keys import KEY_ID_BYTES, KEY_SIZE, check_public, key_id, verify
from gmesh.trust.limits import CERTIFICATE_LEEWAY

__all__ = [
    "admission_keys",
    "authority_keys",
    "check_certificate",
    "check_command",
    "check_validity",
    "command_role",
    "network_id",
    "operator_roles",
    "root_keys",
    "verify_by_authority",
    "verify_command",
    "verify_genesis_chain",
    "verify_next_genesis",
    "verify_receipt",
    "verify_signatures",
    "verify_stored_chain",
]


def verify_signatures(
    document: Document[Body], keys: Mapping[str, bytes], threshold: int = 1
) -> frozenset[str]:
    """
    The keys of C{keys} that validly signed; signatures by other keys are ignored.

    @param keys: raw public keys by key_id.
    @raise DocumentRefused: C{unknown-key} if none of them signed at all, C{bad-signature} if fewer
        than C{threshold} did so validly.
    """
    candidates = [(signer, signature) for signer, signature in document.signatures if signer in keys]
    if not candidates:
        raise DocumentRefused("unknown-key", f"the {document.type} is not signed by any key believed here")
    data = document.signature_input
    good = frozenset(signer for signer, signature in candidates if verify(keys[signer], signature, data))
    if len(good) < threshold:
        raise DocumentRefused(
            "bad-signature",
            f"the {document.type} has {len(good)} good signatures of {threshold} needed",
        )
    return good


def network_id(first: Document[Genesis]) -> str:
    """The name of the network that begins with this genesis, version 1."""
    if first.body.version != 1:
        raise DocumentRefused("not-first", "a network is named after version 1 of its genesis")
    return first.digest[: 2 * KEY_ID_BYTES]


def root_keys(genesis: Genesis) -> dict[str, bytes]:
    """The root keys of a genesis by key_id."""
    return _by_key_id(genesis.root.keys)


def admission_keys(genesis: Genesis) -> dict[str, bytes]:
    """The keys by key_id that admit members beside the authority; none where the genesis names none."""
    return {} if genesis.admission is None else _by_key_id(genesis.admission.keys)


def authority_keys(genesis: Genesis, now: float | None = None) -> dict[str, bytes]:
    """The authority keys of a genesis by key_id; given C{now}, only those that may be believed then."""
    return _by_key_id(
        entry.key
        for entry in genesis.authority
        if now is None or entry.valid_from - CERTIFICATE_LEEWAY <= now <= entry.valid_to + CERTIFICATE_LEEWAY
    )


def operator_roles(policy: Policy) -> dict[str, tuple[bytes, str]]:
    """The operators of a policy: public key and role by key_id."""
    roles: dict[str, tuple[bytes, str]] = {}
    for operator in policy.operators:
        public = b64url_decode(operator.key, KEY_SIZE)
        roles[key_id(public)] = (public, operator.role)
    return roles


def verify_next_genesis(
    current: Document[Genesis] | None,
    document: Document[Genesis],
    network: str | None = None,
    now: float | None = None,
) -> None:
    """
    Check one step of the genesis chain: N+1 after N, or version 1 from nothing.

    @param network: the network_id that version 1 must have; None to take whatever it begins.
    @param now: if given, the document must not have expired by then; leave it out within a chain,
        for an old chain must stay walkable.
    @raise DocumentRefused: C{version-gap}, C{wrong-network}, C{wrong-previous}, C{unknown-key},
        C{bad-signature}, C{expired}.
    """
    body = document.body
    if current is None:
        if body.version != 1:
            raise DocumentRefused("version-gap", "a genesis chain starts at version 1")
        if network is not None and network_id(document) != network:
            raise DocumentRefused("wrong-network", "this genesis begins another network")
    else:
        expected = current.body.network_id or network_id(current)
        if body.version != current.body.version + 1:
            raise DocumentRefused(
                "version-gap",
                f"genesis {body.version} cannot follow {current.body.version}",
            )
        if body.network_id != expected or network not in (None, expected):
            raise DocumentRefused("wrong-network", "this genesis belongs to another network")
        if body.previous != current.digest:
            raise DocumentRefused("wrong-previous", "this genesis follows another one of the same version")
        verify_signatures(document, root_keys(current.body), current.body.root.threshold)
    verify_signatures(document, root_keys(body), body.root.threshold)
    if now is not None and now > body.expires_at + CERTIFICATE_LEEWAY:
        raise DocumentRefused("expired", f"genesis {body.version} has expired: fetch a newer one")


def verify_genesis_chain(
    chain: Sequence[Document[Genesis]], network: str | None, now: float | None = None
) -> Document[Genesis]:
    """
    Walk a whole chain from version 1 and return its newest genesis.

    @param network: the network_id it must begin with; None to take whatever it begins.
    @param now: if given, the newest one must not have expired by then.
    @raise DocumentRefused: as L{verify_next_genesis}; C{expired}; C{no-genesis} if it is empty.
    """
    newest: Document[Genesis] | None = None
    for position, document in enumerate(chain, 1):
        verify_next_genesis(newest, document, network, now if position == len(chain) else None)
        newest = document
    if newest is None:
        raise DocumentRefused("no-genesis", "an empty genesis chain")
    return newest


def verify_stored_chain(chain: Sequence[Document[Genesis]], network: str) -> list[Document[Genesis]]:
    """
    Check a chain this host has stored: from version 1, or from one that it had verified before.

    @raise DocumentRefused: as L{verify_genesis_chain}.
    """
    if not chain:
        raise DocumentRefused("no-genesis", "an empty genesis chain")
    first = chain[0]
    if first.body.version == 1:
        verify_next_genesis(None, first, network)
    elif first.body.network_id != network:
        raise DocumentRefused("wrong-network", "the stored genesis belongs to another network")
    else:
        verify_signatures(first, root_keys(first.body), first.body.root.threshold)
    for current, following in pairwise(chain):
        verify_next_genesis(current, following, network)
    return list(chain)


def verify_by_authority(document: Document[Body], genesis: Genesis, now: float) -> frozenset[str]:
    """
    The authority keys, listed in C{genesis} and valid at C{now}, that signed.

    @raise DocumentRefused: C{unknown-key} (also for a listed key outside its time), C{bad-signature}.
    """
    return verify_signatures(document, authority_keys(genesis, now))


def check_certificate(
    document: Document[Certificate],
    genesis: Genesis,
    network: str,
    now: float,
    leeway: int = CERTIFICATE_LEEWAY,
) -> frozenset[str]:
    """
    Check network, signature, keys and validity of a certificate, but not revocation.

    @return: the key_ids of the authority keys that signed.
    @raise DocumentRefused: C{wrong-network}, C{unknown-key}, C{bad-signature}, C{bad-key}, C{expired},
        C{not-yet-valid}.
    """
    body = document.body
    if body.network_id != network:
        raise DocumentRefused("wrong-network", f"the certificate of {body.name} belongs to another network")
    signers = verify_by_authority(document, genesis, now)
    check_public(body.node_public)
    check_validity(body, now, leeway)
    return signers


def check_validity(certificate: Certificate, now: float, leeway: int = CERTIFICATE_LEEWAY) -> None:
    """@raise DocumentRefused: C{expired} or C{not-yet-valid}, if the certificate does not hold at C{now}."""
    if now > certificate.not_after + leeway:
        late = int(now - certificate.not_after)
        raise DocumentRefused("expired", f"the certificate of {certificate.name} ended {late} s ago")
    if now < certificate.not_before - leeway:
        early = int(certificate.not_before - now)
        raise DocumentRefused(
            "not-yet-valid", f"the certificate of {certificate.name} starts in {early} s: compare the clocks"
        )


def verify_command(
    document: Document[Command], genesis: Genesis, policy: Policy | None, network: str, now: float
) -> str:
    """
    Who may have given this command, which the authority has countersigned: C{authority} if it names no
    operator and nobody else signed it, or the role of the operator that did.

    Whether this node is concerned, and has done it already, is for the caller to know.

    @raise DocumentRefused: C{wrong-network}, C{expired}; C{not-countersigned}, if no authority key believed
        here signed it; C{bad-signature}, C{unknown-key}, C{forbidden-role}.
    """
    check_command(document, network, now)
    authority = authority_keys(genesis, now)
    try:
        verify_signatures(document, authority)
    except DocumentRefused as error:
        if error.reason != "unknown-key":
            raise
        raise DocumentRefused(
            "not-countersigned", f"{document.body.command} is not signed by the authority, whoever gave it"
        ) from error
    if document.body.operator is None and all(signer in authority for signer, _ in document.signatures):
        return "authority"
    return command_role(document, policy)


def check_command(document: Document[Command], network: str, now: float) -> None:
    """@raise DocumentRefused: C{wrong-network} or C{expired}."""
    body = document.body
    if body.network_id != network:
        raise DocumentRefused("wrong-network", "a command for another network")
    if now > body.expires_at:
        raise DocumentRefused("expired", f"command {body.command} expired {int(now - body.expires_at)} s ago")


def command_role(document: Document[Command], policy: Policy | None) -> str:
    """
    The role of an operator who signed this command and may give it: of the one it names, if it names one.

    @raise DocumentRefused: C{unknown-key}, C{bad-signature}, C{forbidden-role}.
    """
    operators = operator_roles(policy) if policy is not None else {}
    named = document.body.operator
    keys = {signer: public for signer, (public, _) in operators.items() if named in (None, signer)}
    good = verify_signatures(document, keys)
    if policy is not None:
        for signer in good:
            role = operators[signer][1]
            if policy.may_command(role, document.body.command):
                return role
    raise DocumentRefused(
        "forbidden-role", f"no signer of {document.body.command} has a role that may give it"
    )


def verify_receipt(document: Document[CommandReceipt], node_public: bytes, network: str) -> None:
    """@raise DocumentRefused: unless the node with this identity key signed this receipt in this network."""
    if document.body.network_id != network:
        raise DocumentRefused("wrong-network", "a receipt from another network")
    verify_signatures(document, {key_id(node_public): node_public})


def _by_key_id(keys: Iterable[str]) -> dict[str, bytes]:
    publics = [b64url_decode(key, KEY_SIZE) for key in keys]
    return {key_id(public): public for public in publics}
