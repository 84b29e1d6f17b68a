# SPDX-License-Identifier: MIT
"""
Restore a backup, while the daemon is stopped, with what nodes hold.

A restored database is older than what nodes have seen.  So restoring raises the epoch, which all
serials and numbers start from, takes in the newest CRL and policy that any node holds, reads what
C{audit.jsonl} tells of the days since (L{gmesh.authority.lost_days}), withdraws the invites that were
open (some were used), ends what waited for votes (some were withdrawn), and refuses what was signed
before it.  It goes by the newest genesis that the backup, the state directory or the database there
knows, and leaves it there.  Files older than what the audit or a node's status names are refused.

Evidence for somebody (a policy, a number) counts only if a key of the newest genesis signed it.
Evidence against somebody (an entry of a CRL) counts from a key that was dropped, too: a thief who
has it can bar members, which is seen and undone, but admits nobody.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gmesh.authority import audit
from gmesh.authority.audit import verify_audit
from gmesh.authority.audit_file import HeldHead, heads_in
from gmesh.authority.backups import file_digest
from gmesh.authority.issuer import DocumentIssuer, epoch, first_number, policy_text
from gmesh.authority.lost_days import AuditTold, LostDays, missing_revocations, newer_policy, read_lost_days
from gmesh.authority.merged import follow_policy, merge_crl
from gmesh.authority.node_files import NodeFiles, read_node_files
from gmesh.authority.readmission import issued_mark
from gmesh.authority.restore_place import FilePlace, Place, set_aside, write_mirror
from gmesh.authority.seen import note_taken_in
from gmesh.authority.state import DATABASE, EPOCH_FILE, LOCK, MIRROR, StateDirectory, check_state, read_epoch
from gmesh.authority.store import documents, invites, migrate, operators, presence, sqlite
from gmesh.authority.store.approvals import forget_all as end_proposals
from gmesh.authority.store.history import begin_instance
from gmesh.authority.store.moved import unmark_moved
from gmesh.authority.store.transaction import Reader, Transaction, transaction
from gmesh.daemon.lock import StateLock
from gmesh.errors import ConfigurationError, DocumentRefused, StoreError
from gmesh.files import read_capped, write_atomic
from gmesh.keyfiles import Passphrases
from gmesh.trust.documents import Document, Genesis, Policy, parse_document
from gmesh.trust.verify import verify_genesis_chain

__all__ = ["Choices", "Evidence", "Restored", "restore"]

EPOCH_ZERO = 1_735_689_600  # 2025-01-01
DAY = 86_400
EPOCHS_AHEAD = 366
"""How far the epoch of a node's file may lie above the days since L{EPOCH_ZERO}: a clock a year ahead."""
START_BITS = 22
"""log2 of the numbers between two restores a second apart that do not know each other; 2^40 hold a day."""


@dataclass(frozen=True, slots=True)
class Restored:
    """
    What a restore did, or will do once it is confirmed, for people.

    @ivar numbers_from: which number of the epoch all start above; not 0 where nothing here tells of earlier
        restores, so that another one on the same day, elsewhere, gives out others.
    @ivar taken_in: names of what CRLs revoke that a key of the newest genesis signed, nodes, serials, keys;
        and of the keys that an audit says were revoked.
    @ivar revoked_by_dropped_keys: what only CRLs of dropped keys name: nodes, serials, keys.
    @ivar struck: of those, what was left out as asked.
    @ivar lost: what is known to be missing, in words.
    @ivar audits: what each audit file gave.
    @ivar operators_before: of the backup.
    @ivar operators_after: from now on.
    """

    epoch: int
    numbers_from: int
    taken_in: list[str]
    revoked_by_dropped_keys: list[str]
    struck: list[str]
    lost: list[str]
    audits: list[AuditTold]
    policy_version: int
    invites_withdrawn: int
    operators_before: list[operators.OperatorRow]
    operators_after: list[operators.OperatorRow]

    @property
    def revocations(self) -> int:
        """How many were taken in."""
        return len(self.taken_in)


@dataclass(frozen=True, slots=True)
class Evidence:
    """
    What is known of the time after the backup, beside a node's CRL and policy.

    @ivar statuses: C{status.json} of nodes.
    @ivar audits: C{audit.jsonl} or exports of it, beside those in the state directory.
    @ivar heads: files with heads of the audit that an operator vouches for, C{audit-head.json}.
    """

    statuses: Sequence[Path] = ()
    audits: Sequence[Path] = ()
    heads: Sequence[Path] = ()


def _yes(done: Restored) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Choices:
    """
    What only people can decide.

    @ivar accept_older_policy: go on though a newer one is known to have been published.
    @ivar strike: names of entries by dropped keys that are not to be taken in.
    @ivar confirm: shown what will be; nothing changes if it says no.
    """

    accept_older_policy: bool = False
    strike: Sequence[str] = ()
    confirm: Callable[[Restored], bool] = _yes


def restore(
    state: Path,
    backup: Path,
    now: int,
    crl_files: Sequence[Path] = (),
    policy_files: Sequence[Path] = (),
    accept_lost_revocations: bool = False,
    passphrases: Passphrases | None = None,
    evidence: Evidence = Evidence(),
    choices: Choices = Choices(),
    entropy: Callable[[int], bytes] = os.urandom,
    place: Place | None = None,
) -> Restored:
    """
    Put a backup in the place of the database of a stopped daemon; it may be that database itself.

    @param crl_files: C{crl.json} of nodes, the newest that can be found.
    @param policy_files: C{policy.json} of nodes.
    @param passphrases: asked for the signing keys that are sealed.
    @param place: where the database goes; the file in the state directory, if not given.
    @raise ConfigurationError: C{lost-revocations} without such files, or if they are older than what is
        known; C{older-policy}; C{in-use}; C{dropped-key}, C{epoch-beyond} and C{wrong-audit}, naming the file
        that cannot be trusted; C{not-found} for a name to strike that is not there; C{not-confirmed}.
    @raise StoreError: if the backup is damaged or another network's.
    """
    if not backup.is_file():
        raise ConfigurationError("missing-file", f"{backup} does not exist")
    if not (crl_files and policy_files) and not accept_lost_revocations:
        raise _lost_revocations("give a node's newest crl.json and policy.json")
    check_state(state)
    lock = StateLock(state / LOCK, "gmesh-authority")
    try:
        directory = StateDirectory(state, now, passphrases)
        place = place or FilePlace(state)
        held = _held(directory, place)
        directory.take_genesis(held.chain)
        manifest = backup.with_suffix(".json")
        if manifest.exists():
            _check_manifest(backup, manifest)
        if directory.database.exists() and backup.samefile(directory.database):
            sqlite.connect(backup).close()  # what a crash left in its log, into the file
        sqlite.check_integrity(backup, still=True)
        fresh = state / (DATABASE + ".restoring")
        for killed in state.glob(fresh.name + "*"):
            killed.unlink()  # the log of an earlier copy would be played into this one
        shutil.copyfile(backup, fresh)
        fresh.chmod(0o600)
        start = 0
        if held.epoch is None and not (state / EPOCH_FILE).exists():
            start = ((now - EPOCH_ZERO) % DAY << START_BITS) + int.from_bytes(entropy(4)) % 2**START_BITS
        try:
            rework = _Rework(
                directory,
                _Files(crl_files, policy_files, evidence),
                choices,
                accept_lost_revocations,
                max(held.epoch or 0, read_epoch(state)),
                start,
                held.crl_of_restore,
            )
            done = rework.run(fresh, now)
            if not choices.confirm(done):
                raise ConfigurationError("not-confirmed", "nothing was changed")
            directory.keep_genesis()
            write_atomic(state / EPOCH_FILE, json.dumps({"epoch": done.epoch}).encode(), 0o600)
            set_aside(state / MIRROR, now)
            write_mirror(fresh, state / MIRROR)
            place.put(fresh, now)
        finally:
            for leftover in state.glob(fresh.name + "*"):
                leftover.unlink()
    except sqlite.EngineError as error:
        raise sqlite.explain(error, backup) from error
    finally:
        lock.release()
    return done


@dataclass(frozen=True, slots=True)
class _Held:
    """
    What the database that is to be replaced says; nothing, if it cannot be read any more.

    @ivar crl_of_restore: the number of its CRL, if it was restored and no node was heard of since: then
        none can hold a newer one.
    """

    chain: Sequence[Document[Genesis]] = ()
    epoch: int | None = None
    crl_of_restore: int | None = None


def _held(directory: StateDirectory, place: Place) -> _Held:
    try:
        with place.held() as reader:
            if reader is None:
                return _Held()
            chain = [parse_document(body, Genesis) for body in documents.genesis_chain(reader)]
            verify_genesis_chain(chain, directory.network_id)
            return _Held(chain, epoch(reader), _crl_nobody_has(reader))
    except (sqlite.EngineError, DocumentRefused):
        return _Held()


def _crl_nobody_has(reader: Reader) -> int | None:
    restored_at, crl = reader.mark("restored_at"), documents.newest_crl_mark(reader)
    if restored_at is None or crl is None or presence.heard_since(reader, restored_at):
        return None
    return crl[0]


def _lost_revocations(way_out: str) -> ConfigurationError:
    return ConfigurationError(
        "lost-revocations",
        f"what was revoked since the backup would be allowed again: {way_out}, or --accept-lost-revocations",
    )


@dataclass(frozen=True, slots=True)
class _Files:
    """All paths that were given."""

    crls: Sequence[Path]
    policies: Sequence[Path]
    more: Evidence


class _Rework:
    """
    Makes a copy of the backup the database that goes on.

    @param own: the highest epoch that the state directory knows of.
    @param start: which number of the new epoch to start above.
    @param crl_of_restore: of L{_Held}.
    """

    def __init__(
        self,
        directory: StateDirectory,
        files: _Files,
        choices: Choices,
        accept_lost_revocations: bool,
        own: int,
        start: int,
        crl_of_restore: int | None,
    ) -> None:
        self._directory = directory
        self._paths = files
        self._choices = choices
        self._accept_lost_revocations = accept_lost_revocations
        self._own = own
        self._start = start
        self._crl_of_restore = crl_of_restore
        self._struck: list[str] = []

    def run(self, fresh: Path, now: int) -> Restored:
        """Change the copy."""
        connection = sqlite.connect(fresh)
        try:
            migrate.migrate(connection, now)
            with transaction(connection, now) as tx:
                size, head = verify_audit(tx)
                issuer = self._directory.issuer()
                chain = self._directory.store_genesis(tx, issuer)
                paths = self._paths
                files = read_node_files(
                    paths.crls, paths.policies, paths.more.statuses, chain, issuer.network_id
                )
                if not files.crls and not self._accept_lost_revocations:
                    raise _lost_revocations(
                        f"{paths.crls[0]} is signed by a key that genesis {chain[-1].body.version} dropped;"
                        " give crl.json of a node that holds this genesis"
                    )
                done = self._rows(tx, issuer, files, HeldHead("the backup", epoch(tx), size, head))
                self._directory.take_genesis(chain)
                return done
        finally:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            connection.close()

    def _rows(self, tx: Transaction, issuer: DocumentIssuer, files: NodeFiles, backup: HeldHead) -> Restored:
        before, operators_before = epoch(tx), operators.everyone(tx)
        held = documents.newest_policy(tx)
        if held is None:
            raise StoreError("corrupt", "the backup holds no policy")
        policies = [parse_document(held, Policy), *(file.document for file in files.policies)]
        newest = max(policies, key=lambda document: document.body.version)
        issuer.policy = newest
        lost = self._lost_days(tx, issuer, files, backup)
        raised = self._begin_epoch(tx, files, lost)
        withdrawn = invites.withdraw_all(tx)
        end_proposals(tx)
        first = first_number(tx)
        taken_in = [name for file in files.crls for name in merge_crl(tx, file.document.body, first)]
        longest = newest.body.certificate.max
        taken_in += lost.refuse_keys(tx, longest)
        doubtful = self._take_in_doubtful(tx, files, first, tx.now + longest)
        gone = missing_revocations(tx, files, lost, self._crl_of_restore)
        if gone and not self._accept_lost_revocations:
            raise _lost_revocations(f"{'; '.join(gone)}. Give crl.json of more nodes")
        older = newer_policy(files, lost, newest.body.version)
        self._check_policy(files, older)
        if newest.encode() != held:
            follow_policy(tx, newest.body)
        policy = issuer.next_policy(tx, policy_text(newest), "restore")
        issuer.policy = policy
        audit.record(
            tx,
            "authority",
            "restore",
            str(raised),
            previous_epoch=before,
            revocations=len(taken_in),
            by_dropped_keys=len(doubtful),
            borne_out=msgspec.to_builtins(lost.heads),
        )
        self._make_crl(tx, issuer, files)
        return Restored(
            raised,
            self._start,
            taken_in,
            doubtful,
            self._struck,
            [*gone, *older],
            lost.told,
            policy.body.version,
            withdrawn,
            operators_before,
            operators.everyone(tx),
        )

    def _lost_days(
        self, tx: Transaction, issuer: DocumentIssuer, files: NodeFiles, backup: HeldHead
    ) -> LostDays:
        state, more = self._directory.path, self._paths.more
        here = [state / MIRROR, *sorted(state.glob(f"{MIRROR}.before-restore-*"))]
        longest = issuer.policy.body.certificate.max
        lost = read_lost_days(
            tx,
            [path for path in here if path.exists()],
            more.audits,
            [*files.heads, *heads_in(more.heads)],
            backup,
            tx.now - longest - issuer.grace(tx),
        )
        if not tx.mark("numbers_from"):
            known = max(tx.marks.counters["serial"], lost.issued)
            tx.set_mark(issued_mark(backup.epoch), known)
        return lost

    def _begin_epoch(self, tx: Transaction, files: NodeFiles, lost: LostDays) -> int:
        own, days = max(epoch(tx), self._own), (tx.now - EPOCH_ZERO) // DAY
        if self._start:  # nothing else tells of earlier restores
            here = (told for path, told in lost.epochs if path not in self._paths.more.audits)
            own = max(own, *here, 0)
        bound = max(own, days + EPOCHS_AHEAD)
        for path, told in lost.epochs:
            if told > bound:
                raise ConfigurationError(
                    "epoch-beyond",
                    f"{path} tells of epoch {told}, and this authority cannot have come beyond {bound}: leave"
                    " that file out, or move it out of the state directory, and compare the clock",
                )
        raised = max(own + 1, days, files.epoch(bound) + 1, *(told + 1 for _, told in lost.epochs))
        tx.set_mark("epoch", raised)
        tx.set_mark("numbers_from", self._start)
        tx.set_mark("high_water", tx.now)
        tx.set_mark("restored_at", tx.now)
        note_taken_in(tx, raised, tx.audit_head[0] + max((told.rows for told in lost.told), default=0))
        tx.restart_counters(self._start)
        begin_instance(tx)
        unmark_moved(tx)
        return raised

    def _take_in_doubtful(self, tx: Transaction, files: NodeFiles, first: int, last_end: int) -> list[str]:
        """What dropped keys name, but for what people struck."""
        strike = dict.fromkeys(self._choices.strike)
        names: dict[str, None] = {}

        def wanted(name: str) -> bool:
            names[name] = None
            return name not in strike

        doubtful = [
            name
            for file in files.dropped_crls
            for name in merge_crl(tx, file.document.body, first, last_end, wanted)
        ]
        unknown = [name for name in strike if name not in names]
        if unknown:
            raise ConfigurationError(
                "not-found", f"no CRL of a dropped key adds an entry {unknown[0]}: strike it as it is listed"
            )
        self._struck = list(strike)
        return doubtful

    def _check_policy(self, files: NodeFiles, older: list[str]) -> None:
        nothing_asked = self._accept_lost_revocations and not files.policies
        if older and not (self._choices.accept_older_policy or nothing_asked):
            raise ConfigurationError(
                "older-policy",
                f"{'; '.join(older)}: operators that were removed could act again. Give policy.json of more"
                " nodes, or --accept-older-policy",
            )

    def _make_crl(self, tx: Transaction, issuer: DocumentIssuer, files: NodeFiles) -> None:
        try:
            issuer.crl(tx)
        except DocumentRefused as error:
            if not files.dropped_crls:
                raise
            names = ", ".join(str(file.path) for file in files.dropped_crls)
            raise ConfigurationError(
                error.reason, f"{error.detail}; or leave out what dropped keys signed: {names}"
            ) from error


def _check_manifest(backup: Path, manifest: Path) -> None:
    try:
        said = json.loads(read_capped(manifest, 64 * 1024))["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError("corrupt", f"{manifest} is not a manifest") from error
    if said != file_digest(backup):
        raise StoreError("corrupt", f"{backup} is not the file its manifest describes")
