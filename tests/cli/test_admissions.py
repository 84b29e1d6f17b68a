# SPDX-License-Identifier: MIT
"""From the operator's list to the admission key and back: three commands, and files between them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trust.network import NOW, Network, key, spelled

from gmesh.trust.documents import Admission, Document, document_from_dict
from gmesh.trust.keys import decode_public, key_id
from gmesh.trust.verify import verify_signatures

DAY = 86_400
Run = Callable[..., Any]


def row(name: str, until: int | None = None, *roles: str) -> dict[str, Any]:
    return {
        "name": name,
        "node_key": spelled(key(name))[0],
        "roles": roles or ["client"],
        "admitted_until": until,
    }


def asked(*rows: dict[str, Any]) -> dict[str, Any]:
    """What is signed, for these rows."""
    requests = [{name: each[name] for name in ("name", "node_key", "roles")} for each in rows]
    return {"network_id": "ab" * 16, "requests": requests}


@pytest.fixture(name="admission_key")
def made_key(run: Run) -> str:
    """The public half of admission.key."""
    return str(run("key", "create", "admission.key").out.strip())


def signed(path: Path) -> list[Document[Admission]]:
    return [document_from_dict(value, Admission) for value in json.loads(path.read_bytes())["admissions"]]


def test_those_who_lack_one_are_listed(admin: Run, http_end: Any) -> None:
    """Without, or with one that ends within the time asked for; as JSON it is what is signed."""
    now = int(time.time())
    rows = [row("pump-1"), row("pump-2", now + 9 * DAY), row("pump-3", now + 99 * DAY)]
    http_end.json("GET /admin/admissions", {"admissions": rows, "next": None})
    assert [name in admin("enrolments", "unadmitted").out for name in ("pump-1", "pump-2", "pump-3")] == [
        True,
        True,
        False,
    ]
    told = json.loads(admin("enrolments", "unadmitted", "--within", "1d", "--json").out)
    assert told["requests"] == asked(rows[0])["requests"]
    assert told["network_id"] == Network().network_id


def test_what_is_signed(run: Run, admission_key: str, tmp_path: Path) -> None:
    """Each request as it was shown, by the key, for as long as was said."""
    (tmp_path / "requests.json").write_text(
        json.dumps(asked(row("pump-1"), row("hub", None, "anchor", "relay")))
    )
    words = (
        "genesis",
        "admit",
        "requests.json",
        "--key",
        "admission.key",
        "--out",
        "out.json",
        "--for",
        "10d",
    )
    ended = run(*words, "--yes")
    assert (ended.status, ended.err) == (0, "")
    assert all(text in ended.out for text in ("pump-1", "anchor", spelled(key("hub"))[0], "ab" * 16))
    public = decode_public(admission_key)
    for document, name, roles in zip(
        signed(tmp_path / "out.json"), ("pump-1", "hub"), (("client",), ("anchor", "relay")), strict=True
    ):
        verify_signatures(document, {key_id(public): public})
        body = document.body
        assert (body.name, body.node_key, body.roles) == (name, spelled(key(name))[0], roles)
        assert abs(body.not_after - time.time() - 10 * DAY) < 60 * 60
    assert run(*words, "--yes").err.count("exists") == 1


def test_only_who_was_named_is_admitted(run: Run, admission_key: str, tmp_path: Path) -> None:
    """And a name that nobody asks for is a mistake."""
    (tmp_path / "requests.json").write_text(json.dumps(asked(row("pump-1"), row("gate"))))
    words = ("genesis", "admit", "requests.json", "--key", "admission.key", "--out", "out.json", "--yes")
    assert run(*words, "--only", "pump-9").status == 1
    assert not (tmp_path / "out.json").exists()
    assert run(*words, "--only", "pump-1").status == 0
    assert [document.body.name for document in signed(tmp_path / "out.json")] == ["pump-1"]


def test_nothing_is_signed_unseen(run: Run, admission_key: str, tmp_path: Path) -> None:
    """Without a terminal it takes the word that all was compared."""
    (tmp_path / "requests.json").write_text(json.dumps(asked(row("pump-1"))))
    ended = run("genesis", "admit", "requests.json", "--key", "admission.key", "--out", "out.json")
    assert (ended.status, "give --yes" in ended.err, (tmp_path / "out.json").exists()) == (1, True, False)


@pytest.mark.parametrize(
    "changed",
    [{"name": "no name"}, {"roles": []}, {"roles": ["king"]}, {"node_key": "x"}, {"not_after": NOW}],
)
def test_odd_requests_are_refused(
    run: Run, admission_key: str, tmp_path: Path, changed: dict[str, Any]
) -> None:
    """In one line, and nothing is written."""
    value = asked(row("pump-1"))
    value["requests"][0] |= changed
    (tmp_path / "requests.json").write_text(json.dumps(value))
    ended = run("genesis", "admit", "requests.json", "--key", "admission.key", "--out", "out.json", "--yes")
    assert (ended.status, ended.err.count("\n"), (tmp_path / "out.json").exists()) == (1, 1, False)


def test_they_are_brought_in_batches(admin: Run, http_end: Any, tmp_path: Path) -> None:
    """No request holds more than the authority takes; each admission goes once, as it was signed."""
    documents = [Network().admission(f"pump-{number}").as_dict() for number in range(33)]
    (tmp_path / "signed.json").write_text(json.dumps({"admissions": documents}))
    http_end.json("POST /admin/admissions", {"admitted": []})
    ended = admin("enrolments", "admit", "signed.json")
    assert (ended.status, ended.out) == (0, "admitted: 33\n")
    bodies = [json.loads(body) for method, _, _, body in http_end.requests if method == "POST"]
    assert [len(body["admissions"]) for body in bodies] == [32, 1]
    assert [each for body in bodies for each in body["admissions"]] == documents


def test_the_genesis_that_names_the_key(run: Run, admission_key: str, tmp_path: Path) -> None:
    """It is described in the input, shown in the review, and marked as new against the version before."""
    root, authority = (run("key", "create", f"{name}.key").out.strip() for name in ("root", "authority"))
    (tmp_path / "first.toml").write_text(
        f'network = "lab"\n[root]\nthreshold = 1\nkeys = ["{root}"]\n[[authority]]\nkey = "{authority}"\n'
    )
    (tmp_path / "second.toml").write_text(
        f'[admission]\nkeys = ["{admission_key}"]\nrequired_from = 2031-02-03T00:00:00Z\n'
    )
    assert run("genesis", "create", "first.toml", "--out", "1.json").status == 0
    digest = run("genesis", "show", "1.json", "--digest").out.strip()
    run("genesis", "sign", "1.json", "--key", "root.key", "--digest", digest, "--out", "1.sig")
    assert run("genesis", "verify", "1.json", "1.sig", "--out", "genesis.json").status == 0
    ended = run("genesis", "create", "second.toml", "--previous", "genesis.json", "--out", "2.json")
    assert ended.status == 0, ended.err
    assert f"+ admission key: {key_id(decode_public(admission_key))}  {admission_key}" in ended.out
    assert "+ admission required: from 2031-02-03 00:00" in ended.out
    assert "bring theirs first" in ended.out
    assert json.loads((tmp_path / "2.json").read_bytes())["signed"]["admission"] == {
        "keys": [admission_key],
        "required_from": 1927843200,
    }
