# SPDX-License-Identifier: MIT
"""C{gmesh join}: this host's keys, the network the invite means, and a certificate for them."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gmesh.cli.authority import RemoteAuthority, audience_of
from gmesh.cli.host_clock import wrong_clock
from gmesh.cli.http import HttpAnswer, HttpRefused
from gmesh.cli.next_step import listen_endpoint, node_start
from gmesh.cli.options import patience_option, seconds
from gmesh.cli.output import moment, words
from gmesh.cli.patience import Patience
from gmesh.cli.proxied import proxy_options
from gmesh.errors import ConfigurationError, DocumentRefused, PeerRefused
from gmesh.files import KEY_MODE, check_owner, read_capped, read_key_file, write_atomic
from gmesh.trust.documents import Certificate, Document, Genesis, document_from_dict, parse_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.invite import Invite
from gmesh.trust.join import make_join_request
from gmesh.trust.keys import NoiseKey, SigningKey, noise_keys_from_pem
from gmesh.trust.limits import DOCUMENT_LIMITS, MAX_INVITE, NONCE_SIZE
from gmesh.trust.restricted_json import parse_json
from gmesh.trust.signed_requests import JOIN_TAG
from gmesh.trust.state import TrustState
from gmesh.trust.transport_address import read_address

if TYPE_CHECKING:
    from gmesh.cli.anchor_link import AnchorLink

__all__ = ["enrol", "enrol_alone", "enrolled", "host_keys", "join"]

DIRECTORY_MODE = 0o700
LOCK = "join.lock"
LOCK_PAUSE = 1.0
MAX_JOIN_ANSWER = 64 * 1024
MAX_SEED = 64 * 1024
#: Why a certificate is worth no more than none.
ENDED = frozenset({"expired", "revoked"})
#: Answers after which no certificate was made, nor waits, for the keys of the request.
REFUSED = frozenset({"enrolment-refused", "name-taken", "key-taken", "cert-revoked", "network-full"})


def _key_files(directory: Path) -> tuple[Path, Path]:
    """Of the identity and of Noise."""
    return directory / "identity.key", directory / "noise.key"


def host_keys(directory: Path) -> tuple[SigningKey, NoiseKey]:
    """
    The keys of this host, made and written on the first call: a retried join offers the same ones.

    @raise ConfigurationError: if a key file cannot be used.
    """
    identity, noise = _key_files(directory)
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
    @raise ConfigurationError: C{wrong-clock}, if it does, but not at the time of this host.
    @raise HttpRefused: if the authority does not admit this host.
    """
    from gmesh.node.identity_store import IdentityStore

    chain = authority.genesis_chain()
    try:
        invite.check_chain(chain, authority.wall())
        trust = authority.beliefs(invite.network_id, chain)
    except DocumentRefused as error:
        clock = wrong_clock(invite, authority, chain)
        if clock is None:
            raise
        raise clock from error
    made = [path for path in _key_files(directory) if not path.exists()]
    node_key, noise_key = host_keys(directory)
    try:
        answer = _ask(invite, node_key, noise_key, authority, trust)
    except HttpRefused as error:
        if error.reason in REFUSED:
            for path in made:
                path.unlink()
        raise
    if answer.status == 202:
        raise HttpRefused(
            "pending",
            f"an operator has to approve or admit this host, node id {node_key.key_id}, and compares that"
            " first (gmesh admin enrolments): run the same command again later",
            202,
            {},
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
    audience = audience_of(trust, authority.wall())

    def ask(created: int) -> HttpAnswer:
        request = make_join_request(
            invite, node_key, noise_key.public, trust.network_id, created, authority.entropy(NONCE_SIZE)
        )
        return authority.signed_once(node_key, "POST", "/join", request.encode(), audience, JOIN_TAG, created)

    try:
        # Each time a request of its own; the authority takes one host's requests for one.
        return authority.patience.call(lambda: ask(int(authority.wall())))
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


def enrol_alone(
    invite: Invite, directory: Path, authority: RemoteAuthority
) -> tuple[Document[Certificate], bool]:
    """
    Enrol this host unless it is; of two at once the later one finds that it is, and spends nothing.

    @return: its certificate, and whether that is new.
    @raise ConfigurationError: C{in-use}, if another C{gmesh join} works there for longer than the
        authority's patience; C{other-owner}.
    """
    check_owner(directory, "a node")
    with _lock(directory, authority.patience):
        held = enrolled(directory, invite, authority.wall())
        return (held, False) if held is not None else (enrol(invite, directory, authority), True)


@contextmanager
def _lock(directory: Path, patience: Patience) -> Iterator[None]:
    path = directory / LOCK
    while True:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it before has removed the file meanwhile: then this one locks out nobody.
            if path.exists() and os.path.samestat(os.stat(path), os.fstat(descriptor)):
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return
        except BlockingIOError as error:
            busy = f"another gmesh join works on {directory}"
            if not patience.pause(LOCK_PAUSE, busy):
                raise ConfigurationError("in-use", f"{busy}: wait until it has ended") from error
        finally:
            os.close(descriptor)


def _invite_in(path: Path) -> Invite:
    """The invite that a file holds, without blank lines and comments."""
    try:
        text = read_capped(path, MAX_SEED).decode("utf-8")
        return Invite.parse("\n".join(line for line in text.splitlines() if not line.startswith("#")))
    except UnicodeDecodeError as error:
        raise ConfigurationError("bad-seed", f"{path} holds no invite") from error
    except DocumentRefused as error:
        raise ConfigurationError("bad-seed", f"{path} must hold one invite: {error.detail}") from error


def _given_invite(pieces: Sequence[str]) -> Invite:
    """The invite on the command line, in pieces where a blank got into it; on standard input; in a file."""
    if pieces == ("-",):
        if sys.stdin.isatty():
            click.echo("Paste the invite, then press Return and Ctrl-D:", err=True)
        return Invite.parse(sys.stdin.read(MAX_INVITE + 1))
    if len(pieces) == 1 and os.path.isfile(pieces[0]):
        return _invite_in(Path(pieces[0]))
    return Invite.parse("".join(pieces))


def _use_up(seed: Path) -> None:
    try:
        seed.unlink()
    except OSError as error:
        raise ConfigurationError(
            "seed-left", f"enrolled, but {seed} cannot be removed: {error.strerror}: remove it"
        ) from error


@click.command()
@click.argument("invite", metavar="[-|FILE|INVITE]", nargs=-1)
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
@click.option(
    "--anchor",
    "anchors",
    metavar="HOST:PORT",
    multiple=True,
    envvar="GMESH_ANCHOR",
    show_envvar=True,
    help="Ask by way of this anchor, and by no URL (repeatable).",
)
@patience_option
@proxy_options
def join(
    invite: tuple[str, ...], seed: Path | None, state: str, anchors: tuple[str, ...], timeout: str
) -> None:
    """
    Enrol this host with the invite on standard input if it is -, in a FILE, or given as INVITE.

    Every user of this host can read what is given as INVITE while the command runs; line breaks,
    blanks and quotes that got into an invite on its way do no harm.

    A host that does not reach the authority joins by way of an anchor whose operator allows that; none
    of what it sends tells the anchor the secret of the invite.

    The keys are made here and never leave DIR.  The same command again, after an answer was
    lost, gets the same certificate; an enrolled host spends nothing, unless its certificate was
    revoked or has expired.
    """
    if (not invite) == (seed is None):
        raise click.UsageError("give -, a file or an invite; or --seed FILE")
    parsed = _given_invite(invite) if seed is None else _invite_in(seed)
    directory = Path(state)
    try:
        directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            "unusable-directory", f"cannot create {directory}: {error.strerror}"
        ) from error
    with _anchor_links(parsed, anchors) as links:
        urls = () if anchors else parsed.urls
        authority = RemoteAuthority(urls, time.time, patience=Patience(seconds(timeout)), anchors=links)
        certificate, fresh = enrol_alone(parsed, directory, authority)
    how = "Enrolled as" if fresh else "Already enrolled as"
    if seed is not None:
        _use_up(seed)
    body = certificate.body
    node_id = SigningKey.from_pem(read_key_file(directory / "identity.key")).key_id
    click.echo(f"{how} {body.name} ({words(body.roles)}), node id {node_id},")
    click.echo(f"certificate {body.serial} until {moment(body.not_after)}; renewed by the daemon:")
    running = fresh and _daemon_runs(directory)
    if running:
        click.echo("A daemon runs there with the certificate it has started with. Restart it:")
    for line in node_start(directory, _listen(directory, body), again=running):
        click.echo(f"  {line}")
    for address in _unlisted(directory, anchors):
        click.echo(f"The genesis names no anchor at {address}: add --peer {address}, or peer in node.toml.")
    if not fresh:
        click.echo(
            "The invite was not used. If it is for another name than"
            f" {body.name}: revoke {body.name} first, or name another directory by --state."
        )


@contextmanager
def _anchor_links(invite: Invite, given: Sequence[str]) -> Iterator[Sequence[AnchorLink]]:
    """Those that are named on the command line; else those of the invite, which stand behind its URLs."""
    if not given and not invite.anchors:
        yield ()
        return
    from gmesh.cli.anchor_link import AnchorLink, anchor_address  # with Noise, which few need

    readable = []
    for place in invite.anchors:
        with suppress(ConfigurationError):  # of a form that a later version knows
            anchor_address(place)
            readable.append(place)
    links = [AnchorLink(place, invite, time.time) for place in given or readable]
    try:
        yield links
    finally:
        for link in links:
            link.close()


def _unlisted(directory: Path, anchors: Sequence[str]) -> list[str]:
    """Those of these addresses that the daemon does not know by the genesis."""
    listed = {read_address(anchor.endpoint) for anchor in _genesis(directory).anchors} if anchors else set()
    return [address for address in anchors if read_address(address, local=True) not in listed]


def _genesis(directory: Path) -> Genesis:
    return parse_document(read_capped(directory / "genesis.json", DOCUMENT_LIMITS["genesis"]), Genesis).body


def _daemon_runs(directory: Path) -> bool:
    """Whether a node holds the lock of its directory: L{gmesh.daemon.lock.StateLock}."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks of directories
        return False
    finally:
        os.close(descriptor)
    return False


def _listen(directory: Path, own: Certificate) -> str | None:
    """Where this node has to listen so that others find it as the genesis says; None if it need not."""
    if not {"anchor", "relay"} & set(own.roles):
        return None
    listed = [
        read_address(anchor.endpoint) for anchor in _genesis(directory).anchors if anchor.name == own.name
    ]
    return listen_endpoint(next(filter(None, listed), None))
