# SPDX-License-Identifier: MIT
"""gmesh join: what is asked, what is checked before anything is spent, and what is stored."""

from __future__ import annotations

import fcntl
import io
import json
import re
import shlex
import shutil
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cli.admin_rig import make_operator, show_documents
from trust.network import DAY, NOW, Network, key

from gmesh.cli import next_step
from gmesh.cli.authority import RemoteAuthority
from gmesh.cli.http import HttpRefused, Unreachable
from gmesh.cli.join import enrol, enrol_alone, enrolled, host_keys
from gmesh.cli.operator import OperatorClient
from gmesh.cli.patience import Patience
from gmesh.daemon.lock import StateLock
from gmesh.errors import ConfigurationError, DocumentRefused, PeerRefused
from gmesh.testing.issuer import Issuer
from gmesh.trust.encoding import b64url_decode
from gmesh.trust.invite import Invite
from gmesh.trust.join import parse_join_request, verify_join_request
from gmesh.trust.keys import SigningKey, key_id
from gmesh.trust.signed_requests import JOIN_TAG, read_request


class Enrolling:
    """A network whose authority is the far end; it admits whoever asks, unless told otherwise."""

    def __init__(self, end: Any, directory: Path, network: Network | None = None) -> None:
        self.end = end
        self.network = network or Network()
        self.state = directory / "state"
        self.state.mkdir()
        self.now = NOW
        self.invite = Invite(
            urls=(end.where,),
            network_id=self.network.network_id,
            genesis_version=self.network.genesis.body.version,
            genesis_digest=self.network.genesis.digest,
            authority=self.network.authority.key_id,
            seed=b"\1" * 32,
        )
        self.publish(self.network)
        end.answers["POST /join"] = self.admit

    def publish(self, network: Network) -> None:
        """Show the documents of a network."""
        show = self.end.answers
        show["GET /genesis"] = (200, network.genesis.encode())
        for genesis in network.chain:
            show[f"GET /genesis/{genesis.body.version}"] = (200, genesis.encode())
        show["GET /status"] = (200, network.status().encode())
        show["GET /crl"] = (200, network.crl().encode())
        show["GET /policy"] = (200, network.policy().encode())

    def admit(self, handler: Any) -> None:
        """Answer with a certificate for the keys of the request."""
        request = json.loads(self.joins()[-1][3])
        keys = {"node_key": request["node_key"], "noise_key": request["noise_key"]}
        certificate = self.network.certificate("pump", **keys)
        data = json.dumps({"certificate": certificate.as_dict()}).encode()
        handler.send_response(201)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def joins(self) -> list[Any]:
        """The join requests so far."""
        return [request for request in self.end.requests if request[1] == "/join"]

    def enrol(self) -> Any:
        """Enrol as the command does, at the time of this network."""
        return enrol(self.invite, self.state, RemoteAuthority([self.end.where], lambda: self.now))

    def files(self) -> set[str]:
        """What lies in the state directory."""
        return {path.name for path in self.state.iterdir()}


def invite_of(issuer: Issuer) -> Invite:
    """An invite for its network."""
    genesis = issuer.genesis
    return Invite(
        urls=genesis.body.authority_urls,
        network_id=issuer.network_id,
        genesis_version=genesis.body.version,
        genesis_digest=genesis.digest,
        authority=issuer.authority.key_id,
        seed=b"\1" * 32,
    )


@pytest.fixture
def issuer_of() -> Callable[[dict[str, str]], Issuer]:
    """Makes the authority of a network with these anchors."""
    return lambda anchors: Issuer(time.time, Random(7), list(anchors.items()), ["http://127.0.0.1:1"])


@pytest.fixture
def enrolling(http_end: Any, tmp_path: Path) -> Enrolling:
    """An authority that admits."""
    return Enrolling(http_end, tmp_path)


def test_enrolled_directory(enrolling: Enrolling) -> None:
    """After a join the directory holds the fixed files, the keys private, the documents as received."""
    enrolling.enrol()
    documents = {
        "genesis.json",
        "genesis.1.json",
        "certificate.json",
        "crl.json",
        "policy.json",
        "status.json",
    }
    assert enrolling.files() == documents | {"identity.key", "noise.key", "floors.json", "authority.json"}
    for name in ("identity.key", "noise.key"):
        assert stat.S_IMODE((enrolling.state / name).stat().st_mode) == 0o600
    assert (enrolling.state / "crl.json").read_bytes() == enrolling.network.crl().encode()
    assert json.loads((enrolling.state / "authority.json").read_bytes()) == {"urls": [enrolling.end.where]}


def test_request_is_signed_by_invite_and_node(enrolling: Enrolling) -> None:
    """The request carries the invite key's signature, and is signed by the node key for this authority."""
    enrolling.enrol()
    ((method, target, headers, body),) = enrolling.joins()
    signed = read_request(method, target, lambda name: [headers[name]], body)
    node = SigningKey.from_pem((enrolling.state / "identity.key").read_bytes())
    signed.verify(node.public)
    assert (signed.tag, signed.audience) == (JOIN_TAG, enrolling.network.authority.key_id)
    request = parse_join_request(body)
    verify_join_request(request)
    assert b64url_decode(request.invite_key, 32) == SigningKey.from_seed(b"\1" * 32).public
    assert b"\1" * 32 not in body


def test_later_genesis(http_end: Any, tmp_path: Path) -> None:
    """An invite of version 1 works after version 2: the chain is walked, and all of it is stored."""
    enrolling = Enrolling(http_end, tmp_path)
    enrolling.network.next_genesis()
    enrolling.publish(enrolling.network)
    enrolling.enrol()
    assert {"genesis.1.json", "genesis.2.json", "genesis.json"} <= enrolling.files()
    assert (enrolling.state / "genesis.json").read_bytes() == enrolling.network.genesis.encode()


def test_lost_answer(enrolling: Enrolling) -> None:
    """When the answer is lost, the next try offers the same keys."""

    def lost(handler: Any) -> None:
        handler.close_connection = True

    enrolling.end.answers["POST /join"] = lost
    with pytest.raises(Unreachable):
        enrolling.enrol()
    enrolling.end.answers["POST /join"] = enrolling.admit
    enrolling.enrol()
    first, second = (json.loads(request[3]) for request in enrolling.joins())
    assert (first["node_key"], first["noise_key"]) == (second["node_key"], second["noise_key"])


def _other_network(enrolling: Enrolling) -> None:
    enrolling.publish(Network(roots=("mallory",)))


def _genesis_off_the_pin(enrolling: Enrolling) -> None:
    other = Network()
    other.next_genesis(anchors=())
    enrolling.invite = replace(enrolling.invite, genesis_version=2, genesis_digest="0" * 64)
    enrolling.publish(other)


def _forged_successor(enrolling: Enrolling) -> None:
    enrolling.network.next_genesis(signers=("mallory",))
    enrolling.publish(enrolling.network)


def _foreign_status(enrolling: Enrolling) -> None:
    enrolling.end.answers["GET /status"] = (200, enrolling.network.status(signer=key("mallory")).encode())


def _foreign_crl(enrolling: Enrolling) -> None:
    enrolling.end.answers["GET /crl"] = (200, enrolling.network.crl(signer=key("mallory")).encode())


def _other_crl_than_the_status(enrolling: Enrolling) -> None:
    enrolling.end.answers["GET /crl"] = (200, enrolling.network.crl(revoked=[(1, NOW + DAY, 0)]).encode())


def _malformed_genesis(enrolling: Enrolling) -> None:
    enrolling.end.answers["GET /genesis"] = (200, b'{"signed": {}, "signed": {}}')


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_other_network, "wrong-network"),
        (_genesis_off_the_pin, "wrong-genesis"),
        (_forged_successor, "unknown-key"),
        (_foreign_status, "unknown-key"),
        (_foreign_crl, "unknown-key"),
        (_other_crl_than_the_status, "digest-mismatch"),
        (_malformed_genesis, "invalid-json"),
    ],
)
def test_field_t14_nothing_is_spent_on_another_network(
    enrolling: Enrolling, spoil: Callable[[Enrolling], None], reason: str
) -> None:
    """What does not lead back to the invite's network is refused before the invite is shown to anybody."""
    spoil(enrolling)
    with pytest.raises(DocumentRefused) as caught:
        enrolling.enrol()
    assert caught.value.reason == reason
    assert not enrolling.joins()
    assert enrolling.files() <= {"identity.key", "noise.key"}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"signer": key("mallory")}, PeerRefused),
        ({"network_id": "0" * 32}, PeerRefused),
        ({"node_key": "same as invite"}, DocumentRefused),
        ({"not_before": NOW - 2 * DAY, "not_after": NOW - DAY}, PeerRefused),
    ],
)
def test_certificate_is_judged(enrolling: Enrolling, changes: dict[str, Any], error: type[Exception]) -> None:
    """A certificate by another signer, for another network or key, or out of its time, is not stored."""
    plain = enrolling.network.certificate

    def certificate(name: str, **keys: Any) -> Any:
        if "node_key" in changes:
            return plain(name)
        return plain(name, **{**keys, **changes})

    enrolling.network.certificate = certificate  # type: ignore[method-assign]  # a dishonest authority
    with pytest.raises(error):
        enrolling.enrol()
    assert "certificate.json" not in enrolling.files()


def test_stale_clock(enrolling: Enrolling) -> None:
    """A slow clock is set right by the authority's time, if the verified status vouches for that time."""
    enrolling.now = NOW - 100

    def stale(handler: Any) -> None:
        enrolling.end.answers["POST /join"] = enrolling.admit
        handler.send_response(401)
        data = b'{"type": "urn:gmesh:problem:stale", "detail": "compare the clocks", "time": %d}' % (NOW + 30)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    enrolling.end.answers["POST /join"] = stale
    enrolling.enrol()
    first, second = (json.loads(request[3])["created"] for request in enrolling.joins())
    assert (first, second) == (NOW - 100, NOW + 30)


def test_stale_beyond_the_status(enrolling: Enrolling) -> None:
    """A time outside the verified status is not signed."""
    enrolling.end.problem("POST /join", "stale", 401, "compare the clocks", time=NOW + 2 * DAY)
    with pytest.raises(HttpRefused, match="compare the clocks"):
        enrolling.enrol()
    assert len(enrolling.joins()) == 1


def test_pending(enrolling: Enrolling) -> None:
    """An invite that waits for approval says so and stores no certificate."""
    enrolling.end.answers["POST /join"] = (202, b"{}")
    with pytest.raises(HttpRefused, match="approve"):
        enrolling.enrol()
    assert "certificate.json" not in enrolling.files()


@pytest.mark.parametrize("reason", ["enrolment-refused", "name-taken", "key-taken", "cert-revoked"])
def test_a_refused_join_leaves_no_keys(enrolling: Enrolling, reason: str) -> None:
    """They were made for it alone; those that were there before stay."""
    enrolling.end.problem("POST /join", reason, 403, "not so")
    with pytest.raises(HttpRefused, match="not so"):
        enrolling.enrol()
    assert enrolling.files() == set()
    host_keys(enrolling.state)
    kept = (enrolling.state / "identity.key").read_bytes()
    with pytest.raises(HttpRefused, match="not so"):
        enrolling.enrol()
    assert enrolling.files() == {"identity.key", "noise.key"}
    assert (enrolling.state / "identity.key").read_bytes() == kept


def test_a_join_that_may_have_been_done_keeps_its_keys(enrolling: Enrolling) -> None:
    """The next one offers the same, and gets the certificate that the authority made for them."""
    enrolling.end.answers["POST /join"] = (502, b"")
    with pytest.raises(Unreachable):
        enrolling.enrol()
    assert enrolling.files() == {"identity.key", "noise.key"}


def test_a19_join_shows_the_node_id_that_an_operator_compares(enrolling: Enrolling) -> None:
    """That of the key which it asked with."""
    enrolling.end.answers["POST /join"] = (202, b"{}")
    with pytest.raises(HttpRefused) as pending:
        enrolling.enrol()
    (asked,) = enrolling.joins()
    assert f"node id {key_id(b64url_decode(json.loads(asked[3])['node_key'], 32))}" in pending.value.detail


def test_unreachable_authority(run: Callable[..., Any], enrolling: Enrolling, tmp_path: Path) -> None:
    """An authority that does not answer is one line; the keys are kept for the next try."""
    invite = replace(enrolling.invite, urls=("http://127.0.0.1:1",))
    ended = run("join", invite.encode(), "--state", tmp_path / "new")
    assert (ended.status, ended.err) == (1, "gmesh: nothing listens at http://127.0.0.1:1\n")


def test_second_url(enrolling: Enrolling) -> None:
    """The next URL is asked when the first does not answer."""
    certificate = enrol(
        enrolling.invite,
        enrolling.state,
        RemoteAuthority(["http://127.0.0.1:1", enrolling.end.where], lambda: NOW),
    )
    assert certificate.body.name == "pump"


@pytest.mark.parametrize("status", [200, 204, 302, 502])
def test_d6_join_passes_over_who_is_not_the_authority(
    enrolling: Enrolling, portal: Callable[[int], str], status: int
) -> None:
    """A captive portal, a parked host, or a proxy that reaches nobody answers at the first URL."""
    urls = [portal(status), enrolling.end.where]
    certificate = enrol(enrolling.invite, enrolling.state, RemoteAuthority(urls, lambda: NOW))
    assert certificate.body.name == "pump"


def test_d6_join_names_who_answered(enrolling: Enrolling, portal: Callable[[int], str]) -> None:
    """Where nobody else is left."""
    url = portal(302)
    with pytest.raises(Unreachable, match="answered 302, but not as an authority does"):
        enrol(enrolling.invite, enrolling.state, RemoteAuthority([url], lambda: NOW))


def test_b21_join_says_that_the_daemon_is_to_be_restarted(
    run: Callable[..., Any], enrolling: Enrolling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that works on the directory has read the old certificate."""
    monkeypatch.setattr(time, "time", lambda: NOW)
    assert "Restart it" not in run("join", enrolling.invite.encode(), "--state", enrolling.state).out
    (enrolling.state / "certificate.json").unlink()
    lock = StateLock(enrolling.state, "gmesh-node")
    ended = run("join", enrolling.invite.encode(), "--state", enrolling.state)
    assert ended.status == 0 and "A daemon runs there with the certificate it has started with" in ended.out
    lock.release()


def test_field_l5_enrolled_host_spends_nothing(run: Callable[..., Any], enrolling: Enrolling) -> None:
    """A second join into an enrolled directory asks nobody and succeeds."""
    enrolling.enrol()
    before = len(enrolling.end.requests)
    ended = run("join", enrolling.invite.encode(), "--state", enrolling.state)
    assert (ended.status, len(enrolling.end.requests)) == (0, before)
    assert ended.out.startswith("Already enrolled as pump (relay), node id ")


def test_a_certificate_that_has_ended_is_none(enrolling: Enrolling) -> None:
    """A host whose certificate expired, or was revoked as far as it knows, uses its next invite."""
    certificate = enrolling.enrol()
    assert enrolled(enrolling.state, enrolling.invite, NOW) == certificate
    assert enrolled(enrolling.state, enrolling.invite, certificate.body.not_after + 3600) is None
    body = certificate.body
    crl = enrolling.network.crl(2, revoked=[(body.serial, body.not_after, 0)])
    (enrolling.state / "crl.json").write_bytes(crl.encode())
    assert enrolled(enrolling.state, enrolling.invite, NOW) is None


def test_other_network_into_an_enrolled_directory(run: Callable[..., Any], enrolling: Enrolling) -> None:
    """An invite of another network does not touch an enrolled directory."""
    enrolling.enrol()
    before = {path: path.read_bytes() for path in enrolling.state.iterdir()}
    other = replace(enrolling.invite, network_id="0" * 32)
    ended = run("join", other.encode(), "--state", enrolling.state)
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert {path: path.read_bytes() for path in enrolling.state.iterdir()} == before


@pytest.mark.parametrize("invite", ["", "x", "gmesh-invite:", "gmesh-invite:AAAA"])
def test_bad_invite(run: Callable[..., Any], tmp_path: Path, invite: str) -> None:
    """What is no invite is told in one line, and no directory is made."""
    ended = run("join", invite, "--state", tmp_path / "new")
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert not (tmp_path / "new").exists()


def test_open_key_file(enrolling: Enrolling) -> None:
    """A key that others can read is refused, with what to do."""
    enrolling.enrol()
    (enrolling.state / "certificate.json").unlink()
    (enrolling.state / "identity.key").chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 0600"):
        enrolling.enrol()


def test_seed_file_is_used_up(run: Callable[..., Any], enrolling: Enrolling, tmp_path: Path) -> None:
    """A seed file is removed once this host is enrolled; comments and blank lines in it are passed over."""
    enrolling.enrol()
    seed = tmp_path / "invite.seed"
    seed.write_text(f"# pump-07\n\n{enrolling.invite.encode()}\n")
    ended = run("join", "--seed", seed, "--state", enrolling.state)
    assert (ended.status, ended.err) == (0, "")
    assert not seed.exists()


def test_seed_stays_until_it_was_of_use(
    run: Callable[..., Any], enrolling: Enrolling, tmp_path: Path
) -> None:
    """A seed file that did not enrol this host is left where it is, for the next try."""
    seed = tmp_path / "invite.seed"
    seed.write_text(replace(enrolling.invite, urls=("http://127.0.0.1:1",)).encode())
    ended = run("join", "--seed", seed, "--state", tmp_path / "new")
    assert (ended.status, ended.err) == (1, "gmesh: nothing listens at http://127.0.0.1:1\n")
    assert seed.exists()


@pytest.mark.parametrize("content", [b"", b"# only a comment\n", b"one\ntwo\n", b"\xff\n"])
def test_bad_seed(run: Callable[..., Any], tmp_path: Path, content: bytes) -> None:
    """A seed file without exactly one line of text is refused with its name."""
    seed = tmp_path / "invite.seed"
    seed.write_bytes(content)
    ended = run("join", "--seed", seed, "--state", tmp_path / "state")
    assert ended.status == 1
    assert "invite.seed" in ended.err
    assert seed.exists()


def test_invite_and_seed_together(run: Callable[..., Any], tmp_path: Path) -> None:
    """Both, or neither, is a usage error."""
    for arguments in (["gmesh-invite:x", "--seed", tmp_path / "seed"], []):
        assert run("join", *arguments, "--state", tmp_path / "state").status == 2


def test_b12_d17_an_invite_comes_in_pieces_from_a_file_or_from_standard_input(
    run: Callable[..., Any], enrolling: Enrolling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blank that the shell took for the end of a word, a file that stays, and C{-}: all the same invite."""
    enrolling.enrol()
    text = enrolling.invite.encode()
    file = tmp_path / "pump.invite"
    file.write_text(f"# for the pump\n\u201c{text[:70]}\n{text[70:]}\u201d\n", encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{text[:70]}\n{text[70:]}\n"))
    for given in ([text[:90], text[90:]], [file], ["-"]):
        ended = run("join", *given, "--state", enrolling.state)
        assert (ended.status, ended.err) == (0, "")
        assert ended.out.startswith("Already enrolled as pump")
    assert file.exists()


def test_b12_no_piece_of_an_invite_is_repeated(run: Callable[..., Any], tmp_path: Path) -> None:
    """What is damaged is not told to the log either."""
    ended = run("join", "gmesh-invite:SECRET", "SECRET", "--state", tmp_path / "new")
    assert ended.status == 1 and "SECRET" not in ended.err


def test_d17_an_enrolled_host_tells_that_it_did_not_use_the_invite(
    run: Callable[..., Any], enrolling: Enrolling
) -> None:
    """It may be for another name: what to do then is said."""
    enrolling.enrol()
    ended = run("join", replace(enrolling.invite, seed=b"\2" * 32).encode(), "--state", enrolling.state)
    assert ended.status == 0
    assert "The invite was not used. If it is for another name than pump: revoke pump first" in ended.out


def test_a27_join_names_the_ways_that_show_no_invite_first(run: Callable[..., Any]) -> None:
    """Its help, what C{init} prints and the manual pages name C{-}; arguments are for all to read."""
    ended = run("join", "--help")
    assert "[-|FILE|INVITE]" in ended.out and "Every user of this host can read" in ended.out
    made = run("init", "net", "--network", "lab")
    assert "gmesh join - --state STATE" in made.out
    root = Path(__file__).resolve().parents[2]
    pages = [*root.glob("docs/*.rst"), *root.glob("debian/man/*.in")]
    told = [line for page in pages for line in page.read_text().splitlines() if "gmesh join " in line]
    assert [line for line in told if line.strip().startswith("gmesh join -")]
    assert not [line for line in told if re.search(r"gmesh join (INVITE|gmesh-invite|\"\$\()", line)]


@pytest.mark.parametrize(
    ("roles", "anchors", "listen"),
    [
        (["anchor"], {"pump": "tcp:192.0.2.7:7500"}, ["--listen", "tcp:7500"]),
        (["anchor"], {"pump": r"tcp:2001\:db8\:\:1:7500"}, ["--listen", r"tcp:7500:interface=\:\:"]),
        (["relay"], {"other": "tcp:192.0.2.7:7500"}, ["--listen", "tcp:7443"]),
        (["client"], {"pump": "tcp:192.0.2.7:7500"}, []),
    ],
)
def test_b15_the_line_that_join_prints_listens_where_the_node_is_dialled(
    run: Callable[..., Any],
    issuer_of: Callable[..., Any],
    tmp_path: Path,
    roles: list[str],
    anchors: dict[str, str],
    listen: list[str],
) -> None:
    """As the genesis says of an anchor; a client needs to listen nowhere."""
    issuer = issuer_of(anchors)
    state = tmp_path / "my state"
    issuer.write_state(issuer.enrol("pump", *roles), state)
    ended = run("join", invite_of(issuer).encode(), "--state", state)
    assert ended.status == 0
    (line,) = [line for line in ended.out.splitlines() if line.startswith("  ")]
    program, *words = shlex.split(line)
    assert shutil.which(program) is not None
    assert words == ["-n", "--pidfile=", "gmesh-node", "--state", str(state), *listen]


def test_b15_on_debian_join_prints_the_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is a unit for this directory; where it listens is set before, if that is another place."""
    unit = tmp_path / "gmesh-node.service"
    unit.touch()
    monkeypatch.setattr(next_step, "NODE_UNIT", unit)
    debian = Path("/var/lib/gmesh-node")
    assert next_step.node_start(debian) == ["systemctl start gmesh-node"]
    assert next_step.node_start(debian, "tcp:7443") == ["systemctl start gmesh-node"]
    assert next_step.node_start(debian, "tcp:7500") == [
        "echo ENDPOINT=tcp:7500 >> /etc/default/gmesh-node",
        "systemctl start gmesh-node",
    ]
    assert "gmesh-node --state elsewhere" in next_step.node_start(Path("elsewhere"))[0]


OF_AN_AUTHORITY = ("authority.key", "authority.sqlite", "operators.json")


@pytest.mark.parametrize("mark", [*OF_AN_AUTHORITY, "operator.key", "root.key"])
def test_b2_the_directory_of_another_owner_is_no_nodes(
    run: Callable[..., Any], enrolling: Enrolling, mark: str
) -> None:
    """The refusal says whose it is; nobody is asked, and nothing is written there."""
    (enrolling.state / mark).write_bytes(b"")
    ended = run("join", enrolling.invite.encode(), "--state", enrolling.state)
    whose = {"operator.key": "an operator", "root.key": "the root"}.get(mark, "an authority")
    assert (ended.status, ended.err) == (
        1,
        f"gmesh: {enrolling.state} belongs to {whose} (it holds {mark}): name another directory for a node\n",
    )
    assert (enrolling.files(), enrolling.end.requests) == ({mark}, [])


def test_d4_two_joins_at_once_are_one_after_the_other(enrolling: Enrolling) -> None:
    """While one asks, the other waits; then it finds the host enrolled, and its own invite stays good."""
    other = replace(enrolling.invite, seed=b"\2" * 32)
    first_asks, second_waits = threading.Event(), threading.Event()
    ends: list[bool] = []

    def join(invite: Invite) -> None:
        patience = Patience(60, sleep=lambda _: second_waits.set(), say=lambda _: None)
        authority = RemoteAuthority([enrolling.end.where], lambda: NOW, patience=patience)
        ends.append(enrol_alone(invite, enrolling.state, authority)[1])

    def held(handler: Any) -> None:
        first_asks.set()
        assert second_waits.wait(60)
        enrolling.admit(handler)

    enrolling.end.answers["POST /join"] = held
    first = threading.Thread(target=join, args=[enrolling.invite])
    first.start()
    assert first_asks.wait(60)
    join(other)
    first.join()
    assert (ends, len(enrolling.joins())) == ([True, False], 1)
    assert "join.lock" not in enrolling.files()


def test_d4_a_join_beside_one_that_never_ends(run: Callable[..., Any], enrolling: Enrolling) -> None:
    """It gives up when its time is over, and says what is in the way."""
    with open(enrolling.state / "join.lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        patience = Patience(0.5, say=lambda _: None)
        authority = RemoteAuthority([enrolling.end.where], lambda: NOW, patience=patience)
        with pytest.raises(ConfigurationError, match="another gmesh join works on"):
            enrol_alone(enrolling.invite, enrolling.state, authority)
    assert not enrolling.end.requests


class Waits:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.said: list[str] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def patience(self, timeout: float) -> Patience:
        return Patience(timeout, self.sleep, lambda: self.now, lambda: 0.5, self.said.append)


def busy(end: Any, request: str, status: int, times: int, then: Any, retry_after: str | None = "4") -> None:
    """Refuse this request so often, then answer it."""

    def refuse(handler: Any) -> None:
        nonlocal times
        times -= 1
        if not times:
            end.answers[request] = then
        data = b'{"type": "urn:gmesh:problem:rate-limited", "detail": "too many requests: wait 4 s"}'
        handler.send_response(status)
        if retry_after is not None:
            handler.send_header("Retry-After", retry_after)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    end.answers[request] = refuse


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("request_", ["GET /genesis", "GET /crl", "POST /join"])
def test_b4_join_waits_as_it_is_told_to(enrolling: Enrolling, status: int, request_: str) -> None:
    """With jitter on top and a line that says so; each request is made and signed anew."""
    waits = Waits()
    busy(enrolling.end, request_, status, 2, enrolling.end.answers[request_])
    authority = RemoteAuthority([enrolling.end.where], lambda: NOW + waits.now, patience=waits.patience(60))
    certificate, fresh = enrol_alone(enrolling.invite, enrolling.state, authority)
    assert (certificate.body.name, fresh) == ("pump", True)
    assert waits.slept == [5.0, 5.0]
    assert waits.said == [
        "too many requests: wait 4 s: again in 5 s, for 60 s at most",
        "too many requests: wait 4 s: again in 5 s, for 55 s at most",
    ]
    made = [json.loads(request[3])["created"] for request in enrolling.joins()]
    assert made == ([NOW, NOW + 5, NOW + 10] if request_ == "POST /join" else [NOW + 10])


def test_b4_join_ends_when_its_time_is_up(enrolling: Enrolling) -> None:
    """With the last refusal, and without a wait that would end in none of it."""
    waits = Waits()
    busy(enrolling.end, "POST /join", 429, 100, None)
    authority = RemoteAuthority([enrolling.end.where], lambda: NOW, patience=waits.patience(12))
    with pytest.raises(HttpRefused, match="too many requests"):
        enrol_alone(enrolling.invite, enrolling.state, authority)
    assert waits.slept == [5.0, 5.0]


@pytest.mark.parametrize("retry_after", [None, "Fri, 31 Dec 1999 23:59:59 GMT", "-1"])
def test_b4_a_refusal_without_a_time_is_final(enrolling: Enrolling, retry_after: str | None) -> None:
    """Nothing says that it would be another one later."""
    waits = Waits()
    busy(enrolling.end, "POST /join", 503, 1, None, retry_after)
    authority = RemoteAuthority([enrolling.end.where], lambda: NOW, patience=waits.patience(60))
    with pytest.raises(HttpRefused):
        enrol_alone(enrolling.invite, enrolling.state, authority)
    assert not waits.slept


def test_b3_admin_waits_as_it_is_told_to(http_end: Any, tmp_path: Path) -> None:
    """A loop of invites goes on; what could be done twice is asked again after 429 alone."""
    network, waits = Network(), Waits()
    show_documents(http_end, network)
    directory = make_operator(tmp_path / "operator", network, http_end.where)
    operator = OperatorClient(directory, patience=waits.patience(60))
    operator.authority = replace(operator.authority, wall=lambda: NOW)
    path = "/admin/invites"
    busy(http_end, f"POST {path}", 429, 2, (201, b"{}"))
    assert operator.invite("pump", ["client"], 3600)[1] == {}
    assert waits.slept == [5.0, 5.0]
    nonces = {
        headers["signature-input"] for method, target, headers, _ in http_end.requests if target == path
    }
    assert len(nonces) == 3, "each is signed anew"
    busy(http_end, f"POST {path}", 503, 1, (201, b"{}"))
    with pytest.raises(HttpRefused):
        operator.invite("pump", ["client"], 3600)
    busy(http_end, f"GET {path}", 503, 1, (200, b'{"invites": []}'))
    assert operator.ask("GET", path) == {"invites": []}


@pytest.mark.parametrize(("clock", "said"), [(2 * 365 * DAY + 5, "1972-01-01"), (2**31 - 1, "2038-01-19")])
def test_d16_a_clock_that_is_years_off_is_named(enrolling: Enrolling, clock: int, said: str) -> None:
    """Instead of keys that are not believed or a genesis that has ended; nothing is spent."""
    enrolling.now = clock
    with pytest.raises(ConfigurationError, match=f"this host's clock says {said}") as refused:
        enrolling.enrol()
    assert "the authority's 2027-01-15 08:00:00 UTC: set it, then join again" in refused.value.detail
    assert not enrolling.joins()


def test_d16_a_clock_is_no_excuse_for_another_network(enrolling: Enrolling) -> None:
    """What would be refused at the right time too keeps its own reason."""
    enrolling.now = 5
    _other_network(enrolling)
    with pytest.raises(DocumentRefused):
        enrolling.enrol()
