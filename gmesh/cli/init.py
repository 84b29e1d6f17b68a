# SPDX-License-Identifier: MIT
"""C{gmesh init}: the keys, the genesis and the directories of a new network, made in one go."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from gmesh.errors import ConfigurationError
from gmesh.files import KEY_MODE, write_atomic
from gmesh.trust.documents import (
    Anchor,
    AuthorityKey,
    Document,
    Genesis,
    PolicyFloor,
    RootKeys,
    sign_document,
)
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import SigningKey
from gmesh.trust.names import Name, NetworkName, Url
from gmesh.trust.verify import network_id

__all__ = ["anchor_endpoint", "create_network", "init", "policy_text"]

DAY = 86_400
YEAR = 365 * DAY
GENESIS_LIFE = 10 * YEAR
DEFAULT_URL = "http://127.0.0.1:8440"
SUITES = ("Noise_XX_25519_AESGCM_SHA256", "Noise_XX_25519_ChaChaPoly_SHA256")
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
    The client endpoint string of C{HOST:PORT} (C{[HOST]:PORT} for IPv6).

    @raise ConfigurationError: if it is not of that form.
    """
    host, colon, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigurationError("bad-anchor", f"{address!r} is not of the form HOST:PORT")
    if ":" in bare and bare == host:
        raise ConfigurationError("bad-anchor", f"an IPv6 address stands in brackets: [{host}]:{port}")
    escaped = bare.replace(":", "\\:")
    return f"tcp:{escaped}:{port}"


def create_network(
    directory: Path, network: str, url: str, anchors: Sequence[Anchor], now: int
) -> Document[Genesis]:
    """
    Make the keys and the genesis of a network and write C{root}, C{authority} and C{operator}.

    @param directory: does not exist yet, or is empty.
    @param now: Unix seconds.
    @raise ConfigurationError: if the directory holds something.
    @raise DocumentRefused: if a name or address cannot stand in a genesis; nothing is then written.
    """
    root, authority, operator = (SigningKey.generate() for _ in range(3))
    genesis = sign_document(
        Genesis(
            version=1,
            issued_at=now,
            expires_at=now + GENESIS_LIFE,
            network=network,
            root=RootKeys(keys=(b64url_encode(root.public),), threshold=1),
            authority=(
                AuthorityKey(
                    key=b64url_encode(authority.public), valid_from=now, valid_to=now + GENESIS_LIFE
                ),
            ),
            suites=SUITES,
            anchors=tuple(anchors),
            authority_urls=(url,),
            policy=PolicyFloor(version=0),
        ),
        [root],
    )
    operators = [{"key": b64url_encode(operator.public), "role": "administer", "name": "operator"}]
    files: dict[str, bytes] = {
        "root/genesis.json": genesis.encode(),
        "authority/genesis.json": genesis.encode(),
        "operator/genesis.json": genesis.encode(),
        "authority/operators.json": _json(operators),
        "authority/policy-initial.json": _json(policy_text()),
        "operator/authority.json": _json({"urls": [url]}),
    }
    keys = {"root/root.key": root, "authority/authority.key": authority, "operator/operator.key": operator}
    _claim(directory)
    for room in ("root", "authority", "operator"):
        (directory / room).mkdir(mode=DIRECTORY_MODE)
    for name, key in keys.items():
        write_atomic(directory / name, key.to_pem(), KEY_MODE)
    for name, data in files.items():
        write_atomic(directory / name, data)
    return genesis


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
@click.option("--network", required=True, metavar="NAME", help="What the network is called.")
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
    help="A node that is always reachable, so that others find the mesh; may be given several times.",
)
def init(directory: Path, network: str, url: str, anchors: tuple[str, ...]) -> None:
    """
    Create a network in DIR.

    DIR must not exist yet, or be empty.  It gets three directories: root (the root key, to be
    taken offline), authority (the state of the authority daemon) and operator (your own key).
    """
    _check_spelling(
        network, NetworkName, "a network is named with letters, digits, and . _ - within, 63 at most"
    )
    _check_spelling(url, Url, "the authority's URL is http://HOST:PORT or https://HOST:PORT")
    read = [_read_anchor(anchor) for anchor in anchors]
    genesis = create_network(directory, network, url, read, int(time.time()))
    first = read[0].name if read else "node-1"
    port = url.rsplit(":", 1)[-1].split("/")[0]
    port = port if port.isdigit() else "8440"
    role = "anchor" if read else "client"
    click.echo(
        f"""\
Created the network {network}, network id {network_id(genesis)}.

  {directory}/root       the root key: it alone can replace the authority's key.
  {" " * len(str(directory))}            Take this directory offline now, and keep a copy.
  {directory}/authority  the state of the authority daemon: its key, genesis, operators, first policy.
  {directory}/operator   your key as an operator, for "gmesh admin".  Keep it to yourself.

All keys can be read by you alone (mode 0600).  Next:

  twistd -n gmesh-authority --state {directory}/authority --listen tcp:{port}
  gmesh admin --operator {directory}/operator invite --name {first} --role {role}
  gmesh join INVITE --state STATE          (on the node, with what the line before has printed)
  twistd -n gmesh-node --state STATE{" --listen tcp:" + read[0].endpoint.rsplit(":", 1)[-1] if read else ""}
""",
        nl=False,
    )
    if url == DEFAULT_URL:
        click.echo(f"\nNodes on other hosts cannot reach {url}: --authority-url gives one they can.")
    if not read:
        click.echo(
            "\nNo anchor is named: nodes find each other by --peer HOST:PORT, or --anchor names one here."
        )
