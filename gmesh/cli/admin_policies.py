# SPDX-License-Identifier: MIT
"""
The rules: which policies there are, the next one, and the next genesis.

Tests: C{tests/cli/test_admin_requests.py}.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from gmesh.cli.genesis_input import read_genesis
from gmesh.cli.genesis_review import review
from gmesh.cli.groups import Group
from gmesh.cli.operator import OperatorClient, operator_of
from gmesh.cli.options import json_option
from gmesh.cli.output import (
    Column,
    facts,
    id_column,
    listing,
    moment,
    print_json,
    printable,
    table,
    time_column,
    wide_option,
    words,
)
from gmesh.errors import ConfigurationError, DocumentRefused
from gmesh.files import read_capped
from gmesh.trust.body_policy import POLICY_TEXT_FIELDS
from gmesh.trust.documents import Document, Policy, parse_document
from gmesh.trust.limits import DOCUMENT_LIMITS
from gmesh.trust.restricted_json import parse_json
from gmesh.trust.verify import authority_keys, verify_next_genesis, verify_signatures

__all__ = ["genesis", "policy"]


@click.group(cls=Group)
def policy() -> None:
    """Show, publish, explain and roll back the policy."""


def _policy(operator: OperatorClient, version: int | None) -> Document[Policy]:
    """A version of the policy; an older one may be signed by a key that was replaced since."""
    held = operator.trust.policy
    if held is None:
        raise DocumentRefused("no-policy", "the authority has shown no policy")
    if version in (None, held.body.version):
        return held
    document = parse_document(operator.get_document(f"/admin/policies/{version}"), Policy)
    keys: dict[str, bytes] = {}
    for genesis in operator.trust.genesis_chain:
        keys |= authority_keys(genesis.body)
    verify_signatures(document, keys)
    if document.body.version != version or document.body.network_id != operator.trust.network_id:
        raise DocumentRefused("wrong-policy", "the authority has answered with another policy")
    return document


@policy.command()
@click.argument("version", required=False, type=click.IntRange(min=1))
@click.option("--text", is_flag=True, help="Only what people write of it, as publish takes it.")
@json_option
@wide_option
@click.pass_context
def show(context: click.Context, version: int | None, text: bool, as_json: bool) -> None:
    """Show the policy in force, or an earlier VERSION."""
    document = _policy(operator_of(context), version)
    if text:
        return print_json(
            {name: document.signed[name] for name in POLICY_TEXT_FIELDS if name in document.signed}
        )
    if as_json:
        return print_json(document.signed)
    body = document.body
    facts(
        [
            ("version", str(body.version)),
            ("issued", moment(body.issued_at)),
            ("expires", moment(body.expires_at)),
            ("certificates", f"{body.certificate.default} s, at most {body.certificate.max} s"),
            ("hops at most", str(body.max_hops)),
            ("nodes at most", str(body.max_nodes)),
            ("links to keep", "as nodes see fit" if body.target_degree is None else str(body.target_degree)),
            ("operators", str(len(body.operators))),
        ]
    )
    click.echo()
    rows = [{"rule": index, **rule} for index, rule in enumerate(document.signed.get("rules", ()))]
    columns = [Column(name, name) for name in ("rule", "effect", "from", "to", "services")]
    table(columns, rows, "no rules: nothing is allowed")


@policy.command()
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only say whether it could be published.")
@click.option("--if-version", type=click.IntRange(min=1), help="Only if this version is in force.")
@json_option
@click.pass_context
def publish(
    context: click.Context, source: Path, dry_run: bool, if_version: int | None, as_json: bool
) -> None:
    """Publish the policy text in FILE, a JSON object as "policy show --text" prints it."""
    try:
        text = parse_json(read_capped(source, DOCUMENT_LIMITS["policy"]), DOCUMENT_LIMITS["policy"])
    except DocumentRefused as error:
        raise ConfigurationError(error.reason, f"{source}: {error.detail}") from error
    _publish(context, {"text": text}, dry_run, if_version, as_json)


@policy.command()
@click.argument("version", type=click.IntRange(min=1))
@click.option("--dry-run", is_flag=True, help="Only say whether it could be published.")
@json_option
@click.pass_context
def rollback(context: click.Context, version: int, dry_run: bool, as_json: bool) -> None:
    """Publish the text of an earlier VERSION again, under a new version."""
    _publish(context, {"version": version}, dry_run, None, as_json)


def _publish(
    context: click.Context, body: dict[str, Any], dry_run: bool, if_version: int | None, as_json: bool
) -> None:
    more = {"dry_run": dry_run} | ({} if if_version is None else {"expected_version": if_version})
    answer = operator_of(context).ask("POST", "/admin/policies", body | more)
    if as_json:
        return print_json(answer)
    if dry_run:
        click.echo("this policy could be published; nothing was changed")
    else:
        click.echo(f"policy {words(answer.get('version'))} is in force")


@policy.command()
@json_option
@wide_option
@click.pass_context
def history(context: click.Context, as_json: bool) -> None:
    """List the versions, newest first."""
    rows = operator_of(context).pages("/admin/policies", "policies")
    columns = [
        Column("version", "version"),
        time_column("issued", "issued_at"),
        id_column("published by", "published_by"),
    ]
    listing(columns, rows, "no policies", as_json)


@policy.command()
@click.argument("source", metavar="A")
@click.argument("service", metavar="SERVICE")
@click.argument("target", metavar="B")
@json_option
@click.pass_context
def explain(context: click.Context, source: str, service: str, target: str, as_json: bool) -> None:
    """May node A reach SERVICE on node B, and by which rule?"""
    question = urlencode({"source": source, "target": target, "service": service})
    answer = operator_of(context).ask("GET", f"/admin/policies/explain?{question}")
    if as_json:
        return print_json(answer)
    verdict = "may" if answer.get("allowed") else "may not"
    version = words(answer.get("policy_version"))
    if answer.get("rule") is None:
        why = "no rule matches, and what no rule allows is denied"
    else:
        why = f"by rule {answer['rule']}: {printable(json.dumps(answer.get('rule_text')))}"
    click.echo(f"{source} {verdict} reach {service} on {target} (policy {version}): {why}")


@click.group(cls=Group)
def genesis() -> None:
    """Publish the next genesis."""


@genesis.command("publish")
@click.argument("source", metavar="GENESIS", type=click.Path(path_type=Path))
@json_option
@click.pass_context
def publish_genesis(context: click.Context, source: Path, as_json: bool) -> None:
    """
    Publish the next version, signed by its root holders (see "gmesh genesis").

    Nodes fetch it with their next heartbeat, or learn it from their neighbours.
    """
    document = read_genesis(source)
    operator = operator_of(context)
    verify_next_genesis(
        operator.trust.genesis, document, operator.trust.network_id, operator.authority.wall()
    )
    if not as_json:
        review(document, operator.trust.genesis)
    answer = operator.ask("POST", "/admin/genesis", {"genesis": document.as_dict()})
    operator.follow([*operator.trust.genesis_chain, document])
    if as_json:
        return print_json(answer)
    click.echo(f"\ngenesis {words(answer.get('version'))} is in force")
    for key in answer.get("lacking") or []:
        click.echo(
            f"gmesh: it lists the authority key {words(key)}, which the daemon does not hold: put it there"
            " before it is to sign (in its state directory: reload; as a systemd credential: restart)",
            err=True,
        )
