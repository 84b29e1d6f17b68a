# SPDX-License-Identifier: MIT
"""The doctor's checks, each with a state directory that is well and with one that is not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gmesh.cli import doctor as doctor_module
from gmesh.cli import doctor_documents, doctor_host
from gmesh.cli.doctor_documents import Kept, read_state
from gmesh.cli.doctor_findings import Finding, Level
from gmesh.cli.http import Unreachable
from gmesh.node.identity_store import IdentityStore
from gmesh.testing.issuer import DAY, Enrolled, Issuer

JOINED = 1800


def _kept(directory: Path, now: float) -> Kept:
    kept, _ = read_state(directory, lambda: now)
    assert kept is not None
    return kept


def _levels(findings: list[Finding]) -> set[Level]:
    assert all(bool(finding.advice) is (finding.level is not Level.OK) for finding in findings)
    return {finding.level for finding in findings}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("identity.key", None, "is missing"),
        ("certificate.json", b"{}", "is damaged"),
        ("genesis.json", b"x", "is damaged"),
    ],
)
def test_state(now: int, directory: Path, name: str, content: bytes | None, told: str) -> None:
    """What keeps a node from starting fails, with the file and what to do; nothing more is looked at."""
    kept, found = read_state(directory, lambda: now)
    assert kept is not None and _levels(found) == {Level.OK}
    (directory / name).unlink()
    if content is not None:
        (directory / name).write_bytes(content)
    kept, [found_bad] = read_state(directory, lambda: now)
    assert (kept, found_bad.level) == (None, Level.FAIL)
    assert name in found_bad.detail and told in found_bad.detail and "gmesh join" in found_bad.advice


def test_a_damaged_document_is_a_warning(now: int, directory: Path) -> None:
    """The daemon fetches it again."""
    (directory / "crl.json").write_bytes(b"junk")
    kept, found = read_state(directory, lambda: now)
    assert kept is not None
    assert [finding.level for finding in found] == [Level.WARN, Level.OK]
    assert "crl.json" in found[0].detail


@pytest.mark.parametrize(
    ("off", "level"),
    [(0, Level.OK), (-JOINED - 4, Level.OK), (-JOINED - 60, Level.WARN), (-JOINED - 300, Level.FAIL)],
)
def test_clock_against_signed_time(now: int, directory: Path, off: int, level: Level) -> None:
    """A clock before a signed time is wrong by at least that."""
    assert _levels(doctor_documents.clock(_kept(directory, now + off))) == {level}


def test_clock_ahead(directory: Path, issuer: Issuer) -> None:
    """A status fetched just now that has expired: the clock is ahead, or the authority's stands still."""
    fresh = issuer.status.body
    assert _levels(doctor_documents.clock(_kept(directory, fresh.expires_at - 1), fresh)) == {Level.OK}
    [finding] = doctor_documents.clock(_kept(directory, fresh.expires_at + 60), fresh)
    assert finding.level is Level.FAIL and "ahead" in finding.detail


@pytest.mark.parametrize(
    ("age", "level", "advice"),
    [
        (JOINED, Level.OK, ""),
        (DAY * 0.6, Level.OK, ""),
        (DAY * 0.7, Level.WARN, "authority"),
        (DAY + 600, Level.FAIL, "still renews it"),
        (400 * DAY, Level.FAIL, "gmesh join -"),
    ],
)
def test_certificate(now: int, directory: Path, age: float, level: Level, advice: str) -> None:
    """Renewed late is a warning; ended is a failure, whose advice depends on the grace of the policy."""
    [finding] = doctor_documents.certificate(_kept(directory, now - JOINED + age))
    assert finding.level is level and advice in finding.advice


def test_a_revoked_certificate(now: int, directory: Path, issuer: Issuer, enrolled: Enrolled) -> None:
    """The CRL on disk names it."""
    IdentityStore(directory).save_document(issuer.revoke(enrolled))
    [finding] = doctor_documents.certificate(_kept(directory, now))
    assert finding.level is Level.FAIL and "revoked" in finding.detail and "invite" in finding.advice


@pytest.mark.parametrize(("years", "level"), [(1, Level.OK), (9.95, Level.WARN), (10.1, Level.FAIL)])
def test_genesis(now: int, directory: Path, years: float, level: Level) -> None:
    """It warns a month before the end."""
    assert _levels(doctor_documents.genesis(_kept(directory, now + years * 365 * DAY))) == {level}


@pytest.mark.parametrize(("later", "level"), [(0, Level.OK), (2 * DAY, Level.WARN), (300 * DAY, Level.FAIL)])
def test_freshness(directory: Path, issuer: Issuer, later: int, level: Level) -> None:
    """Expired is a warning until the policy's grace is over."""
    found = doctor_documents.freshness(_kept(directory, issuer.status.body.expires_at - 1 + later))
    assert found[0].level is level


def test_a_crl_that_is_behind(now: int, directory: Path, issuer: Issuer, enrolled: Enrolled) -> None:
    """The status names a newer one than is held."""
    issuer.revoke(issuer.enrol("x", "client"))
    IdentityStore(directory).save_document(issuer.publish_status())
    found = doctor_documents.freshness(_kept(directory, now))
    assert [finding.detail.split()[0] for finding in found if finding.level is Level.WARN] == ["crl"]


def test_no_status(now: int, directory: Path) -> None:
    """Nothing fresh was ever heard."""
    (directory / "status.json").unlink()
    assert _levels(doctor_documents.freshness(_kept(directory, now))) == {Level.FAIL}


@pytest.mark.parametrize(
    ("name", "mode", "advice"),
    [
        ("identity.key", 0o640, "chmod 0600"),
        ("noise.key", 0o400, "chmod 0600"),
        ("crl.json", 0o666, "chmod go-w"),
        ("crl.json", 0o044, "chmod u+r"),
        (".", 0o777, "chmod go-w"),
    ],
)
def test_permissions(directory: Path, name: str, mode: int, advice: str) -> None:
    """Each wrong mode fails with the command that puts it right."""
    assert _levels(doctor_host.permissions(directory)) == {Level.OK}
    (directory / name).chmod(mode)
    [finding] = doctor_host.permissions(directory)
    assert finding.level is Level.FAIL and finding.advice == f"{advice} {directory / name}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_somebody_else(directory: Path) -> None:
    """A file that its directory's owner does not own fails."""
    os.chown(
        directory / "state.json" if (directory / "state.json").exists() else directory / "crl.json", 1, 1
    )
    [finding] = doctor_host.permissions(directory)
    assert finding.level is Level.FAIL and finding.advice.startswith("chown 0:")


@pytest.mark.parametrize(
    ("free", "inodes", "flag", "level"),
    [
        (10**12, 10**6, 0, Level.OK),
        (32 * 1024**2, 10**6, 0, Level.WARN),
        (1024**2, 10**6, 0, Level.FAIL),
        (10**12, 3, 0, Level.FAIL),
        (10**12, 10**6, os.ST_RDONLY, Level.FAIL),
    ],
)
def test_disk(
    directory: Path, monkeypatch: pytest.MonkeyPatch, free: int, inodes: int, flag: int, level: Level
) -> None:
    """Room, inodes, and whether it may be written at all."""
    real = os.statvfs(directory)
    fields = list(real)
    fields[1], fields[4], fields[5], fields[7], fields[8] = 1, free, 10**7, inodes, flag
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(fields))
    assert _levels(doctor_host.disk(directory)) == {level}


@pytest.mark.parametrize(
    ("reason", "advice"), [("timeout", "restart it"), ("unreachable", "start it, and see its log")]
)
def test_a_daemon_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, reason: str, advice: str) -> None:
    """One that hangs is to be restarted, one that is not there to be started."""

    def silent(*arguments: Any) -> Any:
        raise Unreachable(reason, "no answer")

    monkeypatch.setattr(doctor_module, "read_object", silent)
    [finding], facts = doctor_module._ask_daemon("/s", None)
    assert finding.level is Level.FAIL and finding.advice.startswith(advice) and facts is None
