# SPDX-License-Identifier: MIT
"""A running mesh goes through new authority keys, a theft and a restore: nobody enrols again."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from live.node_rig import until, until_time

from gmesh.trust.documents import Certificate, Genesis, parse_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import SigningKey

pytestmark = pytest.mark.live

OVERLAP = 1
HOLDERS = ("alice", "bob", "carol")
ROLES = {"b": "anchor", "a": "client", "c": "client"}


class Mesh:
    """
    An authority whose root is two of three, and the running nodes a - b - c.

    @ivar genesis: the file of the newest one.
    """

    def __init__(
        self, gmesh: Callable[..., Any], start: Callable[..., Any], free_port: Callable[[], int], path: Path
    ) -> None:
        self.gmesh, self._start, self.path = gmesh, start, path
        self._authority, self._anchor = free_port(), free_port()
        self.version = 1
        self.daemons: dict[str, Any] = {}
        self._make()
        self.start("authority")
        for name, role in ROLES.items():
            invite = self.admin("invite", "--name", name, "--role", role)
            gmesh("join", invite.strip(), "--state", name)
            self.start(name)

    def _make(self) -> None:
        keys = [self.gmesh("key", "create", f"{name}.key").stdout.strip() for name in HOLDERS]
        authority = self.gmesh("key", "create", "authority.key").stdout.strip()
        (self.path / "genesis.toml").write_text(
            f'network = "lab"\nauthority_urls = ["http://127.0.0.1:{self._authority}"]\n'
            f"[root]\nthreshold = 2\nkeys = {json.dumps(keys)}\n"
            f'[[authority]]\nkey = "{authority}"\n'
            f'[[anchors]]\nname = "b"\naddress = "127.0.0.1:{self._anchor}"\n'
        )
        self.gmesh("genesis", "create", "genesis.toml", "--out", "unsigned-1.json")
        self._sign()
        self.gmesh("init", "net", "--genesis", "genesis-1.json", "--authority-key", "authority.key")

    def _sign(self) -> None:
        """Two holders sign the unsigned genesis of this version, each on his own."""
        unsigned, version = f"unsigned-{self.version}.json", self.version
        before = ["--previous", f"genesis-{version - 1}.json"] if version > 1 else []
        digest = self.gmesh("genesis", "show", unsigned, "--digest").stdout.strip()
        signers = HOLDERS[version % 2 :][:2]
        for name in signers:
            self.gmesh(
                "genesis", "sign", unsigned, "--key", f"{name}.key", "--digest", digest, *before,
                "--out", f"{name}-{version}.sig",
            )  # fmt: skip
        signatures = [f"{name}-{version}.sig" for name in signers]
        self.gmesh("genesis", "verify", unsigned, *signatures, *before, "--out", f"genesis-{version}.json")

    def start(self, name: str) -> None:
        """Start a daemon and wait until it works."""
        if name == "authority":
            listen = f"tcp:{self._authority}:interface=127.0.0.1"
            daemon = self._start(
                "gmesh-authority", "--state", self.path / "net/authority", "--listen", listen
            )
        else:
            options = ["--listen", f"tcp:{self._anchor}:interface=127.0.0.1"] if name == "b" else []
            daemon = self._start("gmesh-node", "--state", self.path / name, *options)
        daemon.wait_for("ready|READY|local API")
        self.daemons[name] = daemon

    def admin(self, *arguments: str) -> str:
        """What an operator's command prints."""
        text: str = self.gmesh("admin", "--operator", "net/operator", *arguments).stdout
        return text

    def hold(self, name: str) -> SigningKey:
        """Make a key in the authority's state directory and have the daemon take it up."""
        path = self.path / f"net/authority/{name}.key"
        self.gmesh("key", "create", path)
        daemon = self.daemons["authority"]
        seen = len(daemon.log.splitlines())
        daemon.signal(signal.SIGHUP)
        daemon.wait_for("reloaded: ", seen)
        return SigningKey.from_pem(path.read_bytes())

    def rotate(self, *how: str) -> SigningKey:
        """A second authority key, held and listed."""
        key = self.hold("authority-2")
        self.publish("--authority-key", b64url_encode(key.public), *how)
        return key

    def publish(self, *change: str) -> None:
        """The next genesis: made, signed by two, published."""
        self.version += 1
        before = f"genesis-{self.version - 1}.json"
        self.gmesh("genesis", "rotate", before, *change, "--out", f"unsigned-{self.version}.json")
        self._sign()
        self.admin("genesis", "publish", f"genesis-{self.version}.json")

    def certified_by(self, key: SigningKey, *names: str) -> bool:
        """Whether these nodes hold certificates that this key has signed."""
        return all(self.certificate(name)[1] == key.key_id for name in names)

    def certificate(self, name: str) -> tuple[Certificate, str]:
        """The certificate a node holds, and the key that signed it."""
        document = parse_document((self.path / name / "certificate.json").read_bytes(), Certificate)
        return document.body, document.signatures[0][0]

    def until(self, what: str, true: Callable[[], bool]) -> None:
        """Ask until it is so."""
        until(true, lambda: f"({what})\n" + self.daemons["b"].log)

    def status(self, name: str) -> dict[str, Any]:
        """What a node says of itself."""
        status: dict[str, Any] = json.loads(self.gmesh("status", "--state", name, "--json").stdout)
        return status

    def revoked(self) -> dict[str, bool]:
        """Which members the authority knows, and whether they are revoked."""
        return {row["name"]: row["revoked"] for row in json.loads(self.admin("nodes", "--json"))}

    def delivers(self, source: str = "a") -> bool:
        """Whether a message goes through b to c, as far as a ping tells."""
        return bool(self.gmesh("ping", "c", "--count", "1", "--state", source, check=False).returncode == 0)


@pytest.fixture
def mesh(
    gmesh: Callable[..., Any], start: Callable[..., Any], free_port: Callable[[], int], tmp_path: Path
) -> Mesh:
    """The running mesh, delivering."""
    mesh = Mesh(gmesh, start, free_port, tmp_path)
    mesh.until("a reaches c", mesh.delivers)
    return mesh


def test_rotation_with_overlap(mesh: Mesh) -> None:
    """Both keys, then the new one alone: nodes renew under it, one that slept through it comes back."""
    before = {name: mesh.certificate(name)[0] for name in ROLES}
    mesh.daemons.pop("c").stop()
    new = mesh.rotate("--overlap", f"{OVERLAP}s")
    over = time.time() + OVERLAP
    old = mesh.gmesh("key", "show", "--id", "net/authority/authority.key").stdout.strip()
    until_time(over)
    mesh.publish("--drop", old)
    mesh.until("a and b are certified by the new key", partial(mesh.certified_by, new, "a", "b"))
    mesh.start("c")
    mesh.until("c is certified by the new key", partial(mesh.certified_by, new, "c"))
    mesh.until("a reaches c again", mesh.delivers)
    for name, held in before.items():
        after = mesh.certificate(name)[0]
        assert (after.node_key, after.name, after.roles) == (held.node_key, held.name, held.roles)
        assert after.serial > held.serial
    shown = parse_document((mesh.path / "a/genesis.json").read_bytes(), Genesis)
    assert shown.body.version == 3
    used = json.loads(mesh.admin("invites", "--json"))
    assert [row["state"] for row in used] == ["used"] * 3
    assert "good" in mesh.admin("audit", "--verify")


def test_rotation_after_a_theft(mesh: Mesh) -> None:
    """The new key stands alone at once: everything is issued again, and every node renews."""
    new = mesh.rotate("--stolen")
    mesh.until("all are certified by the new key", partial(mesh.certified_by, new, *ROLES))
    mesh.until("a reaches c again", mesh.delivers)


def test_restore_with_running_nodes(mesh: Mesh) -> None:
    """Last night's backup: a new epoch, the revocation since stays, nodes and a key of since go on."""
    backup = json.loads(mesh.admin("backup", "--json"))
    mesh.rotate("--overlap", f"{OVERLAP}s")
    mesh.gmesh("join", mesh.admin("invite", "--name", "d", "--role", "client").strip(), "--state", "d")
    mesh.start("d")
    mesh.admin("revoke", "a", "--wait")
    before = {name: mesh.status(name)["crl_number"] for name in ("b", "c", "d")}
    mesh.daemons.pop("authority").stop()
    restore = ("restore", f"net/authority/backups/{backup['file']}", "--state", "net/authority", "--json")
    refused = mesh.gmesh(*restore, check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    done = json.loads(mesh.gmesh(*restore, "--crl", "b/crl.json", "--policy", "b/policy.json").stdout)
    assert done["epoch"] > backup["epoch"] and done["revocations"] >= 1
    mesh.start("authority")

    def go_on() -> bool:
        found = {name: mesh.status(name) for name in before}
        return all(found[name]["crl_number"] > before[name] for name in before) and all(
            status["authority"]["reachable"] for status in found.values()
        )

    mesh.until("b, c and d follow the restored authority", go_on)
    mesh.until("d is known again", lambda: "d" in mesh.revoked())
    assert mesh.revoked() == {"a": True, "b": False, "c": False, "d": False}
    mesh.until("d reaches c", partial(mesh.delivers, "d"))
    assert "good" in mesh.admin("audit", "--verify")
