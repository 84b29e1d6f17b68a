# SPDX-License-Identifier: MIT
"""What docs/ says in passing: limits, options, reasons and commands are those of the code."""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

import click
import pytest

from gmesh.authority import limits as authority
from gmesh.authority.options import Options as AuthorityOptions
from gmesh.cli import doctor_documents, doctor_host
from gmesh.cli.main import gmesh
from gmesh.client import endpoints
from gmesh.client.where import SYSTEM_SOCKET
from gmesh.endtoend import limits as sealed
from gmesh.mesh import limits as mesh
from gmesh.node import limits as node
from gmesh.node.control_commands import COMMANDS
from gmesh.node.tap import Options as NodeOptions
from gmesh.routing import limits as routing
from gmesh.stream_errors import DialRefused, dial_refused
from gmesh.trust import limits as trust

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
KIB, MIB, DAY = 1024, 1024 * 1024, 86400

# Sentences with the values of the code in them; white space counts as one blank.
SENTENCES = {
    "protocol/wire": [
        f"until both HELLOs were read an end waits {mesh.HANDSHAKE_DEADLINE:g} s",
        f"after {mesh.WAN.ping_after:g} s without a sign of life",
        f"and every {mesh.RTT_REFRESH:g} s on a busy link",
        f"unanswered for {mesh.WAN.pong_within:g} s",
        f"After {mesh.WAN.dead_after:g} s of silence",
        f"takes none of our bytes for {mesh.BLOCKED_DEADLINE:g} s",
        f"the other's CLOSE has come too, or after {mesh.DRAIN_DEADLINE:g} s",
        f"after 2^{mesh.REKEY_RECORDS.bit_length() - 1} records or ten minutes",
    ],
    "protocol/documents": [
        f"At most {trust.MAX_SIGNATURES} signatures",
        f"nested at most {trust.MAX_DEPTH} deep",
        f"[a-z0-9_]{{1,{trust.MAX_KEY_CHARACTERS}}}",
        f"``epoch * 2^{trust.EPOCH.bit_length() - 1} + n``",
        f"1 to {trust.MAX_ROOT_KEYS} public keys",
        f"1 to {trust.MAX_AUTHORITY_KEYS} of {{``key``",
        f"up to {trust.MAX_ANCHORS} of {{``name``",
        f"up to {trust.MAX_URLS} URLs",
        f"1 to {trust.MAX_ROLES} roles",
        f"up to {trust.MAX_RULES:,} of {{``effect``",
        f"up to {trust.MAX_OPERATORS} of {{``key``",
        f"up to {trust.MAX_TEXT} characters",
        f"without it {mesh.TARGET_DEGREE}",
        *(f"At most {size // KIB} KiB" for size in trust.DOCUMENT_LIMITS.values() if size < MIB),
        *(f"At most {size // MIB} MiB" for size in trust.DOCUMENT_LIMITS.values() if size >= MIB),
    ],
    "protocol/routing": [
        f"1 to {routing.MAX_LIFETIME} seconds; {routing.LIFETIME} is sent",
        f"at most {routing.MAX_RECORD_LINKS}",
        f"at most {routing.MAX_ADDRESSES} of {routing.MAX_ADDRESS} printable",
        f"at most {routing.MAX_SERVICES} of {routing.MAX_SERVICE} characters",
        f"issued at most {routing.MAX_FUTURE} s ahead",
        f"most {routing.MAX_PARKED_PER_SOURCE} a link and {routing.PARK_LIFE:g} s",
        f"rate: {routing.ORIGIN_BURST} at once, then {routing.ORIGIN_RATE:g} a second",
        f"fragments {routing.NODE_RECORDS.burst} at once, then 1 every {1 / routing.NODE_RECORDS.rate:g} s",
        f"of an anchor {routing.ANCHOR_RECORDS.burst:,} at once",
        f"then 1 every {1 / routing.ANCHOR_RECORDS.rate:g} s. What comes faster waits",
        f"{mesh.FAILURE_BURST} failures at once, or more than {mesh.FAILURE_RATE * 60:g} a minute",
        f"A record ends {routing.EXPIRY_GRACE} s after its lifetime",
        f"It also ends {routing.CERTIFICATE_GRACE} s after its certificate",
        f"remembered for {routing.TOMBSTONE_LIFE / 3600:g} hours",
        f"signed after {routing.FIRST_DELAY * 1000:g} ms",
        f"{routing.SPACING_EVEN} times {routing.SPACING_FIRST * 1000:g}, then 500, 1000 ms",
        f"1000 ms ... {routing.SPACING_MAX:g} s apart",
        f"after {routing.SPACING_QUIET:g} s of quiet",
        f"at once, {routing.DOWN_BURST} times, then one more every {1 / routing.DOWN_RATE:g} s",
        f"returns within {routing.FLAP_MEMORY:g} s after {routing.UP_STABLE:g} s, unless",
        f"whatever was said just before; then {mesh.DRAIN_TIME:g} s",
        f"costs {routing.BASE_COST}, plus 0 to {routing.RTT_PENALTY} in {routing.RTT_STEPS} steps",
        f"of {routing.RTT_MIN * 1000:g} to {routing.RTT_MAX * 1000:g} ms",
        f"more than {routing.HYSTERESIS:.0%} away".replace("%", " %"),
        f"at once or {mesh.FLUSH_INTERVAL * 1000:g} ms after the last",
        f"{mesh.FLUSH_RECORD * 1000:g} ms for each of its records, at most",
        f"at most {mesh.FLUSH_MOST * 1000:g} ms)",
        f"at most {mesh.FLUSH_BYTES // KIB} KiB a link and flush",
        f"{mesh.WANT_BATCH} at a time",
        f"With more than {mesh.EAGER_DEGREE} neighbours {mesh.EAGER_DEGREE} of them",
        f"told after {mesh.IHAVE_INTERVAL * 1000:g} ms with IHAVE",
        f"Every {mesh.RESYNC_INTERVAL / 60:g} minutes one neighbour",
        f"not answered within {mesh.ASK_ELSEWHERE:g} s",
        f"again after {mesh.ASK_AGAIN:g} s. A batch that stalls for {mesh.ASK_STALL:g} s",
        f"a sender that stops for {mesh.ASSEMBLY_STALL:g} s",
        f"in turn, every {mesh.STATUS_ASK_INTERVAL:g} s",
        f"up to {mesh.PULLS_NAMED} neighbours at a time, one with any other number of {mesh.PULLS_CLAIMED}",
        f"begun {mesh.PULL_BESIDE:g} s after the last",
        f"behind {mesh.PULL_RATE // KIB} KiB/s, else {mesh.PULL_COMPANY:g} s after it",
        f"not come within {mesh.PULL_AGAIN:g} s are asked for again",
        f"slower than {mesh.PULL_LEAST // KIB} KiB/s over the whole",
        f"not asked for {mesh.PULL_PAUSE:g} s, then each time for twice as long, at most an hour",
        f"no sooner than {routing.SPF_SPACING * 1000:g} ms after the last time",
        f"at most {routing.SPF_SPACING_MAX:g} s",
        f"at most {routing.DETOUR_RATE:g} times a second and its answer kept for {routing.DETOUR_CACHE:g} s",
        f"the {mesh.HEADER_RATE:,.0f} new headers a second (burst {mesh.HEADER_BURST:,})",
        f"{mesh.SOURCE_RATE // MIB} MiB a second carried (burst {mesh.SOURCE_BURST // MIB} MiB)",
        f"{mesh.TRANSIT_HEADER_RATE:,.0f} new headers a second (burst {mesh.TRANSIT_HEADER_BURST:,})",
        f"{mesh.TRANSIT_RATE // MIB:,} MiB a second (burst {mesh.TRANSIT_BURST // MIB} MiB)",
        f"{mesh.HANDSHAKES_EVERY.rate:,.0f} a second, and to one destination",
        f"destination {mesh.HANDSHAKES_EACH.rate:g} (burst {mesh.HANDSHAKES_EACH.burst})",
        f"from one source {mesh.HANDSHAKES_PAIR.rate:g} (burst {mesh.HANDSHAKES_PAIR.burst})",
        f"remembered ({mesh.MAX_VERDICTS:,} a link to a relay, {mesh.MAX_OWN_VERDICTS:,} a link to a",
        f"At most {mesh.NOTICES_EACH.rate:g} a second of either",
        f"{mesh.NOTICES_SENT.rate:g} a second (burst {mesh.NOTICES_SENT.burst:,}) to all behind",
        f"at {mesh.NOTICES_EACH.rate:g} a second (burst {mesh.NOTICES_EACH.burst}) of each relay",
        f"UNREACH at {mesh.UNREACH_HEARD.rate:g} a second (burst {mesh.UNREACH_HEARD.burst}) and of",
        f"DROPPED at {mesh.DROPPED_HEARD.rate:g} (burst {mesh.DROPPED_HEARD.burst:,}) by",
        f"{mesh.PATH_PATIENCE:g} s each, with PATH_REQ",
        f"every {mesh.PATH_FRESH:g} s while a path is in use",
        f"bounded by {mesh.MAX_STUB_ORIGINS} nodes",
    ],
    "protocol/endtoend": [
        f"{sealed.REKEY_AFTER_TIME:g} s or 2\\ :sup:`{sealed.REKEY_AFTER_MESSAGES.bit_length() - 1}` frames",
        f"{sealed.REKEY_AFTER_TIME_RESPONDER:g} s either end does",
        f"{sealed.REJECT_AFTER_TIME:g} s or 2\\ :sup:`{sealed.REJECT_AFTER_MESSAGES.bit_length() - 1}`"
        " frames",
        f"newer keys + {sealed.RECEIVE_GRACE:g} s",
        f"{sealed.REJECT_AFTER_TIME + sealed.RECEIVE_GRACE:g} s all keys are wiped",
        f"{sealed.FORGET_IDLE / 60:g} min without a frame",
        f"the last {sealed.REPLAY_WINDOW:,} counters",
        f"above {sealed.INIT_LINK_RATE:g} a second from one neighbour",
        f"above one in {1 / sealed.INIT_SOURCE_RATE:g} s with a burst of {sealed.INIT_SOURCE_BURST:g}",
        f"above {sealed.INIT_MEMBER_RATE:g} a second of that member, with a burst of"
        f" {sealed.INIT_MEMBER_BURST:g};",
        f"(up to {sealed.MAX_MAC_KEYS:,} are kept)",
        f"at most {sealed.MAC_KEY_RATE:g} times a second",
        f"{sealed.INIT_LINK_RATE:g} handshakes a second, and with one member one in"
        f" {1 / sealed.INIT_SOURCE_RATE:g} s",
        f"anew after {sealed.FIRST_TIMEOUT:g} s the first time",
        f"anew after {sealed.REKEY_TIMEOUT:g} s and up to {sealed.REKEY_JITTER * 1000:g} ms more",
        f"shortens this to {sealed.HANDSHAKE_SPACING:g} s. After {sealed.REKEY_ATTEMPT_TIME:g} s",
        f"Up to {sealed.MAX_PENDING_FRAMES} frames or {sealed.MAX_PENDING_BYTES // KIB} KiB wait",
        f"for more than {sealed.TIE_TIME:g} s it gives way",
        f"At most {sealed.MAX_SESSIONS:,} peers",
        f"at most {sealed.MAX_DATAGRAM:,} bytes",
        f"Above {sealed.FRAGMENT_SIZE:,} bytes ({sealed.WHOLE_SIZE:,} without",
        f"up to {sealed.MAX_BATCH:,} bytes ({sealed.INITIAL_BATCH:,} before",
        f"{sealed.SLOW_PATH_BATCH:,} when it is above {sealed.SLOW_PATH * 1000:g} ms",
        f"at most {sealed.MAX_BATCH_WINDOW // KIB:,} KiB",
        f"falls to {sealed.LONG_RTT_WINDOW // KIB:,} KiB",
        f"above twice the least one and {sealed.QUEUEING_DELAY * 1000:g} ms",
        f"in that time, {sealed.INITIAL_WINDOW // KIB} KiB at least",
        f"with a half-life of {sealed.RATE_HALF_LIFE:g} s",
        f"that long for {sealed.MEASURE_AGAIN:g} s although",
        f"every { {2: 'half', 4: 'quarter'}[sealed.ASKS_PER_WINDOW] } of it the sender appends ASK",
        f"({sealed.DEFAULT_TIMEOUT:g} s, at most {sealed.MAX_TIMEOUT:g} s)",
        f"not between 0 and {sealed.MAX_TIMEOUT:g} s",
        f"the last {sealed.ACK_WINDOW:,} numbers of the last two starts",
        f"from {sealed.MIN_RTO * 1000:g} ms ({sealed.INITIAL_RTO:g} s before the first answer)",
        f"doubling up to {sealed.MAX_RTO:g} s",
        f"{sealed.INITIAL_WINDOW // KIB} KiB at first, growing to at most {sealed.MAX_WINDOW // KIB} KiB",
        f"times {sealed.LOSS_REDUCTION:g} when a relay says that it dropped a frame",
        f"{sealed.MIN_WINDOW // KIB} KiB after silence",
        f"up to {sealed.SERVICE_CONCURRENT} messages at once",
        f"up to {sealed.SERVICE_QUEUE_MESSAGES} messages or {sealed.SERVICE_QUEUE_BYTES // MIB} MiB more",
        f"{sealed.SERVICE_TOTAL_MESSAGES:,} or {sealed.SERVICE_TOTAL_BYTES // MIB} MiB, and of one peer"
        f" up to {sealed.MAX_HELD:,} are held",
        f"alone for {sealed.BUSY_PAUSE * 1000:g} ms, doubling up to {sealed.MAX_BUSY_PAUSE * 1000:g} ms",
        f"{sealed.MAX_RELIABLE_MESSAGES:,} messages or {sealed.MAX_RELIABLE_BYTES // MIB} MiB wait",
        f"{sealed.MAX_PEER_MESSAGES:,} or {sealed.MAX_PEER_BYTES // MIB} MiB for a peer",
        f"up to {sealed.RECEIVER_RETURNS:g} s for it to come back",
        f"less than {sealed.SERVICE_RETURNS:g} s ago",
        f"WAITING every {sealed.ASK_WAITING:g} s",
        f"kept until it is: {sealed.MAX_ANSWER_BYTES // MIB} MiB",
        f"up to {sealed.MAX_RTO:g} s, for {sealed.OUTCOME_LIFE:g} s, until SETTLED",
        f"the last {sealed.MAX_PEER_KEYS:,}, of all {sealed.MAX_KEYS:,}, for {sealed.KEY_LIFE // 3600} hours",
        f"{sealed.MAX_REASSEMBLIES} or {sealed.MAX_REASSEMBLY_BYTES // KIB} KiB a peer",
        f"{sealed.MAX_REASSEMBLY_TOTAL // MIB} MiB altogether are kept, for {sealed.REASSEMBLY_TIME:g} s",
    ],
    "security": [
        f"{mesh.CONTROL_RATE:g} of a core, and {mesh.CONTROL_BURST:g} s at once",
        f"{sealed.ANSWER_RATE:,.0f} inner frames a second",
        f"{sealed.INIT_LINK_RATE:g} a second that show nobody,"
        f" {sealed.INIT_MEMBER_RATE:g} a second of its own",
        f"{mesh.HANDSHAKES_EACH.rate:g} a second to one destination",
        f"{mesh.DATA_QUEUE_BYTES // MIB} MiB a link",
        f"{sealed.MAX_REASSEMBLY_BYTES // KIB} KiB of incomplete messages",
        f"{node.MAX_COMMANDS_WAITING_A_SIGNER} of one signer, {node.MAX_COMMANDS_WAITING} altogether",
    ],
    "operations": [
        f"past {authority.LOG_BYTES_TOLD >> 20} MB the log",
        f"past {authority.LOG_BYTES_MAX >> 30} GB nothing",
    ],
    "http-api": [
        f"``created`` may lie {authority.REQUEST_WINDOW_SECONDS} s off",
        f"or after {authority.LONG_POLL_SECONDS} s",
        f"who sign may wait once each, {authority.LONG_POLLS:,} of them",
        f"of others {authority.STRANGER_POLLS_AN_ADDRESS} may wait at one address",
        f"{authority.STRANGER_POLLS} altogether",
        f"ascending, at most {authority.COMMANDS_PAGE}",
        f"``?limit=`` up to {authority.PAGE_ROWS_MAX}",
        f"must arrive within {authority.RECEIVE_SECONDS} s; answering has {authority.ANSWER_SECONDS} s",
        f"at most {authority.BODY_BYTES // KIB} KiB",
        *(
            f"``{route}`` {size // KIB} KiB"
            for route, size in authority.BODY_LIMITS.items()
            if size > authority.BODY_BYTES
        ),
        f"beyond {authority.STRANGER_BODY_BYTES // KIB} KiB only from members",
        f"may hold {authority.CONNECTIONS_PER_ADDRESS} connections",
        f"A command lives at most {authority.COMMAND_SECONDS_MAX // DAY} days",
        f"A proposal ends after {authority.APPROVAL_SECONDS // 3600} h",
        f"A key has at most {authority.PROPOSALS_A_KEY} that wait",
    ],
    "local-api": [
        f"A body has at most {node.LOCAL_BODY_LIMIT // MIB} MiB",
        f"(10; at most {sealed.MAX_TIMEOUT:g})",
        f"up to {node.MAX_ACKNOWLEDGED:,} at once",
        f"Up to {sealed.SERVICE_CONCURRENT} messages wait for it",
        f"waits {sealed.RECEIVER_RETURNS:g} s for a program of the same user",
    ],
    "applications": [
        f"gives up after 5 seconds; 30 if left out, {endpoints.MAX_TIMEOUT:g} at most",
        f"or else ``{SYSTEM_SOCKET}``, as for the",
    ],
    "commands": [
        f"ends {node.SHUTDOWN_DELAY:g} s later",
        f"(at most {node.PING_REPORT_NODES})",
        f"at most {node.MAX_COMMANDS_WAITING} of them and {node.MAX_COMMANDS_WAITING_A_SIGNER} of one signer",
        f"more than {trust.COMMANDS_AHEAD} above the newest",
        f"must come within {node.NEWS_DEADLINE:g} s",
        f"at most {node.RECEIPT_SPREAD:g} s later",
        f"at most {node.MAX_COMMAND_LIFE // DAY} days",
        f"above {node.RELAY_ANSWER_LIMIT // KIB} KiB",
        f"for one node {node.RELAY_BURST} times at once and then every {1 / node.RELAY_RATE:g} s",
    ],
    "command-line": [
        f"under {doctor_host.DISK_FAIL // MIB} MiB or {doctor_host.INODES_FAIL} inodes free",
        f"under {doctor_host.DISK_WARN // MIB} MiB free",
        f"over {doctor_documents.CLOCK_FAIL // 60} min behind",
        f"over {doctor_documents.CLOCK_WARN} s behind",
        f"past {doctor_documents.RENEWAL_OVERDUE * 100:g} % of its life",
        f"ends within {doctor_documents.GENESIS_WARN // DAY} days",
    ],
}
# Options of other programs that the pages tell people to type.
OTHERS = {
    *("pidfile", "logfile", "unix-socket", "no-buffer"),  # twistd, curl
    *("variant", "include", "customize-hook", "reflink"),  # mmdebstrap, cp
    *("pipe", "wait", "working-directory", "property"),  # systemd-run
    *("quick", "plot", "against", "engine"),  # bench, pytest
}


def _plain(page: str) -> str:
    return " ".join((DOCS / f"{page}.rst").read_text(encoding="utf-8").split())


@pytest.mark.parametrize("page", SENTENCES)
def test_numbers_are_those_of_the_code(page: str) -> None:
    """Each sentence stands in its page with the value that the constant has."""
    text = _plain(page)
    assert [sentence for sentence in SENTENCES[page] if sentence not in text] == []


def test_what_a_refused_dial_is_also_is_what_the_page_says() -> None:
    """docs/applications.rst: each reason that is named, and the error of Twisted's beside it."""
    page = (DOCS / "applications.rst").read_text(encoding="utf-8")
    rows = re.findall(r"^(``[a-z-]+``(?:, ``[a-z-]+``)*) +``(\w+Error)``  ", page, re.M)
    told = {slug: kind for slugs, kind in rows for slug in re.findall(r"[a-z-]+", slugs)}
    assert len(told) >= 9
    kinds = {slug: type(dial_refused(slug)).__mro__ for slug in told}
    assert told == {slug: kind[kind.index(DialRefused) + 1].__name__ for slug, kind in kinds.items()}


def _pages() -> Iterator[tuple[str, str]]:
    for path in (ROOT / "README.rst", *sorted(DOCS.rglob("*.rst"))):
        yield path.name, path.read_text(encoding="utf-8")


def _options_of(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.params:
        yield from (option.removeprefix("--") for option in parameter.opts)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _options_of(found, context)


def _daemon_options() -> set[str]:
    return {name.rstrip("=") for kind in (NodeOptions, AuthorityOptions) for name in kind().longOpt}


def test_every_option_named_is_an_option() -> None:
    """No page names an option that neither the command nor a daemon has."""
    known = {*_options_of(gmesh, click.Context(gmesh)), *_daemon_options(), *OTHERS}
    for name, text in _pages():
        assert set(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", text)) <= known, name


def test_readme_leads_to_every_page() -> None:
    """README.rst links each page of the manual, and NEWS.rst."""
    text = (ROOT / "README.rst").read_text(encoding="utf-8")
    pages = {f"docs/{path.name}" for path in DOCS.glob("*.rst") if path.name != "index.rst"}
    assert {page for page in (*pages, "docs/protocol/", "NEWS.rst") if f"<{page}>`_" not in text} == set()


def test_every_option_of_a_daemon_is_named() -> None:
    """Whoever runs a daemon finds each of its options somewhere."""
    text = "".join(text for _, text in _pages())
    assert {name for name in _daemon_options() if f"--{name}" not in text} == set()


def test_every_command_to_nodes_has_its_row() -> None:
    """docs/commands.rst: these and no other."""
    rows = re.findall(r"^``([a-z-]+)`` {2,}", (DOCS / "commands.rst").read_text(encoding="utf-8"), re.M)
    assert rows == [command.name for command in COMMANDS]


@pytest.mark.parametrize(
    ("page", "start", "room"),
    [
        ("protocol/endtoend", "A responder refuses message 1", "endtoend"),
        ("protocol/endtoend", "A send is refused with one", "endtoend"),
        ("protocol/routing", "A relay, and the destination, check", "mesh"),
    ],
)
def test_reasons_named_are_given(page: str, start: str, room: str) -> None:
    """Each reason in the first column of a table is one that the code of its room gives."""
    table = (DOCS / f"{page}.rst").read_text(encoding="utf-8").partition(start)[2].split("\n\n")[1]
    named = re.findall(r"^``([a-z-]+)``", table, re.M)
    assert len(named) >= 8
    rooms = [ROOT / "gmesh" / name for name in (room, "trust", "wire")]
    source = "".join(path.read_text(encoding="utf-8") for folder in rooms for path in folder.glob("*.py"))
    assert [reason for reason in named if not re.search(rf"\b{reason}\b[\"}}]", source)] == []


def test_every_reason_of_a_send_has_its_status() -> None:
    """docs/local-api.rst has each reason of docs/protocol/endtoend.rst, under the status the code gives."""
    reasons = (DOCS / "protocol/endtoend.rst").read_text(encoding="utf-8")
    reasons = reasons.partition("A send is refused with one")[2].split("\n\n")[1]
    table = (DOCS / "local-api.rst").read_text(encoding="utf-8").partition("status slugs")[2]
    told = {
        slug: status
        for status, slugs in re.findall(r"^(\d{3}) +(``.*)$", table.split("\n\n")[0], re.M)
        for slug in re.findall(r"``([a-z-]+)``", slugs)
    }
    assert set(told) == set(re.findall(r"^``([a-z-]+)``", reasons, re.M))
    source = (ROOT / "gmesh/node/api/http.py").read_text(encoding="utf-8")
    given = dict(re.findall(r"^    \"([a-z-]+)\": (\d{3}),$", source, re.M))
    assert told == {slug: given.get(slug, "502") for slug in told}


def test_reference_renders_what_is_public() -> None:
    """docs/reference.rst names the packages that docs/pydoctor.toml renders, and no other."""
    named = re.findall(r"^``(gmesh[a-z_.]+)``", (DOCS / "reference.rst").read_text(encoding="utf-8"), re.M)
    rules = tomllib.loads((DOCS / "pydoctor.toml").read_text(encoding="utf-8"))["tool"]["pydoctor"]["privacy"]
    shown = {rule.removeprefix("PUBLIC:") for rule in rules if rule.startswith("PUBLIC:") and "*" not in rule}
    assert len(named) >= 3
    assert set(named) == shown


def _lives() -> str:
    return (DOCS / "architecture.rst").read_text(encoding="utf-8").partition("\nFour lives\n")[2]


def test_every_step_of_a_life_is_in_its_file() -> None:
    """docs/architecture.rst: each function named is one of the file named before it."""
    file, steps = "", list[tuple[str, str]]()
    for literal in re.findall(r"``([^`]+)``", _lives()):
        if literal.endswith(".py"):
            file = literal
        elif re.fullmatch(r"[A-Z]\w*(\.\w+)?|[a-z]\w+_\w+", literal):
            steps.append((file, literal))
    assert len(steps) > 60
    for file, name in steps:
        module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
        assert callable(attrgetter(name)(module)), f"{name} is not in {file}"


def test_every_function_beside_a_file_is_in_it() -> None:
    """The same for short names, which follow their file at once, on every page."""
    for page, text in _pages():
        for file, name in re.findall(r"``(gmesh/[\w/]+\.py)``\s+``([a-z]\w*)``", text):
            module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
            assert hasattr(module, name), f"{page}: {name} is not in {file}"


def test_four_lives_are_told() -> None:
    """A message, a stream, a join and a revocation, each by more than ten steps."""
    lives = re.split(r"^(.+)\n-+\n", _lives(), flags=re.M)[1:]
    titles = [title.partition(":")[0] for title in lives[::2]]
    assert titles == ["A message", "A stream", "A join", "A revocation"]
    assert all(len(re.findall(r"^(?:#|\d+)\. ", told, re.M)) > 10 for told in lives[1::2])


def test_the_table_of_the_house_is_complete() -> None:
    """docs/architecture.rst has a row for each folder and file right below gmesh/, and no other."""
    page = (DOCS / "architecture.rst").read_text(encoding="utf-8").partition("\n``gmesh/``  ")[2]
    rows = re.findall(r"^``([a-z_]+)/?`` ", page.partition("\n\n")[0], re.M)
    rooms = {
        path.stem for path in (ROOT / "gmesh").iterdir() if path.stem not in ("__init__", "__pycache__", "py")
    }
    assert sorted(rows) == sorted(rooms)


def test_every_path_named_exists() -> None:
    """No page names a file that is not there; whole folders that a package build leaves out are not asked."""
    rooms = [room for room in ("gmesh", "tests", "bench", "debian") if (ROOT / room).is_dir()]
    for page, text in _pages():
        for path in re.findall(rf"``((?:{'|'.join(rooms)}|docs(?!/_build))/[^`\s]*)``", text):
            assert list(ROOT.glob(path.rstrip("/"))), f"{page} names {path}"
