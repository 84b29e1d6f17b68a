# SPDX-License-Identifier: MIT
"""
Checks of what the state directory says: clock, own certificate, genesis, and how fresh the rest is.

Tests: C{tests/cli/test_doctor.py}.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmesh.cli.doctor_findings import Finding, fail, ok, warn
from gmesh.cli.output import age, moment, printable
from gmesh.errors import ConfigurationError, DocumentRefused, PeerRefused
from gmesh.trust.state import Freshness, TrustState

if TYPE_CHECKING:
    from gmesh.node.identity_store import Identity

__all__ = ["Kept", "certificate", "clock", "faults", "freshness", "genesis", "read_state"]

#: Seconds a clock may be off: more is reported; and beyond, the authority refuses what this host signs.
CLOCK_WARN, CLOCK_FAIL = 5, 120
#: Of its life, when a certificate should have been renewed; the daemon begins at about one half.
RENEWAL_OVERDUE = 0.65
DAY = 86400
GENESIS_WARN = 30 * DAY
SET_CLOCK = "set it, for example with: timedatectl set-ntp true"
NEW_INVITE = "an operator makes an invite (gmesh admin invite), then on this host: gmesh join - --state {}"
KINDS = ("crl", "policy", "status")
WHOSE_CLOCK = "see the clock of the authority's host first, then this one's; until then the time here counts"
ONE_HOST = "stop one of them; a clone gets an invite and a state directory of its own"
RESTORE = (
    "an operator stops all authorities but one, then raises its epoch with gmesh restore: see the manual, "
    "When two authorities share one key"
)
_HISTORY = {
    "audit-fork": "its audit chain lost rows or has two versions",
    "crl-fork": "a newer CRL lacks somebody who is revoked",
    "digest-mismatch": "two documents have one number",
    "fell-back": "it answers less than it once signed",
    "instance-fork": "two databases publish in one epoch",
}


@dataclass(frozen=True, slots=True)
class Kept:
    """
    The state directory, as a node that starts would believe it.

    @ivar trust: with every document that can be believed.
    """

    directory: Path
    identity: Identity
    trust: TrustState
    wall: Callable[[], float] = time.time


def read_state(directory: Path, wall: Callable[[], float] = time.time) -> tuple[Kept | None, list[Finding]]:
    """What is kept there, None if no node could start from it, and what is wrong with it."""
    from gmesh.node.identity_store import IdentityStore

    try:
        identity = IdentityStore(directory).load()
        trust = TrustState(identity.network_id, identity.genesis_chain, identity.floors)
    except ConfigurationError as error:
        detail, _, advice = error.detail.partition(": ")
        return None, [fail("state", detail, advice or "see its owner and mode")]
    except DocumentRefused as error:
        advice = f"restore genesis.json in {directory} from a backup or another node of this network"
        return None, [fail("state", f"the stored genesis cannot be believed: {error.detail}", advice)]
    bad = []
    held = {document.type: document for document in identity.documents}
    for kind in KINDS:
        try:
            if kind in held:
                trust.offer(held[kind], wall())
            elif (directory / f"{kind}.json").exists():
                bad.append((kind, "it is damaged"))
        except DocumentRefused as error:
            bad.append((kind, error.detail))
    found = [
        warn("state", f"{directory / kind}.json is not believed: {why}", "the daemon fetches it again")
        for kind, why in bad
    ]
    name = identity.certificate.body.name
    found.append(ok("state", f"{directory} holds {name} of network {trust.genesis.body.network}"))
    return Kept(directory, identity, trust, wall), found


def clock(kept: Kept, fresh: Any = None) -> list[Finding]:
    """
    Between the times that the authority has signed.

    @param fresh: the body of a status that the authority gave just now, if one could be had.
    """
    now, status = kept.wall(), kept.trust.status
    signed = max(
        kept.identity.state.time_floor,
        kept.identity.certificate.body.issued_at,
        status.body.issued_at if status is not None else 0,
        fresh.issued_at if fresh is not None else 0,
    )
    behind = signed - now
    if behind > CLOCK_WARN:
        detail = f"at least {age(behind)} behind: {moment(signed)} is signed already"
        return [(fail if behind > CLOCK_FAIL else warn)("clock", detail, SET_CLOCK)]
    if fresh is not None and now > fresh.expires_at:
        detail = f"the clock is at least {age(now - fresh.expires_at)} ahead of the status got just now"
        return [fail("clock", detail, f"{SET_CLOCK}; if it is right, the authority's own clock stands still")]
    if fresh is not None:
        return [ok("clock", f"within the status that the authority signed {age(now - fresh.issued_at)} ago")]
    if status is None:
        return [warn("clock", "no signed time to compare with", "the first status brings one")]
    return [ok("clock", f"not before the newest signed time, {moment(signed)}")]


def faults(words: list[str]) -> list[Finding]:
    """What the daemon found wrong with the authority or with nodes: C{WORD} or C{WORD:NODE}."""
    found = []
    for fault in words:
        word, _, node = fault.partition(":")
        if word == "twin" and node:
            found.append(warn("twin", f"two hosts run with the keys of {printable(node)}", ONE_HOST))
        elif word == "twin":
            found.append(fail("twin", "another host runs with the keys of this node", ONE_HOST))
        elif word == "time-jump":
            found.append(fail("clock", "the newest status is dated hours ahead", WHOSE_CLOCK))
        else:
            what = _HISTORY.get(word, printable(word))
            found.append(
                fail("history", f"one authority, two histories: {what} ({printable(word)})", RESTORE)
            )
    return found


def certificate(kept: Kept, facts: Mapping[str, Any] | None = None) -> list[Finding]:
    """
    Valid, believed by others, renewed in time, and in use.

    @param facts: what the daemon says, if it runs.
    """
    body, now = kept.identity.certificate.body, kept.wall()
    used = (facts or {}).get("serial", body.serial)
    if used != body.serial:
        detail = f"the daemon works with certificate {used}, the directory holds {body.serial}"
        return [fail("certificate", detail, "restart it")]
    until = f"certificate {body.serial} until {moment(body.not_after)}"
    invite = NEW_INVITE.format(kept.directory)
    try:
        kept.trust.judge_certificate(kept.identity.certificate, now)
    except PeerRefused as error:
        if error.reason == "expired" and now <= body.not_after + _grace(kept):
            advice = "reach the authority, or an anchor that asks it: it still renews it"
            return [fail("certificate", f"{until} has ended", advice)]
        if error.reason == "not-yet-valid":
            return [fail("certificate", f"certificate {body.serial} is not valid yet", SET_CLOCK)]
        if error.reason == "not-admitted":
            advice = "have an operator admit it, gmesh admin enrolments unadmitted; the rest goes by itself"
            return [fail("certificate", error.detail, advice)]
        return [fail("certificate", f"{until}: {error.detail}", invite)]
    left, life = body.not_after - now, body.not_after - body.issued_at
    if now - body.issued_at > RENEWAL_OVERDUE * life:
        detail = f"{until}, {age(left)} left: it should have been renewed"
        return [warn("certificate", detail, "see the authority line; the daemon tries again by itself")]
    return [ok("certificate", f"{until}, {age(left)} left, renewed at about half its life")]


def _grace(kept: Kept) -> int:
    policy = kept.trust.policy
    return 0 if policy is None else policy.body.certificate.renew_grace


def genesis(kept: Kept) -> list[Finding]:
    """It ends too, after years, and takes everything with it."""
    body, now = kept.trust.genesis.body, kept.wall()
    detail = f"genesis {body.version} until {moment(body.expires_at)}"
    advice = "the root holders make the next one: gmesh genesis rotate"
    if now > body.expires_at:
        return [fail("genesis", f"{detail} has ended", advice)]
    if body.expires_at - now < GENESIS_WARN:
        return [warn("genesis", f"{detail}, {age(body.expires_at - now)} left", advice)]
    return [ok("genesis", detail)]


def freshness(kept: Kept) -> list[Finding]:
    """How old the newest status is, and whether CRL and policy are those that it names."""
    trust, now = kept.trust, kept.wall()
    reach = "reach the authority or a node that does: see the authority and anchor lines"
    if trust.status is None:
        return [fail("freshness", "no status of the authority is held: links carry documents only", reach)]
    status = trust.status.body
    detail = f"status {status.number}, signed {age(max(0.0, now - status.issued_at))} ago"
    fresh = trust.freshness(now)
    if fresh is Freshness.LAPSED:
        late = f"{detail}, lapsed: links carry documents only"
        found = [fail("freshness", late, reach)]
    elif fresh is Freshness.STALE:
        found = [warn("freshness", f"{detail}, expired: a revocation may be missing", reach)]
    else:
        found = [ok("freshness", detail)]
    numbers = {
        "crl": (trust.crl.body.number if trust.crl is not None else 0, status.crl.number),
        "policy": (trust.policy.body.version if trust.policy is not None else 0, status.policy.version),
    }
    for kind, (held, named) in numbers.items():
        if held < named:
            found.append(warn("freshness", f"{kind} {held} is held, {named} is in force", reach))
        else:
            found.append(ok("freshness", f"{kind} {held} is the newest known"))
    return found
