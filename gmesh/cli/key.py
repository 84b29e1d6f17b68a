# SPDX-License-Identifier: MIT
"""
C{gmesh key}: signing keys of people and of the authority, in the clear or sealed with a pass phrase.

Tests: C{tests/cli/test_genesis.py}, C{tests/cli/test_main.py}.
"""

from __future__ import annotations

from pathlib import Path

import click

from gmesh.cli.groups import Group
from gmesh.cli.options import json_option, passphrase_option
from gmesh.cli.output import print_json
from gmesh.errors import ConfigurationError
from gmesh.files import read_key_file
from gmesh.keyfiles import Passphrases, load_key, public_of, save_key
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import SigningKey, key_id
from gmesh.trust.sealed import is_sealed

__all__ = ["key"]

_file = click.argument("path", metavar="FILE", type=click.Path(path_type=Path))


@click.group(cls=Group)
def key() -> None:
    """Make and protect the keys of root holders, operators and the authority."""


@key.command()
@_file
@click.option("--protect", is_flag=True, help="Seal it with a pass phrase.")
@passphrase_option
def create(path: Path, protect: bool, passphrase_file: Path | None) -> None:
    """Make a new signing key in FILE and print its public half."""
    if path.exists():
        raise ConfigurationError("exists", f"{path} exists: a key is never written over")
    made = SigningKey.generate()
    save_key(path, made, Passphrases(passphrase_file).new(str(path)) if protect else None)
    click.echo(b64url_encode(made.public))


@key.command()
@_file
@click.option("--id", "as_id", is_flag=True, help="Print its key id instead.")
@passphrase_option
@json_option
def show(path: Path, as_id: bool, passphrase_file: Path | None, as_json: bool) -> None:
    """Print the public half of the key in FILE; a sealed key is not opened."""
    public = public_of(path, Passphrases(passphrase_file))
    if as_json:
        sealed = is_sealed(read_key_file(path))
        return print_json({"key": b64url_encode(public), "key_id": key_id(public), "sealed": sealed})
    click.echo(key_id(public) if as_id else b64url_encode(public))


@key.command()
@_file
@passphrase_option
@click.option(
    "--new-passphrase-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Holds the new pass phrase, where the key is sealed already.",
)
def protect(path: Path, passphrase_file: Path | None, new_passphrase_file: Path | None) -> None:
    """
    Seal the key in FILE with a pass phrase, or with another one.

    The file is replaced at once, but a disk may keep what was there: a key that has lain in
    the clear where others could read it is better replaced.
    """
    current = Passphrases(passphrase_file)
    sealed = is_sealed(read_key_file(path))
    held = load_key(path, current)
    fresh = Passphrases(new_passphrase_file) if new_passphrase_file or sealed else current
    save_key(path, held, fresh.new(str(path)))
    click.echo(f"{path} is sealed, key id {held.key_id}")
