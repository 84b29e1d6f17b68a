# SPDX-License-Identifier: MIT
"""
The state directory: what must be there before the daemon may start, and the first rows of its database.

Nothing here makes a key or a genesis: two daemons that each made their own would be two authorities.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from gmesh.authority import audit, limits
from gmesh.authority.approval_rules import (
    APPROVALS_FILE,
    NO_APPROVALS,
    ApprovalRules,
    follow_rules,
    refuse_weaker,
    take_rules,
)
from gmesh.authority.audit import AuditMirror
from gmesh.authority.issuer import DocumentIssuer, clock_is_behind, epoch, policy_text
from gmesh.authority.promotion import begin_epoch
from gmesh.authority.replicas import check_signers
from gmesh.authority.seen import check_seen
from gmesh.authority.signer import KeyRing, load_keys
from gmesh.authority.store import audit as audit_rows
from gmesh.authority.store import documents, nonces, operators, sqlite
from gmesh.authority.store.history import begin_instance, check_history, instance
from gmesh.authority.store.identity import check_here
from gmesh.authority.store.moved import check_moved
from gmesh.authority.store.replicas import Replica
from gmesh.authority.store.transaction import Reader, Transaction, transaction
from gmesh.errors import ConfigurationError, DocumentRefused, StoreError
from gmesh.files import check_owner, read_capped, write_atomic
from gmesh.keyfiles import Passphrases
from gmesh.trust.documents import Crl, Document, Genesis, Operator, Policy, Status, parse_document
from gmesh.trust.keys import decode_public, key_id
from gmesh.trust.limits import DOCUMENT_LIMITS
from gmesh.trust.names import human_error
from gmesh.trust.restricted_json import parse_json
from gmesh.trust.verify import network_id, verify_genesis_chain

__all__ = [
    "DATABASE",
    "EPOCH_FILE",
    "LOCK",
    "MIRROR",
    "Opened",
    "StateDirectory",
    "check_state",
    "read_epoch",
]

LOCK = "authority.lock"
DATABASE = "authority.sqlite"
MIRROR = "audit.jsonl"
EPOCH_FILE = "epoch.json"
_OLDER_GENESIS = re.compile(r"genesis\.(\d+)\.json")
OPERATORS_LIMIT = 256 * 1024


class OperatorEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of C{operators.json}."""

    key: str
    role: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """
    What the database holds when the daemon starts.

    @ivar claimed: nonces used up by requests that were signed later than this start, by their own account.
    @ivar checked: whether the whole file was read and found good; if not, a clean stop had left it so.
    @ivar rules: of approval, that hold.
    @ivar another: why nothing is issued, if nodes were found to hold what this database never published.
    """

    chain: list[Document[Genesis]]
    policy: Document[Policy]
    crl: Document[Crl]
    status: Document[Status]
    high_water: int
    claimed: frozenset[tuple[str, str]]
    mirror: AuditMirror
    checked: bool = True
    rules: ApprovalRules = NO_APPROVALS
    another: StoreError | None = None


class StateDirectory:
    """
    The directory given with C{--state}, its files checked.

    @param passphrases: asked for the signing keys that are sealed.
    @param engine: L{gmesh.authority.interfaces.IEngine} of the database; if not given, that of a file in the
        directory.
    @raise ConfigurationError: saying which file is wrong and what to do.
    """

    def __init__(
        self, path: Path, now: int, passphrases: Passphrases | None = None, engine: Any = None
    ) -> None:
        check_state(path)
        self.path = path
        self.database = path / DATABASE
        self.engine: Any = engine or sqlite.SqliteEngine(self.database)
        self.keys: KeyRing = load_keys(path, passphrases)
        self.chain = self._read_genesis(now)
        self._written = len(self.chain)
        self.network_id = network_id(self.chain[0])

    def issuer(self) -> DocumentIssuer:
        """An issuer with the keys and the genesis of this directory."""
        return DocumentIssuer(self.keys, self.network_id, self.chain[-1])

    def open(
        self,
        issuer: DocumentIssuer,
        now: int,
        rules: ApprovalRules,
        weaken_approvals: bool = False,
        clock_is_right: bool = True,
        shared: bool = False,
    ) -> Opened:
        """
        Check the database and bring it up to date, or make it; sign the status of this start.

        @param clock_is_right: C{now} is known to be right, however long ago the authority ran last.
        @param weaken_approvals: whether C{rules} may ask for less than those that hold.
        @param shared: other daemons serve from the same database: the rules that it holds count.
        @raise ConfigurationError: C{weaker-approvals}, C{bad-approvals}.
        @raise StoreError: C{corrupt}, C{newer-schema}, C{audit-broken}, C{read-only}.
        @raise ConfigurationError: C{clock-jump}.
        """
        where = str(self.path / APPROVALS_FILE)
        with self._errors():
            connection, checked = self.engine.open(now)
            with closing(connection):
                mirror = AuditMirror(self.path / MIRROR)
                with transaction(connection, now) as tx:
                    if not clock_is_right:
                        _check_jump(tx)
                    if self.engine.shared and instance(tx) is None:
                        raise StoreError("empty-database", f"{self.engine.name} has no authority in it yet")
                    opened = replace(self._open(tx, issuer, mirror, shared), checked=checked)
                    weaker = ""
                    if shared and not weaken_approvals:
                        rules = follow_rules(tx, rules, where)
                    else:
                        weaker = take_rules(tx, rules, weaken_approvals)
                    if not weaker:
                        rules.check(tx, where)
                    opened = replace(opened, rules=rules)
                _catch_up(connection, mirror)
                refuse_weaker(weaker, where)
        return opened

    def create(self, issuer: DocumentIssuer, now: int, rules: ApprovalRules) -> Opened:
        """
        Make the tables and the first rows in an empty database that daemons may share, whole or not at all.

        @raise ConfigurationError: C{in-use}, if the directory has an authority already.
        @raise StoreError: C{not-empty}.
        """
        mirror = AuditMirror(self.path / MIRROR)
        if self.database.exists() or mirror.last():
            raise ConfigurationError(
                "in-use", f"{self.path} has an authority that began already: a second one must not begin"
            )
        with self._errors(), closing(self.engine.connect()) as connection:
            with transaction(connection, now, lambda cursor: self.engine.fill(connection, cursor, now)) as tx:
                opened = replace(self._open(tx, issuer, mirror, shared=True), rules=rules)
                take_rules(tx, rules)
                rules.check(tx, str(self.path / APPROVALS_FILE))
            _catch_up(connection, mirror)
        return opened

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """What the database or the directory refuses, in our words."""
        try:
            yield
        except OSError as error:
            raise StoreError("unwritable", f"cannot write in {self.path}: {error.strerror}") from error
        except Exception as error:
            if self.engine.is_error(error):
                raise self.engine.explain(error) from error
            raise

    def _open(self, tx: Transaction, issuer: DocumentIssuer, mirror: AuditMirror, shared: bool) -> Opened:
        check_moved(tx)
        if self.engine.shared:
            check_seen(tx, self.path / MIRROR, mirror)
            check_here(tx.marks)
        if read_epoch(self.path) > epoch(tx):
            raise StoreError(
                "older-database",
                f"{self.engine.name} is older than the last restore: restore it with gmesh restore",
            )
        high_water = tx.mark("high_water") or 0
        if instance(tx) is None:
            begin_instance(tx)
        chain = self.store_genesis(tx, issuer)
        if tx.value("SELECT count(*) FROM operator") == 0:
            self._import_operators(tx)
        if tx.takeover == "asynchronous":
            begin_epoch(tx, issuer)
        held = documents.newest_policy(tx)
        if held is None:
            policy = self._publish_first(tx, issuer)
            audit.record(tx, "authority", "initialise", str(policy.body.version))
        else:
            policy = parse_document(held, Policy)
        another = _another(tx)
        if policy.body.version < chain[-1].body.policy.version and another is None:
            policy = issuer.next_policy(tx, policy_text(policy), "authority")
        issuer.policy = policy
        stored = documents.newest_crl(tx)
        crl = issuer.crl_again(tx) if stored is None else parse_document(stored, Crl)
        last = documents.newest_status(tx)
        kept = None if last is None else parse_document(last, Status)
        frozen = another is not None or clock_is_behind(tx, tx.now)
        if kept is None or not (frozen or (shared and issuer.still_says(tx, kept))):
            kept = issuer.status(tx)
        claimed = nonces.claimed_since(tx, tx.now)
        return Opened(chain, policy, crl, kept, high_water, claimed, mirror, another=another)

    def _read_genesis(self, now: int) -> list[Document[Genesis]]:
        paths = {int(m[1]): p for p in self.path.iterdir() if (m := _OLDER_GENESIS.fullmatch(p.name))}
        found = [self._read_one(path) for _, path in sorted(paths.items())]
        newest = self._read_one(self.path / "genesis.json")
        chain = [document for document in found if document.body.version < newest.body.version] + [newest]
        try:
            verify_genesis_chain(chain, None, now)
        except DocumentRefused as error:
            raise ConfigurationError(
                error.reason, f"the genesis files of {self.path}: {error.detail}"
            ) from error
        if not self.keys.listed(newest.body):
            raise ConfigurationError(
                "unlisted-key",
                f"no key in {self.path} is listed in genesis version {newest.body.version}:"
                " is this the state directory of another network?",
            )
        return chain

    def _read_one(self, path: Path) -> Document[Genesis]:
        try:
            return parse_document(read_capped(path, DOCUMENT_LIMITS["genesis"]), Genesis)
        except DocumentRefused as error:
            raise ConfigurationError(error.reason, f"{path}: {error.detail}") from error

    def add_genesis(self, tx: Transaction, own: Replica | None = None) -> list[Document[Genesis]]:
        """
        Add the genesis files the database lacks. @return: those.

        @param own: the daemon that asks, whose keys are those of this directory.
        @raise RequestRefused: C{conflict}, if another daemon could not sign under the newest.

        @raise DocumentRefused: if they do not continue the chain it holds.
        """
        fresh = [
            document
            for document in self.chain
            if documents.add_genesis(tx, document.body.version, document.encode())
        ]
        if fresh:
            chain = [parse_document(body, Genesis) for body in documents.genesis_chain(tx)]
            verify_genesis_chain(chain, None, tx.now)
            check_signers(tx, fresh[-1].body, tx.now, but="" if own is None else own.boot)
        return fresh

    def store_genesis(self, tx: Transaction, issuer: DocumentIssuer) -> list[Document[Genesis]]:
        """Take newer genesis files into the database; the whole chain as it holds it then."""
        held = documents.genesis_chain(tx)
        if held and network_id(parse_document(held[0], Genesis)) != self.network_id:
            raise StoreError(
                "wrong-network",
                f"{self.engine.name} belongs to another network than {self.path}/genesis.json",
            )
        self.add_genesis(tx)
        chain = [parse_document(body, Genesis) for body in documents.genesis_chain(tx)]
        for document in self.chain:
            if document.digest != chain[document.body.version - 1].digest:
                raise StoreError(
                    "wrong-genesis",
                    f"genesis version {document.body.version} of {self.path} is another than that of"
                    f" {self.engine.name}: keep the one that the nodes hold",
                )
        issuer.genesis = chain[-1]
        return chain

    def take_genesis(self, chain: Sequence[Document[Genesis]]) -> None:
        """Go by a verified chain that goes on from this directory's; its files stay as they are."""
        known = len(self.chain)
        if len(chain) > known and chain[known - 1].digest == self.chain[-1].digest:
            self.chain = list(chain)

    def keep_genesis(self) -> None:
        """Write the chain into files, so that no later restore goes by an older one."""
        if len(self.chain) > self._written:
            for document in self.chain[self._written - 1 : -1]:
                write_atomic(self.path / f"genesis.{document.body.version}.json", document.encode())
            write_atomic(self.path / "genesis.json", self.chain[-1].encode())
            self._written = len(self.chain)

    def first_operators(self) -> list[tuple[str, Operator, str]]:
        """
        Who C{operators.json} names: key_id, operator, and name. An authority that has begun reads it no more.

        @raise ConfigurationError: C{bad-operators}.
        """
        path = self.path / "operators.json"
        try:
            entries = msgspec.json.decode(read_capped(path, OPERATORS_LIMIT), type=list[OperatorEntry])
            rows = [(Operator(key=entry.key, role=_role(entry.role)), entry.name) for entry in entries]
            names = [key_id(decode_public(operator.key)) for operator, _ in rows]
        except (msgspec.DecodeError, DocumentRefused, UnicodeDecodeError) as error:
            raise ConfigurationError("bad-operators", f"{path}: {human_error(error)}") from error
        if not any(operator.role == "administer" for operator, _ in rows):
            raise ConfigurationError("bad-operators", f"{path} names nobody who may administer")
        return [(name, *row) for name, row in zip(names, rows, strict=True)]

    def _import_operators(self, tx: Transaction) -> None:
        for name, operator, title in self.first_operators():
            row = operators.OperatorRow(name, operator.key, operator.role, title, tx.now, "operators.json")
            operators.add(tx, row)
            audit.record(tx, "authority", "import-operator", name, role=operator.role)

    def _publish_first(self, tx: Transaction, issuer: DocumentIssuer) -> Document[Policy]:
        path = self.path / "policy-initial.json"
        try:
            text = parse_json(read_capped(path, DOCUMENT_LIMITS["policy"]), DOCUMENT_LIMITS["policy"])
            return issuer.next_policy(tx, text, "authority")
        except DocumentRefused as error:
            raise ConfigurationError(error.reason, f"{path}: {error.detail}") from error


def check_state(path: Path) -> None:
    """@raise ConfigurationError: C{no-state}, for what is not a directory; C{other-owner}, for a node's."""
    if not path.is_dir():
        raise ConfigurationError("no-state", f"{path} is not a directory: make it with gmesh init")
    check_owner(path, "an authority")


def read_epoch(state: Path) -> int:
    """The epoch of the last restore, as noted beside the database; 0 without one."""
    path = state / EPOCH_FILE
    if not path.exists():
        return 0
    try:
        return int(json.loads(read_capped(path, 4096))["epoch"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError("bad-epoch", f"{path} is damaged: restore the newest backup") from error


def _check_jump(tx: Transaction) -> None:
    """@raise ConfigurationError: C{clock-jump}, if it is more than a day later than ever before."""
    seen = tx.mark("high_water") or 0
    if seen and tx.now - seen > limits.CLOCK_JUMP_SECONDS:
        raise ConfigurationError(
            "clock-jump",
            f"the clock of this host says {_day(tx.now)}, and the newest time that this authority has seen is"
            f" {_day(seen)}: if the clock is wrong, set it; if it is right, start once with --clock-is-right",
        )


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _another(reader: Reader) -> StoreError | None:
    try:
        check_history(reader)
    except StoreError as error:
        return error
    return None


def _role(text: str) -> Any:
    if text not in operators.ROLES:
        raise DocumentRefused("invalid-field", f"no such role: {json.dumps(text)}")
    return text


def _catch_up(connection: Any, mirror: AuditMirror) -> None:
    """Append to the mirror what was committed but not written there."""
    reader = Reader(connection.cursor())
    after = mirror.last()
    size, _ = reader.audit_head
    if after > size or mirror.last_hash not in (
        "",
        *(row[2].hex() for row in audit_rows.page(reader, after - 1, 1)),
    ):
        raise StoreError(
            "audit-broken",
            f"audit.jsonl has a row {after} that the database (of {size}) lacks: an older one was put back;"
            " use gmesh restore, so that no number is given out twice",
        )
    while rows := audit_rows.page(reader, after, 1000):
        mirror.append(rows)
        after = rows[-1][0]
