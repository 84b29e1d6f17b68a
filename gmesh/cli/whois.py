# SPDX-License-Identifier: MIT
"""
C{whois}: all that the node of this host knows of one node.

Tests: C{tests/cli/test_watch.py}.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import click

from gmesh.cli.http import Endpoint
from gmesh.cli.local import node_command, read_object
from gmesh.cli.options import node_name
from gmesh.cli.output import age, chain, facts, milliseconds, moment, print_json, words

__all__ = ["whois"]


@node_command
@click.argument("node", type=node_name, metavar="NAME|NODE-ID|PREFIX")
def whois(node: str, where: Endpoint, as_json: bool) -> None:
    """
    Show all that is known of a node: certificate, addresses, path, links, revoked or not.

    The beginning of a name or node id will do where it fits one node alone.
    """
    answer = read_object(where, f"/v1/whois?node={quote(node, safe='')}")
    if as_json:
        return print_json(answer)
    certificate: Mapping[str, Any] = answer.get("certificate") or {}
    known = [
        ("name", words(answer.get("name"))),
        ("node id", words(answer.get("node_id"))),
        ("roles", words(answer.get("roles"))),
        ("revoked", _revoked(answer)),
        ("expired", _expired(answer, certificate)),
        ("certificate", words(certificate.get("serial"))),
        ("valid", _validity(certificate)),
        ("node key", words(answer.get("node_key"))),
        ("reachable", words(answer.get("reachable"))),
        ("path", chain(answer.get("path"))),
        ("link", _link(answer.get("link"))),
        ("linked to", _links(answer.get("links"))),
        ("addresses", words(answer.get("addresses"))),
        ("services", words(answer.get("services"))),
        ("version", words(answer.get("version"))),
        ("last heard", _ago(answer.get("last_heard"))),
    ]
    left = answer.get("revoked") or answer.get("expired")
    facts((name, value) for name, value in known if value != "-" or not (left or name == "expired"))


def _revoked(answer: Mapping[str, Any]) -> str:
    """Yes or no; and of yes which certificate, why, by which CRL and since when that is known here."""
    report: Mapping[str, Any] = answer.get("revocation") or {}
    facets = [
        ("serial ", words(report.get("serial"))),
        ("", words(report.get("reason"))),
        ("by CRL ", words(report.get("crl_number"))),
        ("known here since ", _ago(report.get("known_at"))),
    ]
    return ", ".join(
        [words(answer.get("revoked")), *(name + value for name, value in facets if value != "-")]
    )


def _expired(answer: Mapping[str, Any], certificate: Mapping[str, Any]) -> str:
    return f"yes, {_ago(certificate.get('not_after'))}" if answer.get("expired") else "-"


def _validity(certificate: Mapping[str, Any]) -> str:
    if not certificate:
        return "-"
    return f"{moment(certificate.get('not_before'))} to {moment(certificate.get('not_after'))}"


def _link(link: Any) -> str:
    if not isinstance(link, dict):
        return "-"
    return f"{words(link.get('address'))}, round trip {milliseconds(link.get('rtt_ms'))}"


def _links(links: Any) -> str:
    return words([f"{words(link.get('name'))} (cost {words(link.get('cost'))})" for link in links or []])


def _ago(at: Any) -> str:
    if not isinstance(at, int | float):
        return "-"
    return f"{moment(at)}, {age(max(0.0, time.time() - at))} ago"
