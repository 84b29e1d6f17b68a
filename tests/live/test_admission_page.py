# SPDX-License-Identifier: MIT
"""The page "A second key to admit": every command on it, and at its end a thief with the authority's key."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from live.manual_page import SYSTEMCTL, Daemons, Shell, commands
from live.node_rig import ask, until
from msgspec.structs import replace

from gmesh.trust.documents import Certificate, parse_document, sign_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import NoiseKey, SigningKey

pytestmark = pytest.mark.live

PAGE = "operations-admission"


def held(state: Path) -> Any:
    return parse_document((state / "certificate.json").read_bytes(), Certificate)


def forged_node(directory: Path) -> Path:
    """The state of a host C{gate}, admitted by the authority's key alone; the rest is what c has."""
    gate, seen = directory / "gate", held(directory / "c")
    shutil.copytree(directory / "c", gate, ignore=shutil.ignore_patterns("*.sock", "*.lock", "*.key"))
    node, noise = SigningKey.generate(), NoiseKey.generate()
    for name, key in (("identity.key", node), ("noise.key", noise)):
        (gate / name).touch(0o600)
        (gate / name).write_bytes(key.to_pem())
    now = int(time.time())
    body = replace(
        seen.body,
        serial=seen.body.serial + 1000,
        name="gate",
        node_key=b64url_encode(node.public),
        noise_key=b64url_encode(noise.public),
        not_before=now - 60,
        issued_at=now - 60,
    )
    authority = SigningKey.from_pem((directory / "net/authority/authority.key").read_bytes())
    document = sign_document(body, [authority]).with_admission(seen.admission)
    (gate / "certificate.json").write_bytes(document.encode())
    return gate


def test_the_page_about_the_admission_key(
    start: Callable[..., Any], free_port: Callable[[], int], tmp_path: Path
) -> None:
    """Members go over, a new one waits for its admission, and what the authority's key admits is refused."""
    here = {"8440": str(free_port()), "7443": str(free_port())}
    daemons, shell = Daemons(start, tmp_path, int(here["8440"]), int(here["7443"])), Shell(tmp_path)
    seen: dict[str, str] = {}

    def ask_for_admissions() -> None:
        """What running nodes do every ten minutes, they do when they start."""
        for name in ("b", "a"):
            daemons.obey("restart", f"node@{name}")
        until(lambda: all(held(tmp_path / name).admission is not None for name in ("a", "b")))

    def peers(name: str) -> set[str]:
        return {peer["name"] for peer in ask(tmp_path / name, "GET", "/v1/peers")[1]}

    def version(name: str) -> int:
        return int(ask(tmp_path / name, "GET", "/v1/status")[1]["genesis_version"])

    try:
        for command in commands(PAGE):
            if command.startswith("cat > required.toml"):
                ask_for_admissions()
            systemctl = SYSTEMCTL.fullmatch(command)
            if systemctl is not None:
                daemons.obey(systemctl[1], systemctl[2])
            else:
                output = shell.run(re.sub("|".join(here), lambda found: here[found[0]], command))
                seen.setdefault(command, output)
            if command == "gmesh admin genesis publish genesis-3.json":
                until(lambda: {version("a"), version("b")} == {3})
        until(lambda: peers("b") == {"a", "c"})
        forged_node(tmp_path)
        daemons.obey("start", "node@gate")
        until(lambda: "not-admitted" in daemons._running["node@b"].log)
        assert peers("b") == {"a", "c"} and peers("gate") == set()
        nodes = json.loads(shell.run("gmesh admin nodes --json"))
        lacking = json.loads(shell.run("gmesh admin enrolments unadmitted --json"))["requests"]
    finally:
        shell.close()
    assert "it waits" in seen["gmesh join c.invite --state c || echo it waits"]
    assert {row["name"] for row in nodes} == {"a", "b", "c"} and lacking == []
    assert all(held(tmp_path / name).admission is not None for name in ("a", "b", "c"))
