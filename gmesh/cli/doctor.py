# SPDX-License-Identifier: MIT
"""C{doctor}: every check of this host's node in one go, whether its daemon runs or not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from gmesh.cli import doctor_documents, doctor_gateways, doctor_host, doctor_reach
from gmesh.cli.doctor_findings import Finding, Level, fail, ok, warn
from gmesh.cli.endpoint_text import client_place
from gmesh.cli.http import Endpoint, HttpRefused, Unreachable
from gmesh.cli.local import SYSTEM_SOCKET, locate, node_options, read_object
from gmesh.cli.output import print_json, printable
from gmesh.errors import ConfigurationError, GmeshError

__all__ = ["doctor"]

#: Where the Debian unit keeps the state.
SYSTEM_STATE = Path("/var/lib/gmesh-node")
_COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}


@node_options
def doctor(state: str | None, control: str | None, as_json: bool) -> None:
    """
    Tell what is wrong with the node of this host, and what to do.

    Looks at clock, names, authority, anchors, listening address, certificate, freshness, files and
    disk, and tries what the node exposes.  Works without the daemon too, from the state directory.
    Ends with 1 if something FAILs.
    """
    daemon, facts = _ask_daemon(state, control)
    uid = _endpoint(state, control).owner() if facts is not None and state is None else None
    directory = _directory(state, facts, uid)
    if directory is None and facts is None:
        raise ConfigurationError(
            "no-node", "which node? give --state DIR, or set GMESH_STATE to its state directory"
        )
    if directory is None:
        advice = "give --state DIR to have its files looked at"
        daemon.append(warn("state", "the daemon names no state directory of its own here", advice))
    found = [*daemon, *(_examine(directory, facts) if directory is not None else [])]
    if facts is not None:
        found += doctor_gateways.gateways(_endpoint(state, control))
    failed = sum(finding.level is Level.FAIL for finding in found)
    if as_json:
        checks = [finding.as_dict() for finding in found]
        print_json({"ok": not failed, "daemon": facts is not None, "checks": checks})
    else:
        for finding in found:
            _print(finding)
    if failed:
        raise GmeshError("unhealthy", f"{failed} of {len(found)} checks failed")


def _print(finding: Finding) -> None:
    level = click.style(f"{finding.level.name:4}", fg=_COLOURS[finding.level], bold=bool(finding.level))
    detail = finding.detail if finding.detail.endswith("?") or not finding.advice else f"{finding.detail}."
    advice = f" To do: {finding.advice}" if finding.advice else ""
    click.echo(f"{level}  {finding.check:11}  {printable(detail + advice)}")


def _ask_daemon(state: str | None, control: str | None) -> tuple[list[Finding], dict[str, Any] | None]:
    """What the daemon says of itself; None if there is no answer."""
    try:
        where = _endpoint(state, control)
        facts = read_object(where, "/v1/doctor")
    except (Unreachable, HttpRefused, ConfigurationError) as error:
        if control is not None and isinstance(error, ConfigurationError):
            raise
        if error.reason == "forbidden":
            advice = "run it as root, or become a member of the group of the socket"
            return [warn("daemon", f"it may not be asked: {error.detail}", advice)], None
        advice = "restart it" if error.reason == "timeout" else "start it, and see its log if it ends"
        advice += "; what follows is from the state directory"
        return [fail("daemon", f"it does not answer: {error.detail}", advice)], None
    found = [ok("daemon", f"it runs and answers at {where.where}, links: {facts.get('links')}")]
    if not facts.get("links"):
        alone = f"it answers at {where.where}, but has no link"
        found = [warn("daemon", alone, "see the anchors and listen lines")]
    floods = (facts.get("counters") or {}).get("control-flood")
    if floods:
        detail = f"links left since it started, because their neighbours flooded us: {floods}"
        found.append(
            warn("flood", detail, "see `gmesh peers` for what each costs; ask an operator to revoke it")
        )
    found += doctor_documents.faults([str(fault) for fault in facts.get("faults") or ()])
    behind = facts.get("clock_behind") or 0
    if behind > doctor_documents.CLOCK_WARN:
        detail = f"the daemon goes by signed time: the clock of this host is {behind:.0f} s late"
        found.append(warn("clock", detail, doctor_documents.SET_CLOCK))
    return found, facts


def _endpoint(state: str | None, control: str | None) -> Endpoint:
    """Where the daemon answers; with the directory of the Debian unit, its socket too."""
    if control is None and state is not None and Path(state) == SYSTEM_STATE and SYSTEM_SOCKET.exists():
        return locate(None, None)
    return locate(state, control)


def _directory(state: str | None, facts: Mapping[str, Any] | None, uid: int | None) -> Path | None:
    """
    What to look at: what the user named, or what the daemon does, if it owns that.

    Else a daemon in wrong hands could have root read, and be made to change, the files of others.

    @param uid: whose process the daemon is, if that is known.
    """
    if state is not None:
        return Path(state)
    if facts is not None:
        report = Path(str(facts.get("state", "")))
        if not report.is_absolute() or not report.is_dir():
            return None
        return report if report == SYSTEM_STATE or uid is None or report.stat().st_uid == uid else None
    return SYSTEM_STATE if SYSTEM_STATE.is_dir() else None


def _examine(directory: Path, facts: Mapping[str, Any] | None) -> list[Finding]:
    if _closed(directory):
        advice = "run it as root, or as the daemon's user, to have the files looked at"
        return [warn("state", f"{directory} may not be read by this user", advice)]
    kept, found = doctor_documents.read_state(directory)
    if directory.is_dir():
        found += [*doctor_host.permissions(directory), *doctor_host.disk(directory)]
    if kept is None:
        return found
    asked = ((facts or {}).get("authority") or {}).get("urls")
    urls = kept.identity.authority_urls if asked is None else [str(url) for url in asked]
    places = [place for text in (*urls, *doctor_reach.anchors_of(kept)) if (place := client_place(text))]
    reached, fresh = doctor_reach.authority(urls, kept, facts)
    if facts is None:
        found += doctor_documents.faults(list(kept.identity.state.alarms))
    return [
        *found,
        *doctor_documents.clock(kept, fresh),
        *doctor_documents.certificate(kept, facts),
        *doctor_documents.genesis(kept),
        *doctor_documents.freshness(kept),
        *doctor_reach.names(places),
        *reached,
        *doctor_reach.anchors(kept, facts),
        *(doctor_reach.listening(kept, facts) if facts is not None else []),
    ]


def _closed(directory: Path) -> bool:
    """Whether only others may look into it: the group of the socket may ask the daemon, and no more."""
    try:
        owner = directory.stat().st_uid
        return os.geteuid() not in (0, owner) and not os.access(directory / "identity.key", os.R_OK)
    except FileNotFoundError:
        return False
    except OSError:
        return True
