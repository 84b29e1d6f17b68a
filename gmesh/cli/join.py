# SPDX-License-Identifier: MIT
"""C{gmesh join}: this host's keys, the network the invite means, and a certificate for them."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from pathlib import Path

import click

from gmesh.cli.authority import RemoteAuthority, audience_of
from gmesh.cli.http import HttpAnswer, HttpRefused
from gmesh.cli.output import moment, words
from gmesh.errors import ConfigurationError, DocumentRefused, PeerRefused
from gmesh.files import KEY_MODE, read_capped, read_key_file, write_atomic
from gmesh.trust.documents import Certificate, Document, document_from_dict
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.ingest import parse_json
from gmesh.trust.invite import Invite
from gmesh.trust.join import make_join_request
from gmesh.trust.keys import NoiseKey, SigningKey, noise_keys_from_pem
from gmesh.trust.limits import MAX_INVITE, NONCE_SIZE
from gmesh.trust.requests import JOIN_TAG
from gmesh.trust.state import TrustState

__all__ = ["enrol", "enrolled", "join"]

DIRECTORY_MODE = 0o700
MAX_JOIN_ANSWER = 64 * 1024
MAX_SEED = 64 * 1024
#: Why a certificate is worth no more than none.
ENDED = frozenset({"expired", "revoked"})


def host_keys(directory: Path) -> tuple[SigningKey, NoiseKey]:
    """
    The keys of this host, made and written on the first call: a retried join offers the same ones.

    @raise ConfigurationError: if a key file cannot be used.
    """
    identity, noise = directory / "identity.key", directory / "noise.key"
    if not identity.exists():
        write_atomic(identity, SigningKey.generate().to_pem(), KEY_MODE)
    if not noise.exists():
        write_atomic(noise, NoiseKey.generate().to_pem(), KEY_MODE)
    try:
        return SigningKey.from_pem(read_key_file(identity)), noise_keys_from_pem(read_key_file(noise))[-1]
    except DocumentRefused as error:
        raise ConfigurationError(
            "bad-key-file", f"a key in {directory} cannot be read: {error.detail}"
        ) from error


def enrol(invite: Invite, directory: Path, authority: RemoteAuthority) -> Document[Certificate]:
    """
    Enrol this host and fill its state directory; the certificate comes last, and makes it complete.

    @raise DocumentRefused: if the authority does not show the network that the invite means.
    @raise HttpRefused: if the authority does not admit this host.
    """
    from gmesh.node.identity_store import IdentityStore

    node_key, noise_key = host_keys(directory)
    chain = authority.genesis_chain()
    invite.check_chain(chain, authority.wall())
    trust = authority.beliefs(invite.network_id, chain)
    answer = _ask(invite, node_key, noise_key, authority, trust)
    if answer.status == 202:
        raise HttpRefused(
            "pending", "an operator has to approve this host: run the same command again later", 202, {}
        )
    value = parse_json(answer.body, MAX_JOIN_ANSWER)
    certificate = document_from_dict(value.get("certificate"), Certificate)
    trust.judge_certificate(certificate, authority.wall())
    ours = (b64url_encode(node_key.public), b64url_encode(noise_key.public))
    if (certificate.body.node_key, certificate.body.noise_key) != ours:
        raise DocumentRefused("wrong-key", "the authority certified other keys than ours")
    store = IdentityStore(directory)
    for document in (*chain, trust.crl, trust.policy, trust.status):
        if document is not None:
            store.save_document(document)
    store.save_floors(trust.to_floors())
    write_atomic(directory / "authority.json", json.dumps({"urls": list(invite.urls)}).encode() + b"\n")
    store.save_document(certificate)
    return certificate


def _ask(
    invite: Invite, node_key: SigningKey, noise_key: NoiseKey, authority: RemoteAuthority, trust: TrustState
) -> HttpAnswer:
    now = int(authority.wall())
    audience = audience_of(trust, now)

    def ask(created: int) -> HttpAnswer:
        request = make_join_request(
            invite, node_key, noise_key.public, trust.network_id, created, authority.entropy(NONCE_SIZE)
        )
        return authority.signed(node_key, "POST", "/join", request.encode(), audience, JOIN_TAG, created)

    try:
        return ask(now)
    except HttpRefused as error:
        theirs = error.problem.get("time")
        status = trust.status
        if error.reason != "stale" or not isinstance(theirs, int) or status is None:
            raise
        if not status.body.issued_at <= theirs <= status.body.expires_at:
            raise
        return ask(theirs)


def enrolled(directory: Path, invite: Invite, now: float) -> Document[Certificate] | None:
    """
    The certificate that this host has already; None if it needs one: it has none, or one that has ended.

    @raise ConfigurationError: if it is a member of another network, or its files are damaged.
    """
    from gmesh.node.identity_store import IdentityStore

    try:
        identity = IdentityStore(directory).load()
    except ConfigurationError as error:
        if error.reason == "not-enrolled":
            return None
        raise
    if identity.network_id != invite.network_id:
        raise ConfigurationError(
            "other-network", f"{directory} belongs to another network than the invite: name another directory"
        )
    trust = TrustState(identity.network_id, identity.genesis_chain)
    for document in identity.documents:
        # What is not believed here is no reason to enrol again: the daemon sees to it.
        with suppress(DocumentRefused):
            trust.offer(document, now)
    try:
        trust.judge_certificate(identity.certificate, now)
    except PeerRefused as error:
        if error.reason in ENDED:
            return None
    return identity.certificate


def _seed_text(seed: Path) -> str:
    """The invite that an image builder placed, without blank lines and comments."""
    try:
        text = read_capped(seed, MAX_SEED).decode("ascii")
    except UnicodeDecodeError as error:
        raise ConfigurationError("bad-seed", f"{seed} holds no invite") from error
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) != 1:
        raise ConfigurationError("bad-seed", f"{seed} must hold one line with one invite")
    return lines[0]


def _use_up(seed: Path) -> None:
    try:
        seed.unlink()
    except OSError as error:
        raise ConfigurationError(
            "seed-left", f"enrolled, but {seed} cannot be removed: {error.strerror}: remove it"
        ) from error


@click.command()
@click.argument("invite", required=False)
@click.option(
    "--seed",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Read the invite from FILE and remove FILE after success: for a first boot without hands.",
)
@click.option(
    "--state",
    metavar="DIR",
    required=True,
    envvar="GMESH_STATE",
    show_envvar=True,
    help="Where the node keeps its state.",
)
def join(invite: str | None, seed: Path | None, state: str) -> None:
    """
    Enrol this host with INVITE, or with what standard input holds if it is -.

    The keys are made here and never leave DIR.  The same command again, after an answer was
    lost, gets the same certificate; an enrolled host spends nothing, unless its certificate was
    revoked or has expired.
    """
    if (invite is None) == (seed is None):
        raise click.UsageError("give INVITE or --seed FILE")
    if seed is not None:
        text = _seed_text(seed)
    else:
        text = sys.stdin.read(MAX_INVITE + 1) if invite == "-" else str(invite)
    parsed = Invite.parse(text)
    directory = Path(state)
    try:
        directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            "unusable-directory", f"cannot create {directory}: {error.strerror}"
        ) from error
    certificate = enrolled(directory, parsed, time.time())
    how = "Already enrolled as"
    if certificate is None:
        certificate = enrol(parsed, directory, RemoteAuthority(parsed.urls, time.time))
        how = "Enrolled as"
    if seed is not None:
        _use_up(seed)
    body = certificate.body
    node_id = SigningKey.from_pem(read_key_file(directory / "identity.key")).key_id
    click.echo(f"{how} {body.name} ({words(body.roles)}), node id {node_id},")
    click.echo(f"certificate {body.serial} until {moment(body.not_after)}; renewed by the daemon:")
    click.echo(f"  twistd -n --pidfile= gmesh-node --state {directory}")
