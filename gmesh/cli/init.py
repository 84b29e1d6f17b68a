# SPDX-License-Identifier: MIT
"""C{gmesh init}: the keys, the genesis and the directories of a new network, made in one go."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from gmesh.cli.host_clock import check_clock
from gmesh.cli.next_step import daemon, gmesh_command
from gmesh.cli.options import passphrase_option
from gmesh.errors import ConfigurationError
from gmesh.files import read_capped, write_atomic
from gmesh.keyfiles import Passphrases, key_text, load_key, write_key
from gmesh.trust.ceremony import first_genesis
from gmesh.trust.documents import Anchor, Document, Genesis, add_signature, parse_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import SigningKey
from gmesh.trust.limits import DOCUMENT_LIMITS
from gmesh.trust.names import Name, NetworkName, Url
from gmesh.trust.transport_address import FORMS, interface_fault, read_address
from gmesh.trust.verify import authority_keys, network_id, verify_genesis_chain

__all__ = ["adopt_network", "anchor_endpoint", "create_network", "init", "policy_text"]

DAY = 86_400
DEFAULT_URL = "http://127.0.0.1:8440"
DIRECTORY_MODE = 0o700


def policy_text() -> dict[str, Any]:
    """The first policy: everything is allowed among members, certificates live a day."""
    return {
        "certificate": {"default": DAY, "max": 30 * DAY, "renew_grace": 30 * DAY},
        "max_hops": 16,
        "max_nodes": 10_000,
        "rules": [{"effect": "allow", "from": ["*"], "to": ["*"], "services": ["*"]}],
        "control": {
            "policy_update": "operate",
            "revoke_certificate": "operate",
            "revoke_node": "operate",
            "update_bootstrap": "administer",
            "shutdown": "administer",
            "reload": "operate",
            "log_level": "operate",
            "ping_report": "read",
        },
        "stale_grace": 7 * DAY,
    }


def anchor_endpoint(address: str) -> str:
    """
    What a genesis says for an address as people write it: C{HOST:PORT}, C{[IPV6]:PORT} or a URL.

    @raise ConfigurationError: if it is none.
    """
    fault = interface_fault(address)
    if fault:
        raise ConfigurationError("bad-anchor", f"{address!r} cannot be used: {fault}")
    read = read_address(address)
    if read is not None:
        return read.endpoint
    host, _, port = address.rpartition(":")
    if ":" in host and read_address(f"[{host}]:{port}") is not None:
        raise ConfigurationError("bad-anchor", f"an IPv6 address stands in brackets: [{host}]:{port}")
    raise ConfigurationError("bad-anchor", f"{address!r} is not of the form {FORMS}")


def create_network(
    directory: Path,
    network: str,
    url: str,
    anchors: Sequence[Anchor],
    now: int,
    passphrases: Passphrases | None = None,
) -> Document[Genesis]:
    """
    Make the keys and the genesis of a network and write C{root}, C{authority} and C{operator}.

    @param directory: does not exist yet, or is empty.
    @param now: Unix seconds.
    @param passphrases: if given, the root's and the operator's key are sealed.
    @raise ConfigurationError: if the directory holds something.
    @raise DocumentRefused: if a name or address cannot stand in a genesis; nothing is then written.
    """
    root, authority, operator = (SigningKey.generate() for _ in range(3))
    unsigned = first_genesis(
        {
            "network": network,
            "root": {"keys": [b64url_encode(root.public)], "threshold": 1},
            "authority": [{"key": b64url_encode(authority.public)}],
            "anchors": [{"name": anchor.name, "endpoint": anchor.endpoint} for anchor in anchors],
            "authority_urls": [url],
        },
        now,
    )
    genesis = add_signature(unsigned, root)
    files = {"root/genesis.json": genesis.encode()} | _daemon_files(genesis, operator, url)
    keys = {"root/root.key": root, "authority/authority.key": authority, "operator/operator.key": operator}
    _fill(directory, files, keys, passphrases)
    return genesis


def adopt_network(
    directory: Path, genesis: Document[Genesis], authority: SigningKey, passphrases: Passphrases | None = None
) -> None:
    """
    Write C{authority} and C{operator} of a network whose genesis its root holders have signed.

    @raise ConfigurationError: if the directory holds something, or the genesis does not list the key.
    @raise DocumentRefused: if the genesis is not the signed first one of a network.
    """
    verify_genesis_chain([genesis], None)
    if authority.key_id not in authority_keys(genesis.body):
        raise ConfigurationError("unlisted-key", "the genesis does not list this authority key")
    if not genesis.body.authority_urls:
        raise ConfigurationError("no-url", "the genesis names no authority_urls: nobody would find it")
    operator = SigningKey.generate()
    files = _daemon_files(genesis, operator, *genesis.body.authority_urls)
    keys = {"authority/authority.key": authority, "operator/operator.key": operator}
    _fill(directory, files, keys, passphrases)


def _daemon_files(genesis: Document[Genesis], operator: SigningKey, *urls: str) -> dict[str, bytes]:
    operators = [{"key": b64url_encode(operator.public), "role": "administer", "name": "operator"}]
    return {
        "authority/genesis.json": genesis.encode(),
        "operator/genesis.json": genesis.encode(),
        "authority/operators.json": _json(operators),
        "authority/policy-initial.json": _json(policy_text()),
        "operator/authority.json": _json({"urls": list(urls)}),
    }


def _fill(
    directory: Path,
    files: dict[str, bytes],
    keys: dict[str, SigningKey],
    passphrases: Passphrases | None,
) -> None:
    """Write everything; with pass phrases the keys of people are sealed, the daemon's is not."""
    secrets = {
        name: passphrases.new(name)
        for name in keys
        if passphrases is not None and not name.startswith("authority/")
    }
    texts = {name: key_text(key, secrets.get(name)) for name, key in keys.items()}
    _claim(directory)
    for room in sorted({name.partition("/")[0] for name in files}):
        (directory / room).mkdir(mode=DIRECTORY_MODE)
    for name, text in texts.items():
        write_key(directory / name, text)
    for name, data in files.items():
        write_atomic(directory / name, data)


def _claim(directory: Path) -> None:
    try:
        directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        taken = any(directory.iterdir())
    except OSError as error:
        raise ConfigurationError(
            "unusable-directory", f"cannot create {directory}: {error.strerror}"
        ) from error
    if taken:
        raise ConfigurationError(
            "not-empty", f"{directory} is not empty: name a directory that does not exist yet"
        )


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"


def _check_spelling(text: str, kind: Any, rule: str) -> None:
    try:
        msgspec.convert(text, kind)
    except msgspec.ValidationError:
        raise ConfigurationError("invalid-field", f"{text!r} cannot be used: {rule}") from None


def _read_anchor(text: str) -> Anchor:
    name, equals, address = text.partition("=")
    if not equals:
        raise ConfigurationError("bad-anchor", f"{text!r} is not of the form NAME=HOST:PORT")
    _check_spelling(name, Name, "a node is named with a-z, 0-9 and dashes within, 63 at most")
    return Anchor(name=name, endpoint=anchor_endpoint(address))


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--network", metavar="NAME", help="What the network is called.")
@click.option(
    "--authority-url",
    "url",
    metavar="URL",
    default=DEFAULT_URL,
    show_default=True,
    help="Where nodes and operators reach the authority.",
)
@click.option(
    "--anchor",
    "anchors",
    metavar="NAME=HOST:PORT",
    multiple=True,
    help="A node that is always reachable, so that others find the mesh, at HOST:PORT, tls://HOST or"
    " wss://HOST/PATH; may be given several times.",
)
@click.option("--protect", is_flag=True, help="Seal the root's and the operator's key with a pass phrase.")
@passphrase_option
@click.option(
    "--genesis",
    "genesis_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A first genesis that its root holders have signed, instead of a new one.",
)
@click.option(
    "--authority-key",
    "authority_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="With --genesis: the key of the authority that it lists.",
)
def init(
    directory: Path,
    network: str | None,
    url: str,
    anchors: tuple[str, ...],
    protect: bool,
    passphrase_file: Path | None,
    genesis_file: Path | None,
    authority_file: Path | None,
) -> None:
    """
    Create a network in DIR.

    DIR must not exist yet, or be empty.  It gets three directories: root (the root key, to be
    taken offline), authority (the state of the authority daemon) and operator (your own key).

    With --genesis and --authority-key there is no root: its holders made the genesis apart
    (see "gmesh genesis").
    """
    passphrases = Passphrases(passphrase_file)
    sealing = passphrases if protect else None
    if (genesis_file is None) != (authority_file is None) or (genesis_file is None) == (network is None):
        raise click.UsageError("give --network, or --genesis together with --authority-key")
    if genesis_file is not None and authority_file is not None:
        data = read_capped(genesis_file, DOCUMENT_LIMITS["genesis"])
        genesis = parse_document(data, Genesis)
        adopt_network(directory, genesis, load_key(authority_file, passphrases), sealing)
        network, url = genesis.body.network, genesis.body.authority_urls[0]
        read = list(genesis.body.anchors)
    else:
        network = network or ""
        _check_spelling(
            network, NetworkName, "a network is named with letters, digits, and . _ - within, 63 at most"
        )
        _check_spelling(url, Url, "the authority's URL is http://HOST:PORT or https://HOST:PORT")
        read = [_read_anchor(anchor) for anchor in anchors]
        now = int(time.time())
        check_clock(now)
        genesis = create_network(directory, network, url, read, now, sealing)
    _tell(directory, genesis, read, url, with_root=genesis_file is None)


def _tell(
    directory: Path, genesis: Document[Genesis], anchors: Sequence[Anchor], url: str, with_root: bool
) -> None:
    first = anchors[0].name if anchors else "node-1"
    port = url.rsplit(":", 1)[-1].split("/")[0]
    port = port if port.isdigit() else "8440"
    gmesh, operator = gmesh_command(), shlex.quote(str(directory / "operator"))
    click.echo(f"Created the network {genesis.body.network}, network id {network_id(genesis)}.\n")
    if with_root:
        click.echo(f"""\
  {directory}/root       the root key: it alone can replace the authority's key.
  {" " * len(str(directory))}            Take this directory offline now, and keep a copy.""")
    click.echo(
        f"""\
  {directory}/authority  the state of the authority daemon: its key, genesis, operators, first policy.
  {directory}/operator   your key as an operator, for "gmesh admin".  Keep it to yourself.

All keys can be read by you alone (mode 0600).  Next:

  {daemon("gmesh-authority", directory / "authority", f"tcp:{port}")}
  {gmesh} admin --operator {operator} invite --name {first} --role {"anchor" if anchors else "client"}
  gmesh join - --state STATE          (on the node; it asks for what the line before has printed)

The last one prints the line that starts the node."""
    )
    if url == DEFAULT_URL:
        click.echo(f"\nNodes on other hosts cannot reach {url}: --authority-url gives one they can.")
    if not anchors:
        click.echo(
            "\nNo anchor is named: nodes find each other by --peer HOST:PORT, or --anchor names one here."
        )
