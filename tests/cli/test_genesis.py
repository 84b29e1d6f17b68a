# SPDX-License-Identifier: MIT
"""gmesh genesis and gmesh key: the ceremony from files to files, and what it refuses."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gmesh.trust.documents import Genesis, parse_document
from gmesh.trust.verify import verify_genesis_chain

ROOT = Path(__file__).resolve().parents[2]
PASSPHRASE = "correct horse battery staple"
Run = Callable[..., Any]


def _input(path: Path, threshold: int, roots: list[str], authority: str, more: str = "") -> Path:
    path.write_text(
        f"""\
network = "lab"
authority_urls = ["http://127.0.0.1:8440"]
issued_at = 2026-01-01T00:00:00Z
{more}
[root]
threshold = {threshold}
keys = {json.dumps(roots)}
[[authority]]
key = "{authority}"
[[anchors]]
name = "b"
address = "127.0.0.1:7443"
"""
    )
    return path


@pytest.fixture
def keys(run: Run, tmp_path: Path) -> dict[str, str]:
    """Public halves of the keys of three holders and the authority, made by the command."""
    made = {name: run("key", "create", f"{name}.key") for name in ("alice", "bob", "carol", "authority")}
    assert all((one.status, one.err) == (0, "") for one in made.values())
    return {name: one.out.strip() for name, one in made.items()}


@pytest.fixture
def unsigned(run: Run, keys: dict[str, str], tmp_path: Path) -> tuple[Path, str]:
    """The unsigned genesis and its digest."""
    source = _input(
        tmp_path / "input.toml", 2, [keys[n] for n in ("alice", "bob", "carol")], keys["authority"]
    )
    ended = run("genesis", "create", source, "--out", "unsigned.json")
    assert (ended.status, ended.err) == (0, "")
    digest = parse_document((tmp_path / "unsigned.json").read_bytes(), Genesis).digest
    assert digest in ended.out
    return tmp_path / "unsigned.json", digest


def _sign(run: Run, path: Path, digest: str, name: str, *more: str) -> None:
    ended = run(
        "genesis", "sign", path, "--key", f"{name}.key", "--digest", digest, "--out", f"{name}.sig", *more
    )
    assert (ended.status, ended.err) == (0, ""), ended.err


@pytest.fixture
def signed(run: Run, unsigned: tuple[Path, str], tmp_path: Path) -> Path:
    """The same, signed by two of three."""
    path, digest = unsigned
    _sign(run, path, digest, "alice")
    _sign(run, path, digest, "carol")
    ended = run("genesis", "verify", path, "alice.sig", "carol.sig", "--out", "genesis.json")
    assert (ended.status, ended.err) == (0, "")
    return tmp_path / "genesis.json"


def test_ceremony(signed: Path) -> None:
    """Two of three detached signatures make a genesis that verifies."""
    document = parse_document(signed.read_bytes(), Genesis)
    verify_genesis_chain([document], document.digest[:32])
    assert (document.body.network, document.body.issued_at) == ("lab", 1767225600)
    assert document.body.anchors[0].endpoint == "tcp:127.0.0.1:7443"


def test_same_input_same_digest(run: Run, unsigned: tuple[Path, str], tmp_path: Path) -> None:
    """With times in the input every holder can build the genesis anew and compare."""
    ended = run("genesis", "create", "input.toml", "--out", "again.json")
    assert ended.status == 0
    assert (tmp_path / "again.json").read_bytes() == unsigned[0].read_bytes()


def test_one_signature_is_told_as_too_few(run: Run, unsigned: tuple[Path, str], tmp_path: Path) -> None:
    """verify names who is missing, writes nothing and ends with 1."""
    path, digest = unsigned
    _sign(run, path, digest, "bob")
    ended = run("genesis", "verify", path, "bob.sig", "--out", "genesis.json")
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert "1 of 2 needed, 1 missing" in ended.out
    assert not (tmp_path / "genesis.json").exists()
    value = json.loads(run("genesis", "verify", path, "bob.sig", "--json").out)
    assert (value["digest"], value["signatures"][0]["reached"]) == (digest, False)


def test_digest_is_printed_before_the_key_is_opened(
    run: Run, unsigned: tuple[Path, str], tmp_path: Path
) -> None:
    """With another digest than the one agreed on everything is shown and nothing is signed."""
    path, digest = unsigned
    ended = run("genesis", "sign", path, "--key", "missing.key", "--digest", "0" * 64, "--out", "x.sig")
    assert (ended.status, digest in ended.out, "nothing is signed" in ended.err) == (1, True, True)
    assert not (tmp_path / "x.sig").exists()


@pytest.mark.parametrize("digest", ["", "full8"])
def test_short_digest_confirms_nothing(run: Run, unsigned: tuple[Path, str], digest: str) -> None:
    """A few characters of the digest are not enough, nor is none."""
    path, whole = unsigned
    given = whole[:8] if digest else ""
    ended = run("genesis", "sign", path, "--key", "alice.key", "--digest", given, "--out", "x.sig")
    assert (ended.status, ended.err.count("\n"), "give 16 characters" in ended.err) == (1, 1, True)


@pytest.mark.parametrize("target", ["alice.key", "unsigned.json", "input.toml"])
def test_a_signature_is_written_over_nothing_else(
    run: Run, unsigned: tuple[Path, str], tmp_path: Path, target: str
) -> None:
    """--out that names a key, a genesis or anything but a signature by mistake: refused, it stays."""
    path, digest = unsigned
    before = (tmp_path / target).read_bytes()
    ended = run("genesis", "sign", path, "--key", "alice.key", "--digest", digest, "--out", target)
    assert (ended.status, f"{target} is not a signature" in ended.err) == (1, True)
    assert (tmp_path / target).read_bytes() == before
    for _ in range(2):
        _sign(run, path, digest, "alice")


def test_a_genesis_is_written_over_nothing_else(run: Run, unsigned: tuple[Path, str], tmp_path: Path) -> None:
    """verify --out adds signatures to the same genesis, and touches no other file."""
    path, digest = unsigned
    for name in ("alice", "bob", "carol"):
        _sign(run, path, digest, name)
    before = (tmp_path / "alice.key").read_bytes()
    ended = run("genesis", "verify", path, "alice.sig", "bob.sig", "--out", "alice.key")
    assert (ended.status, "not overwritten" in ended.err) == (1, True)
    assert (tmp_path / "alice.key").read_bytes() == before
    assert run("genesis", "verify", path, "alice.sig", "bob.sig", "--out", "genesis.json").status == 0
    assert run("genesis", "verify", "genesis.json", "carol.sig", "--out", "genesis.json").status == 0
    signed = json.loads((tmp_path / "genesis.json").read_bytes())
    assert len(signed["signatures"]) == 3


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('authority_urls = ["ftp://x"]', "input.toml: genesis: Expected a URL (http:// or https://,"),
        ('network = "no name!"', "input.toml: genesis: Expected a network's name (letters, digits"),
        ("threshold = 4", "input.toml: the root threshold is above the number of root keys"),
    ],
)
def test_what_an_input_lacks_is_told_in_words(
    run: Run, unsigned: tuple[Path, str], tmp_path: Path, line: str, told: str
) -> None:
    """The file, the field and what it should hold; no regular expression."""
    source, field = tmp_path / "input.toml", line.partition(" = ")[0]
    lines = [line if text.startswith(field + " =") else text for text in source.read_text().splitlines()]
    source.write_text("\n".join(lines))
    ended = run("genesis", "create", source, "--out", "other.json")
    assert (ended.status, ended.err.count("\n"), told in ended.err) == (1, 1, True), ended.err
    assert "regex" not in ended.err


def test_key_of_nobody(run: Run, unsigned: tuple[Path, str]) -> None:
    """A key that is no root key of this genesis signs nothing."""
    path, digest = unsigned
    ended = run("genesis", "sign", path, "--key", "authority.key", "--digest", digest, "--out", "x.sig")
    assert (ended.status, "none of the root keys" in ended.err) == (1, True)


def test_sealed_root_key(run: Run, unsigned: tuple[Path, str], tmp_path: Path) -> None:
    """A root key under a pass phrase signs when it is opened, and not otherwise."""
    phrase = tmp_path / "phrase"
    phrase.touch(0o600)
    phrase.write_text(PASSPHRASE)
    before = run("key", "show", "alice.key").out
    assert run("key", "protect", "alice.key", "--passphrase-file", phrase).status == 0
    assert stat.S_IMODE((tmp_path / "alice.key").stat().st_mode) == 0o600
    assert run("key", "show", "alice.key").out == before
    assert json.loads(run("key", "show", "alice.key", "--json").out)["sealed"] is True
    path, digest = unsigned
    _sign(run, path, digest, "alice", "--passphrase-file", str(phrase))
    phrase.write_text("another pass phrase")
    ended = run(
        "genesis", "sign", path, "--key", "alice.key", "--digest", digest, "--out", "x.sig",
        "--passphrase-file", phrase,
    )  # fmt: skip
    assert (ended.status, "does not open" in ended.err) == (1, True)


def test_transcript(run: Run, signed: Path, tmp_path: Path) -> None:
    """Each step leaves one line with the digests of what it read and wrote; no key, no signature."""
    text = (tmp_path / "genesis-transcript.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["command"] for line in lines] == ["create", "sign", "sign", "verify"]
    assert lines[0]["read"] == {
        str(tmp_path / "input.toml"): sha256((tmp_path / "input.toml").read_bytes()).hexdigest()
    }
    assert lines[3]["wrote"] == {"genesis.json": sha256(signed.read_bytes()).hexdigest()}
    assert len({line["digest"] for line in lines}) == 1
    assert len(lines[1]["self_check"]) == 4
    signature = json.loads((tmp_path / "alice.sig").read_bytes())["signature"]
    assert signature not in text and "PRIVATE" not in text


def test_rotation(run: Run, signed: Path, tmp_path: Path) -> None:
    """N+1 with both keys, reviewed against N, signed by two, verified against N."""
    new = run("key", "create", "authority-2.key").out.strip()
    ended = run("genesis", "rotate", signed, "--authority-key", new, "--overlap", "1h", "--out", "next.json")
    assert ended.status == 0 and "+ authority key: " in ended.out and "- " not in ended.out
    digest = parse_document((tmp_path / "next.json").read_bytes(), Genesis).digest
    ended = run("genesis", "sign", "next.json", "--key", "bob.key", "--digest", digest, "--out", "x.sig")
    assert (ended.status, "--previous" in ended.err) == (1, True)
    for name in ("alice", "bob"):
        _sign(run, tmp_path / "next.json", digest, name, "--previous", str(signed))
    ended = run(
        "genesis",
        "verify",
        "next.json",
        "alice.sig",
        "bob.sig",
        "--previous",
        signed,
        "--out",
        "genesis.2.json",
    )
    assert ended.status == 0 and ended.out.count("enough\n") == 2
    chain = [
        parse_document((tmp_path / name).read_bytes(), Genesis) for name in ("genesis.json", "genesis.2.json")
    ]
    verify_genesis_chain(chain, None)
    assert [entry.valid_from for entry in chain[1].body.authority][1] - chain[1].body.issued_at == 3600
    shown = json.loads(run("genesis", "show", "genesis.2.json", "--previous", signed, "--json").out)
    assert [quorum["reached"] for quorum in shown["signatures"]] == [True, True]


def test_theft(run: Run, signed: Path, tmp_path: Path) -> None:
    """--stolen lists the new key alone and says what that means."""
    new = run("key", "create", "authority-2.key").out.strip()
    ended = run("genesis", "rotate", signed, "--authority-key", new, "--stolen", "--out", "next.json")
    assert ended.status == 0 and "no longer believed" in ended.out
    body = parse_document((tmp_path / "next.json").read_bytes(), Genesis).body
    assert [entry.key for entry in body.authority] == [new]


def test_next_version_from_an_input(run: Run, signed: Path, tmp_path: Path) -> None:
    """create --previous changes what the input names, and only that."""
    (tmp_path / "change.toml").write_text('authority_urls = ["https://authority.example"]\n')
    ended = run("genesis", "create", "change.toml", "--previous", signed, "--out", "next.json")
    assert ended.status == 0
    assert "- authority URL: http://127.0.0.1:8440" in ended.out
    assert "+ authority URL: https://authority.example" in ended.out
    body = parse_document((tmp_path / "next.json").read_bytes(), Genesis).body
    assert (body.version, body.root.threshold, body.anchors[0].name) == (2, 2, "b")


def test_unsigned_previous_is_worth_nothing(run: Run, unsigned: tuple[Path, str], tmp_path: Path) -> None:
    """A version before that its root has not signed is refused."""
    (tmp_path / "change.toml").write_text('authority_urls = ["https://authority.example"]\n')
    ended = run("genesis", "create", "change.toml", "--previous", unsigned[0], "--out", "next.json")
    assert (ended.status, ended.err.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    "text",
    [
        "network = ",
        'network = "lab"\ncolour = "red"\n',
        'network = "lab"\nissued_at = 2026-01-01T00:00:00\n',
        'network = "lab"\nissued_at = 2026-01-01\n',
        'network = "lab"\n[root]\nthreshold = 1\nkeys = ["AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]\n',
        'network = "lab"\n[root]\nthreshold = 2\nkeys = []\n[[authority]]\nkey = "x"\n',
        'network = "lab"\n[[anchors]]\nname = "b"\naddress = "here"\n',
        'network = "lab"\nauthority = 5\n',
        'network = "lab"\nauthority = ["x"]\n',
        'network = "lab"\nissued_at = "now"\n',
        'network = "lab"\nanchors = 7\n',
    ],
)
def test_bad_input(run: Run, tmp_path: Path, text: str) -> None:
    """Whatever is wrong with the input is one line, and nothing is written."""
    (tmp_path / "input.toml").write_text(text)
    ended = run("genesis", "create", "input.toml", "--out", "g.json")
    assert (ended.status, ended.err.count("\n"), (tmp_path / "g.json").exists()) == (1, 1, False)


def test_nothing_is_written_over(run: Run, unsigned: tuple[Path, str], signed: Path, tmp_path: Path) -> None:
    """A genesis, a key and another network's genesis stay as they are."""
    before = {path: path.read_bytes() for path in (unsigned[0], signed, tmp_path / "alice.key")}
    assert run("genesis", "create", "input.toml", "--out", unsigned[0]).status == 1
    assert run("key", "create", "alice.key").status == 1
    (tmp_path / "other.toml").write_text((tmp_path / "input.toml").read_text().replace('"lab"', '"other"'))
    assert run("genesis", "create", "other.toml", "--out", "other.json").status == 0
    assert run("genesis", "verify", "other.json", "--out", signed).status == 1
    assert {path: path.read_bytes() for path in before} == before


def test_init_takes_the_genesis(run: Run, signed: Path, tmp_path: Path) -> None:
    """gmesh init makes the authority's and the operator's directory from it, and no root."""
    ended = run("init", "net", "--genesis", signed, "--authority-key", "authority.key")
    assert (ended.status, ended.err) == (0, "")
    assert {path.name for path in (tmp_path / "net").iterdir()} == {"authority", "operator"}
    assert (tmp_path / "net/authority/genesis.json").read_bytes() == signed.read_bytes()
    assert json.loads((tmp_path / "net/operator/authority.json").read_text())["urls"] == [
        "http://127.0.0.1:8440"
    ]


def test_init_refuses_what_it_cannot_use(run: Run, unsigned: tuple[Path, str], signed: Path) -> None:
    """An unsigned genesis, a key it does not list, and half of the options are refused."""
    assert run("init", "net", "--genesis", unsigned[0], "--authority-key", "authority.key").status == 1
    assert run("init", "net", "--genesis", signed, "--authority-key", "alice.key").status == 1
    assert run("init", "net", "--genesis", signed).status == 2
    assert (
        run("init", "net", "--genesis", signed, "--authority-key", "authority.key", "--network", "x").status
        == 2
    )


def test_init_may_seal(run: Run, tmp_path: Path) -> None:
    """--protect seals the keys of people; the daemon's stays as it is, for it starts alone."""
    phrase = tmp_path / "phrase"
    phrase.touch(0o600)
    phrase.write_text(PASSPHRASE)
    assert run("init", "net", "--network", "lab", "--protect", "--passphrase-file", phrase).status == 0
    sealed = {
        path.name: json.loads(run("key", "show", path, "--json").out)["sealed"]
        for path in (tmp_path / "net").rglob("*.key")
    }
    assert sealed == {"root.key": True, "operator.key": True, "authority.key": False}


_NO_NETWORK = """
import sys
def watch(event, arguments):
    if event.startswith("socket."):
        raise SystemExit(f"the ceremony used the network: {event}")
sys.addaudithook(watch)
from gmesh.cli.main import main
main(sys.argv[1:])
"""


def test_no_network(unsigned: tuple[Path, str], tmp_path: Path) -> None:
    """Each command runs to its end in an interpreter where any use of a socket ends the process."""
    path, digest = unsigned

    def offline(*arguments: str | Path) -> None:
        subprocess.run(
            [sys.executable, "-c", _NO_NETWORK, *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
            stdout=subprocess.DEVNULL,
        )

    for name in ("alice", "bob"):
        offline("genesis", "sign", path, "--key", f"{name}.key", "--digest", digest, "--out", f"{name}.sig")
    offline("genesis", "verify", path, "alice.sig", "bob.sig", "--out", "genesis.json")
    offline("genesis", "show", "genesis.json")
    offline("key", "create", "new.key")


@pytest.mark.parametrize("where", ['endpoint = "unix:/run/x"', 'address = "127.0.0.1:7443:timeout=9"'])
def test_c1_an_anchor_that_nobody_dials_is_refused(
    run: Run, unsigned: tuple[Path, str], tmp_path: Path, where: str
) -> None:
    """The input of a genesis names anchors by addresses; the error is one line that says so."""
    text = (tmp_path / "input.toml").read_text().replace('address = "127.0.0.1:7443"', where)
    (tmp_path / "odd.toml").write_text(text)
    ended = run("genesis", "create", "odd.toml", "--out", "odd.json")
    assert (ended.status, ended.err.count("\n"), "HOST:PORT" in ended.err) == (1, 1, True)
    assert not (tmp_path / "odd.json").exists()


def test_c1_a_holder_reads_that_nobody_dials_an_anchor(
    run: Run, unsigned: tuple[Path, str], tmp_path: Path
) -> None:
    """A genesis of others that names one by another form is shown with a note."""
    value = json.loads(unsigned[0].read_bytes())
    value["signed"]["anchors"][0]["endpoint"] = "ssl:127.0.0.1:1:certKey=/dev/ptmx"
    (tmp_path / "odd.json").write_text(json.dumps(value))
    ended = run("genesis", "verify", "odd.json")
    assert "Note: no node dials" in ended.out
