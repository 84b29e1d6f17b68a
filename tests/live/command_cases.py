# SPDX-License-Identifier: MIT
"""For every command of C{gmesh}: how it is used well, and how it is used badly."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from daemon.held_ports import free_port
from live.command_rig import Rig, Running
from live.node_rig import ask, until

Words = Sequence[str]
NOBODY = "0" * 32


@dataclass(frozen=True)
class Case:
    """
    One command.

    @ivar good: makes what it needs and returns its arguments; called anew for each run.
    @ivar bad: argument lists, each of which must be refused.
    @ivar shows: stands in what it prints, when not as JSON.
    @ivar around: what goes on while it runs.
    """

    good: Callable[[Rig], Words]
    bad: Sequence[Words]
    shows: str = ""
    stdin: str = ""
    around: Callable[[Rig, Running], contextlib.AbstractContextManager[object]] | None = None


READABLE = ("postgresql://gmesh:secret@127.0.0.1/gmesh", "--state", "net/authority")
"""A URL that everybody on the host can read."""


def fixed(*words: str) -> Callable[[Rig], Words]:
    """The same arguments each time."""
    return lambda rig: words


NO_NODE = ("--state", "nowhere")
NO_OPERATOR = ("admin", "--operator", "nowhere")


def _withdrawn(rig: Rig) -> Words:
    name = rig.fresh("spare")
    rig.gmesh("admin", "invite", "--name", name, "--role", "client")
    return [name]


def _protected(rig: Rig) -> Words:
    return [rig.key()[0]]


def _described(rig: Rig) -> Words:
    text = f"{rig.fresh('network')}.toml"
    root, authority = rig.key()[1], rig.key()[1]
    (rig.directory / text).write_text(
        f'network = "other"\nauthority_urls = []\n[root]\nthreshold = 1\nkeys = ["{root}"]\n'
        f'[[authority]]\nkey = "{authority}"\n'
    )
    return [text, "--out", f"{rig.fresh('unsigned')}.json"]


def _to_sign(rig: Rig) -> Words:
    unsigned, digest = rig.unsigned()
    out = f"{rig.fresh('root')}.sig"
    previous = ["--previous", rig.newest_genesis()]
    return [unsigned, *previous, "--key", "net/root/root.key", "--digest", digest, "--out", out]


def _to_verify(rig: Rig) -> Words:
    unsigned, digest = rig.unsigned()
    return [unsigned, rig.signature(unsigned, digest), "--previous", rig.newest_genesis()]


def _pending(rig: Rig) -> Words:
    return [rig.admitted("--approve")]


def _admitting(rig: Rig) -> Words:
    """The key that the genesis names, from 2090 on, and who needs an admission."""
    file, public = rig.key()
    rule = f'[admission]\nkeys = ["{public}"]\nrequired_from = 2090-01-01T00:00:00Z\n'
    rig.gmesh("admin", "genesis", "publish", rig.signed_genesis(rule))
    requests, out = f"{rig.fresh('requests')}.json", f"{rig.fresh('admissions')}.json"
    (rig.directory / requests).write_text(rig.gmesh("admin", "enrolments", "unadmitted", "--json"))
    return [requests, "--key", file, "--out", out, "--yes"]


def _brought(rig: Rig) -> Words:
    words = _admitting(rig)
    rig.gmesh("genesis", "admit", *words)
    return [words[words.index("--out") + 1]]


def _removed(rig: Rig) -> Words:
    return [rig.operator("read")[1]]


def _replaced(rig: Rig) -> Words:
    return [rig.key()[1], "--of", rig.operator("read")[1]]


def _proposal(rig: Rig) -> tuple[str, str]:
    """
    One administrator has asked for a backup, which takes two.

    @return: the other one's directory, and the id.
    """
    other = rig.operator("administer")[0]
    voters = ["POST /admin/operators", "DELETE /admin/operators/<id>", "POST /admin/operators/<id>"]
    operations = [*voters, "POST /admin/genesis", "POST /admin/backup"]
    rules = rig.directory / "net/authority/approvals.json"
    rules.write_text(json.dumps({"required": 2, "operations": operations}))
    rig.reload_authority()
    try:
        rig.gmesh("admin", "backup", check=False)
        (waiting,) = rig.read("admin", "approvals")["approvals"]
    finally:
        rules.unlink()  # it counts until the authority is told to do without
    return other, waiting["id"]


def _approval(rig: Rig) -> Words:
    """The other one approves."""
    other, name = _proposal(rig)
    return ["--operator", other, "approvals", "approve", name, "--yes"]


def _withdrawal(rig: Rig) -> Words:
    """The one who asked takes it back."""
    return [_proposal(rig)[1]]


@contextlib.contextmanager
def _alone_again(rig: Rig, running: Running) -> Iterator[None]:
    yield
    rig.daemons["authority"].stop()
    rig.restart("authority", "--weaken-approvals")
    rig.daemons["authority"].wait_for("ready|READY")


def _sent(rig: Rig) -> Words:
    rig.served("c", "chat")
    return ["c", "hello", "--service", "chat"]


def _restored(rig: Rig) -> Words:
    copy, backup = rig.copied_authority()
    return [backup, "--state", copy, "--crl", "a/crl.json", "--policy", "a/policy.json"]


def _created(rig: Rig) -> Words:
    url, state = rig.new_database()
    return [url, "--state", state]


def _begun(*more: str) -> Callable[[Rig], Words]:
    def words(rig: Rig) -> Words:
        url, state = rig.created_database()
        return [url, "--state", state, *more]

    return words


def _moved(rig: Rig) -> Words:
    state, _ = rig.copied_authority()
    return [f"{state}/authority.sqlite", f"{state}/moved.sqlite", "--state", state]


def _exported(rig: Rig) -> Words:
    file = f"{rig.fresh('audit')}.jsonl"
    rig.gmesh("admin", "audit", "export", file)
    return [file, "--floors", "a/floors.json", "--status", "a/status.json"]


def _recovered(rig: Rig) -> Words:
    return ["--state", rig.copied_authority()[0], "--key", rig.key()[1]]


def _joined(rig: Rig) -> Words:
    name = rig.fresh("host")
    return [rig.gmesh("admin", "invite", "--name", name, "--role", "client"), "--state", name]


def _given(rig: Rig) -> Words:
    return [rig.read("admin", "command", "log-level", "level=info", "--node", "a")["id"]]


@contextlib.contextmanager
def _sent_to_a(rig: Rig, running: Running) -> Iterator[None]:
    """Messages from c, until the command on a has had its one."""
    until(lambda: any(row["service"] == "inbox" for row in rig.read("services")))
    rig.gmesh("send", "a", "hello", "--service", "inbox", "--state", "c")
    yield


def _taken_back(path: str, key: str) -> Callable[[Rig, Running], contextlib.AbstractContextManager[object]]:
    """Take back what the command has asked for, once it is there."""

    @contextlib.contextmanager
    def around(rig: Rig, running: Running) -> Iterator[None]:
        until(lambda: ask(rig.directory / "a", "GET", path)[1] != [])
        [row] = ask(rig.directory / "a", "GET", path)[1]
        assert ask(rig.directory / "a", "DELETE", f"{path}/{row[key]}")[0] == 200
        yield

    return around


CASES: dict[str, Case] = {
    "init": Case(
        lambda rig: [rig.fresh("net"), "--network", "other"],
        [["net", "--network", "lab"], ["x", "--network", "No Name!"], ["x"]],
        "authority",
    ),
    "key create": Case(lambda rig: [f"{rig.fresh('key')}.key"], [["phrase"], ["nowhere/x.key"], []]),
    "key protect": Case(_protected, [["nowhere.key"], ["phrase"]], "is sealed"),
    "key show": Case(fixed("net/operator/operator.key"), [["nowhere.key"], ["phrase"]]),
    "genesis create": Case(
        _described, [["phrase", "--out", "x.json"], ["nowhere", "--out", "x.json"]], "digest"
    ),
    "genesis admit": Case(
        _admitting, [["phrase", "--key", "phrase", "--out", "x.json", "--yes"], ["nowhere"]], "Signed by"
    ),
    "genesis rotate": Case(
        lambda rig: [
            rig.newest_genesis(),
            "--authority-key",
            rig.key()[1],
            "--out",
            f"{rig.fresh('r')}.json",
        ],
        [["phrase", "--authority-key", "x", "--out", "x.json"], ["a/genesis.json", "--out", "x.json"]],
        "digest",
    ),
    "genesis show": Case(fixed("a/genesis.json"), [["phrase"], ["nowhere"]], "lab"),
    "genesis sign": Case(
        _to_sign, [["a/genesis.json", "--key", "phrase", "--digest", "0" * 64, "--out", "x.sig"]], "digest"
    ),
    "genesis verify": Case(_to_verify, [["a/genesis.json", "phrase"], ["nowhere"]]),
    "admin invite": Case(
        lambda rig: ["--name", rig.fresh("host"), "--role", "client"],
        [["--name", "x", "--role", "king"], ["--name", "No Name!", "--role", "client"], ["--name", "x"]],
    ),
    "admin invites": Case(fixed(), [], "NAME"),
    "admin invites list": Case(fixed(), [["x"]], "NAME"),
    "admin invites withdraw": Case(_withdrawn, [["nobody"], []]),
    "admin enrolments": Case(fixed(), []),
    "admin enrolments list": Case(fixed(), [["x"]]),
    "admin enrolments approve": Case(_pending, [["nobody"], []]),
    "admin enrolments unadmitted": Case(fixed(), [["x"]]),
    "admin enrolments admit": Case(_brought, [["phrase"], ["nowhere"]]),
    "admin enrolments reject": Case(_pending, [["nobody"], []]),
    "admin nodes": Case(fixed(), [["x"]], "b"),
    "admin certificates": Case(fixed("--node", "a"), [["--node"]], "a"),
    "admin revoke": Case(
        lambda rig: [rig.admitted(), "--reason", "superseded"],
        [["nobody"], ["a", "--reason", "mood"], ["a", "--serial", "1"], []],
    ),
    "admin policy explain": Case(fixed("a", "chat", "c"), [["a", "chat", "nobody"], ["a"]], "chat"),
    "admin policy history": Case(fixed(), [["x"]], "1"),
    "admin policy publish": Case(
        lambda rig: [rig.policy(9 + int(rig.fresh("n").rpartition("-")[2]) % 7)],
        [["phrase"], ["nowhere"], ["a/policy.json", "--if-version", "999"]],
    ),
    "admin policy rollback": Case(fixed("1", "--dry-run"), [["999"], ["x"]]),
    "admin policy show": Case(fixed("1"), [["999"], ["x"]]),
    "admin operators": Case(fixed(), [], "administer"),
    "admin operators list": Case(fixed(), [["x"]], "administer"),
    "admin operators add": Case(
        lambda rig: [rig.key()[1], "--role", "read", "--name", rig.fresh("eve")],
        [["x", "--role", "read"], ["A" * 43, "--role", "king"]],
    ),
    "admin operators remove": Case(_removed, [[NOBODY], ["x"]]),
    "admin operators replace": Case(_replaced, [["x"], ["A" * 43, "--of", "x"]]),
    "admin approvals": Case(fixed(), []),
    "admin approvals list": Case(fixed(), [["x"]]),
    "admin approvals approve": Case(_approval, [[NOBODY, "--yes"], ["x", "--yes"]], around=_alone_again),
    "admin approvals withdraw": Case(_withdrawal, [[NOBODY], ["x"]], around=_alone_again),
    "admin command": Case(
        fixed("ping-report", 'nodes=["b"]', "--node", "a", "--wait", "--timeout", "2m"),
        [
            ["no-such-command", "--all"],
            ["reload"],
            ["reload", "--node", "No Name!"],
            ["reload", "x", "--all"],
        ],
        "done",
    ),
    "admin commands": Case(fixed(), []),
    "admin commands list": Case(fixed(), [["x"]]),
    "admin commands show": Case(_given, [[NOBODY], ["x"]]),
    "admin audit": Case(fixed("--last", "5"), [["--last", "x"], ["--status", "nowhere"]]),
    "admin audit export": Case(lambda rig: [f"{rig.fresh('audit')}.jsonl"], [["nowhere/x.jsonl"], []]),
    "admin genesis publish": Case(
        lambda rig: [rig.signed_genesis()], [["phrase"], ["nowhere"], ["net/root/genesis.json"]]
    ),
    "admin replicas": Case(fixed(), [["x"]], "yes"),
    "admin backup": Case(fixed(), [["x"]], "backups"),
    "audit verify": Case(_exported, [["nowhere"], ["phrase"], ["phrase", "--floors", "nowhere"]], "good: "),
    "restore": Case(_restored, [["nowhere", "--state", "net/authority"], ["phrase", "--state", "nowhere"]]),
    "database create": Case(_created, [READABLE, ["--state", "net/authority"]], "created: network"),
    "database check": Case(_begun(), [READABLE, ["--state", "net/authority"]], "fsync on"),
    "database copy": Case(
        _moved,
        [
            ["phrase", "x.sqlite", "--state", "net/authority"],
            ["nowhere", "x.sqlite", "--state", "net/operator"],
            ["nowhere", "postgresql://gmesh:secret@127.0.0.1/gmesh", "--state", "net/operator"],
        ],
        "copied and compared",
    ),
    "database adopt": Case(
        _begun("--whole"),
        [READABLE, ["--state", "net/authority"], ["host=x", "--state", "a", "--whole", "--yes"]],
        "adopted as it is",
    ),
    "recover-operator": Case(
        _recovered, [["--state", "net/authority", "--key", "x"], ["--state", "nowhere", "--key", "A" * 43]]
    ),
    "join": Case(_joined, [["gmesh-invite:x", "--state", "x"], ["--state", "x"]], "Enrolled"),
    "status": Case(fixed(), [NO_NODE, ["--control", "x"]], "certificate"),
    "peers": Case(fixed(), [NO_NODE], "b"),
    "routes": Case(fixed(), [NO_NODE, ["c", "--follow"]], "a > b > c"),
    "nodes": Case(fixed(), [NO_NODE], "anchor"),
    "transits": Case(fixed("--state", "b"), [NO_NODE]),
    "capture": Case(fixed("b", "--seconds", "0.3"), [["nobody"], ["b", "--seconds", "nan"], []]),
    "services": Case(fixed(), [NO_NODE]),
    "whois": Case(fixed("c"), [["nobody"], [""], []], "client"),
    "ping": Case(fixed("c", "--count", "1"), [["nobody"], ["c", "--count", "0"]], "answer from c"),
    "trace": Case(fixed("c"), [["nobody"], []], "a > b > c"),
    "send": Case(
        _sent,
        [
            ["c", "hello", "--service", "nothing-there", "--timeout", "3"],
            ["nobody", "hello", "--service", "chat"],
            ["c", "hello", "--service", "_echo"],
            ["c", "hello"],
        ],
        "delivered to c",
    ),
    "receive": Case(
        fixed("--service", "inbox", "--count", "1"),
        [["--service", "No Name!"], ["--service", "_echo"], ["--service", "x", "--count", "0"], []],
        "hello",
        around=_sent_to_a,
    ),
    "connect": Case(
        fixed("c.gmesh", "gmesh-bench"),
        [["nobody", "web"], ["c", "nothing-there"], ["c", "No Name!"], ["c"], ["c", "web", "--fdpass"]],
        "hello",
        stdin="0123456789abcdefehello",  # which that service sends back, after a name of the run and an act
    ),
    "expose": Case(
        fixed("tcp:127.0.0.1:1", "--service", "page"),
        [
            ["tcp:127.0.0.1:1"],
            ["unix:/run/x", "--service", "page"],
            ["nonsense", "--service", "page"],
            ["tcp:127.0.0.1:1", "--service", "_echo"],
        ],
        "exposing tcp:127.0.0.1:1 as page",
        around=_taken_back("/v1/exposures", "service"),
    ),
    "forward": Case(
        lambda rig: [f"tcp:{free_port()}", "c:ssh"],
        [["udp:53", "c:ssh"], ["tcp:0", "c"], ["unix:/run/x", "c:ssh"], ["tcp:1"]],
        "to c:ssh",
        around=_taken_back("/v1/forwards", "id"),
    ),
    "streams": Case(fixed(), [NO_NODE], "no streams"),
    "bench": Case(
        fixed("c", "--seconds", "0.3"),
        [["nobody"], ["c", "--streams", "0"], ["c", "--seconds", "0"], []],
        "MB/s",
    ),
    "doctor": Case(fixed(), [NO_NODE, ["--control", "x"]], "OK"),
    "watch": Case(fixed("--once"), [[*NO_NODE, "--once"], ["--interval", "0"]], "nodes 3 of 3"),
    "demo": Case(fixed(), [["x"]], "all files removed"),
}
