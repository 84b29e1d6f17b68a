# SPDX-License-Identifier: MIT
"""
C{gmesh genesis}: the offline ceremony.  Nothing here opens a connection.

One person makes the unsigned genesis; each root holder reviews it and signs on their own machine;
anybody collects the signatures and checks that they are enough.
"""

from __future__ import annotations

import hmac
import sys
import time
from pathlib import Path

import click

from gmesh.cli.admissions import admit
from gmesh.cli.ceremony_log import TRANSCRIPT, CeremonyLog
from gmesh.cli.genesis_input import (
    check_genesis_out,
    check_previous,
    check_signature_out,
    read_detached,
    read_genesis,
    read_input,
    read_previous,
)
from gmesh.cli.genesis_review import as_json as genesis_json
from gmesh.cli.genesis_review import network_of, print_quorums, review
from gmesh.cli.groups import Group
from gmesh.cli.host_clock import check_clock
from gmesh.cli.options import identifier, json_option, passphrase_option, public_key, seconds
from gmesh.cli.output import print_json
from gmesh.errors import ConfigurationError, DocumentRefused
from gmesh.files import write_atomic
from gmesh.keyfiles import Passphrases, load_key
from gmesh.trust.ceremony import (
    attach,
    first_genesis,
    next_genesis,
    quorums,
    rotate_authority,
    sign_detached,
)
from gmesh.trust.documents import Document, Genesis
from gmesh.trust.selfcheck import self_check
from gmesh.trust.verify import root_keys, verify_next_genesis

__all__ = ["genesis"]

DIGEST_CHARACTERS = 16  # 64 bits: an attacker who wants another genesis with the same must try 2^64
_file = click.Path(path_type=Path)
_previous_option = click.option(
    "--previous", metavar="FILE", type=_file, help="The signed genesis of the version before."
)
_out_option = click.option("--out", metavar="FILE", type=_file, required=True, help="Where to write.")
_transcript_option = click.option(
    "--transcript",
    metavar="FILE",
    type=_file,
    help=f"Where to note what was done. [default: {TRANSCRIPT} beside the file written]",
)


@click.group(cls=Group)
def genesis() -> None:
    """
    Make, sign and check the genesis, offline.

    The genesis says what a network is and which key speaks for it.  Root keys sign it, each
    on the machine of its holder; no command here uses the network.
    """


genesis.add_command(admit)


def _write_unsigned(
    document: Document[Genesis], previous: Document[Genesis] | None, out: Path, transcript: CeremonyLog
) -> None:
    if out.exists():
        raise ConfigurationError("exists", f"{out} exists: a ceremony never writes over a genesis")
    write_atomic(out, document.encode())
    transcript.wrote(out, document.encode())
    transcript.note(version=document.body.version, digest=document.digest, network_id=network_of(document))
    transcript.close()
    review(document, previous)
    click.echo(f"\nWritten, unsigned: {out}")


@genesis.command()
@click.argument("source", metavar="INPUT", type=_file)
@_out_option
@_previous_option
@_transcript_option
def create(source: Path, out: Path, previous: Path | None, transcript: Path | None) -> None:
    """
    Make the unsigned genesis that INPUT describes.

    INPUT is a TOML file with network, root {threshold, keys}, [[authority]] {key},
    [[anchors]] {name, address}, authority_urls and, if a second key admits members,
    admission {keys, required_from}.  With --previous it makes the next version:
    what INPUT does not name stays as it was.
    """
    notes = CeremonyLog(transcript or out.parent / TRANSCRIPT, "create")
    data, fields = read_input(source)
    notes.read(source, data)
    before = read_previous(previous, notes)
    now = int(time.time())
    check_clock(now)
    try:
        document = first_genesis(fields, now) if before is None else next_genesis(before, now, fields)
    except DocumentRefused as error:
        raise ConfigurationError(error.reason, f"{source}: {error.detail}") from error
    _write_unsigned(document, before, out, notes)


@genesis.command()
@click.argument("current", metavar="GENESIS", type=_file)
@_out_option
@click.option("--authority-key", "key", metavar="PUBLIC", help="The new key of the authority.")
@click.option(
    "--overlap",
    metavar="SPAN",
    default="48h",
    show_default=True,
    help="How long after now the new key begins to sign; the genesis must have reached every node by then.",
)
@click.option("--drop", metavar="KEY_ID", multiple=True, help="An authority key to stop believing.")
@click.option("--stolen", is_flag=True, help="List the new key alone, from now on.")
@_transcript_option
def rotate(
    current: Path,
    out: Path,
    key: str | None,
    overlap: str,
    drop: tuple[str, ...],
    stolen: bool,
    transcript: Path | None,
) -> None:
    """
    Make the unsigned genesis that follows GENESIS with another authority key.

    First --authority-key: both keys are listed, and the authority signs with the new one once the
    overlap has ended.  Later, when the last certificate of the old one has ended, --drop it.  After a
    theft --stolen: no overlap, and every node renews.
    """
    if key is None and not drop:
        raise click.UsageError("give --authority-key, or --drop")
    notes = CeremonyLog(transcript or out.parent / TRANSCRIPT, "rotate")
    before = read_previous(current, notes)
    assert before is not None
    now = int(time.time())
    document = rotate_authority(
        before,
        now,
        add=None if key is None else public_key(key),
        valid_from=None if stolen else now + seconds(overlap),
        drop=drop,
        stolen=stolen,
    )
    _write_unsigned(document, before, out, notes)


@genesis.command()
@click.argument("source", metavar="GENESIS", type=_file)
@click.option("--key", metavar="FILE", type=_file, required=True, help="The root key that signs.")
@_out_option
@_previous_option
@click.option("--digest", help="The digest that was agreed on; without it a terminal asks.")
@passphrase_option
@_transcript_option
def sign(
    source: Path,
    key: Path,
    out: Path,
    previous: Path | None,
    digest: str | None,
    passphrase_file: Path | None,
    transcript: Path | None,
) -> None:
    """
    Review GENESIS and sign it with a root key; writes a detached signature.

    Everything is printed before the key is opened.  Compare the digest with the other holders
    over another channel: you type it, or give it with --digest.
    """
    notes = CeremonyLog(transcript or out.parent / TRANSCRIPT, "sign")
    notes.note(self_check=self_check())
    document = read_genesis(source, notes)
    before = read_previous(previous, notes)
    check_previous(document, before)
    if before is not None:
        _check_follows(before, document)
    check_signature_out(out)
    review(document, before)
    _confirm(document.digest, digest)
    signer = load_key(key, Passphrases(passphrase_file))
    believed = root_keys(document.body) | (root_keys(before.body) if before is not None else {})
    if signer.key_id not in believed:
        raise ConfigurationError(
            "unknown-key", f"{key} ({signer.key_id}) is none of the root keys of this genesis"
        )
    detached = sign_detached(document, signer).encode()
    write_atomic(out, detached)
    notes.wrote(out, detached)
    notes.note(version=document.body.version, digest=document.digest, signer=signer.key_id)
    notes.close()
    click.echo(f"\nSigned by {signer.key_id}: {out}")


def _check_follows(before: Document[Genesis], document: Document[Genesis]) -> None:
    """All that can be checked of the step from one version to the next before it is signed."""
    try:
        verify_next_genesis(before, document)
    except DocumentRefused as error:
        if error.reason not in ("unknown-key", "bad-signature"):
            raise


def _confirm(expected: str, given: str | None) -> None:
    if given is None:
        if not sys.stdin.isatty():
            raise ConfigurationError("unconfirmed", "give --digest, the digest that was agreed on")
        given = click.prompt(
            f"\nType the first {DIGEST_CHARACTERS} characters of the digest you agreed on"
        ).strip()
    given = given.lower()
    if len(given) < DIGEST_CHARACTERS:
        raise ConfigurationError(
            "wrong-digest", f"nothing is signed: give {DIGEST_CHARACTERS} characters of the digest or more"
        )
    if not hmac.compare_digest(expected[: len(given)], given):
        raise ConfigurationError("wrong-digest", f"nothing is signed: the digest here is {expected}")


@genesis.command()
@click.argument("source", metavar="GENESIS", type=_file)
@click.argument("detached", metavar="[SIGNATURE]...", nargs=-1, type=_file)
@_previous_option
@click.option("--network-id", "network", help="The network it must belong to.")
@click.option("--out", metavar="FILE", type=_file, help="Write the signed genesis, if enough have signed.")
@json_option
@_transcript_option
def verify(
    source: Path,
    detached: tuple[Path, ...],
    previous: Path | None,
    network: str | None,
    out: Path | None,
    as_json: bool,
    transcript: Path | None,
) -> None:
    """
    Check GENESIS with the signatures in it and in the files given; report who is missing.

    With --out the signed genesis is written, to be published or given to "gmesh init --genesis".
    """
    notes = CeremonyLog(transcript or (out or source).parent / TRANSCRIPT, "verify")
    notes.note(self_check=self_check())
    if network is not None:
        identifier(network)
    document = read_genesis(source, notes)
    before = read_previous(previous, notes)
    check_previous(document, before)
    if out is not None:
        check_genesis_out(out, document)
    document = attach(document, [read_detached(path, notes) for path in detached], before)
    if as_json:
        print_json(genesis_json(document, before))
    else:
        review(document, before)
        click.echo()
        print_quorums(document, before)
    verify_next_genesis(before, document, network, time.time())
    notes.note(version=document.body.version, digest=document.digest)
    notes.note(signed_by=sorted({name for quorum in quorums(document, before) for name in quorum.signed}))
    if out is not None:
        write_atomic(out, document.encode())
        notes.wrote(out, document.encode())
    if out is not None or transcript is not None:
        notes.close()
    if not as_json:
        click.echo(f"\nGood: enough root keys have signed.{f'  Written: {out}' if out else ''}")


@genesis.command()
@click.argument("source", metavar="GENESIS", type=_file)
@_previous_option
@click.option("--digest", "only_digest", is_flag=True, help="Only the digest, to be read out to the others.")
@json_option
def show(source: Path, previous: Path | None, only_digest: bool, as_json: bool) -> None:
    """Print what GENESIS says, and who has signed it."""
    document, before = read_genesis(source), read_previous(previous)
    if only_digest:
        return click.echo(document.digest)
    if as_json:
        return print_json(genesis_json(document, before))
    review(document, before)
    click.echo()
    print_quorums(document, before)
