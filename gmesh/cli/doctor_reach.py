# SPDX-License-Identifier: MIT
"""Checks of what can be reached: names, the authority over HTTP, the anchors, and this node's own address."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec

from gmesh.cli.doctor_documents import Kept
from gmesh.cli.doctor_findings import Finding, fail, ok, softened, unless_all, warn
from gmesh.cli.endpoint_text import HostPort, client_place, server_place
from gmesh.cli.http import Endpoint
from gmesh.cli.output import age, milliseconds, printable, words
from gmesh.errors import DocumentRefused, GmeshError
from gmesh.trust.authority_answers import is_answer
from gmesh.trust.documents import Status, parse_document
from gmesh.trust.state import TrustState
from gmesh.trust.transport_address import FORMS, read_address
from gmesh.trust.transport_address import advice as what_to_write

__all__ = ["anchors", "anchors_of", "authority", "listening", "names"]

#: Seconds for one connection or look-up; all of a kind are tried at once.
DIAL_SECONDS = 4.0
MAX_AT_ONCE = 16
_REFUSALS = {
    "revoked": "this node is revoked there: ask the operators; a new invite brings it back",
    "expired": "its certificate, or ours, has ended: see the certificate line",
    "not-admitted": "one side has no good admission: see the certificate line",
    "not-yet-valid": "one of the two clocks is wrong: see the clock line",
    "wrong-network": "another network answers there: correct the anchor's address",
    "twin": "another host runs with the keys of this node: stop one of them",
    "unknown-key": "one side lacks the newest genesis: it is fetched from the authority",
    "version": "one side runs an old gmesh: upgrade it",
}
_ENDINGS = {
    "handshake-timeout": "see what has that port; if it is a node, large packets are lost on the way:"
    " compare ping -M do -s 1400 with ping -s 64",
    "connect-failed": "wait a minute for its next try, and see its log",
    "full": "it has no room for another link: name another anchor",
    "closed-in-handshake": "see what has that port, and which suites its genesis allows",
    "not-gmesh": "another program has that port: correct the address",
}
_CARRIERS = {
    "tls-certificate": "correct the certificate there, or trust it with --tls-ca or --tls-pin",
    "tls-failed": "see what has that port: it is not TLS, or a firewall ends it",
    "proxy-credentials": "put USER:PASSWORD into a file, and name it with --proxy-credentials",
    "proxy-refused": "ask who runs the proxy to let CONNECT through to that port, or use port 443",
    "proxy-failed": "see --proxy and NO_PROXY, and the log of the proxy",
    "web-server": "see that the web server passes the path on, with Upgrade, to a --listen ws:...",
}
"""What to do where something on the way to a node refused: reasons of L{CarrierRefused<gmesh.errors>}."""
_TRYING = ("waiting", "queued", "dialling")
_PASSING = ("", "duplicate", "renewed")
"""Reasons of a link's end that ask for nothing."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def _at_once(do: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    if not items:
        return []
    with ThreadPoolExecutor(min(MAX_AT_ONCE, len(items))) as pool:
        return list(pool.map(do, items))


def names(places: Iterable[HostPort]) -> list[Finding]:
    """Every host that is a name has an address."""
    hosts = list(dict.fromkeys(each.host for each in places if each.address is None))
    if not hosts:
        return [ok("names", "none to look up: the authority and the anchors are addresses")]
    return unless_all(_at_once(_look_up, hosts))


def _look_up(host: str) -> Finding:
    try:
        found = sorted({str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})
    except (OSError, UnicodeError) as error:
        advice = "see resolv.conf and the name server, or correct the name"
        return fail("names", f"{host} has no address: {getattr(error, 'strerror', None) or error}", advice)
    return ok("names", f"{host} is {', '.join(found[:4])}")


def authority(urls: Sequence[str], kept: Kept, facts: Mapping[str, Any] | None) -> tuple[list[Finding], Any]:
    """
    Each URL of the authority gives a status of this network, and the daemon asks the same ones.

    @param urls: those that the daemon asks, if it runs.
    @param facts: what the daemon says, if it runs.
    @return: and the body of the newest status got.
    """
    if not urls:
        advice = "the root holders put one into the genesis, or write it to authority.json"
        return [fail("authority", "no URL of the authority is known", advice)], None
    results = _at_once(lambda url: _ask(url, kept), list(urls))
    found = unless_all(finding for finding, _ in results)
    bodies = [body for _, body in results if body is not None]
    report = (facts or {}).get("authority") or {}
    if not bodies and report.get("reachable"):
        detail = f"not over HTTP; through an anchor, {age(report.get('age'))} ago"
        well = "nothing, if this host is not meant to reach it"
        found = [warn("authority", detail, well), *softened(found)]
    if report.get("urls") is not None and set(urls) != set(kept.identity.authority_urls):
        named = ", ".join(kept.identity.authority_urls) or "none"
        detail = f"the directory names others than the daemon asks: {named}"
        found.append(warn("authority", detail, "reload the daemon"))
    for what, reason in sorted((report.get("troubles") or {}).items()):
        if what != "history" and (what != "contact" or bodies):
            text = f"the daemon's {what} does not succeed: {printable(str(reason))}"
            found.append((fail if what == "contact" else warn)("authority", text, "its log says more"))
    return found, max(bodies, key=lambda body: body.number, default=None)


def _ask(url: str, kept: Kept) -> tuple[Finding, Any]:
    began = time.monotonic()
    try:
        data = Endpoint(url).request("GET", "/status", timeout=DIAL_SECONDS, counts=is_answer).body
        took = 1000 * (time.monotonic() - began)
        status = parse_document(data, Status)
        TrustState(kept.trust.network_id, kept.trust.genesis_chain).offer(status, kept.wall())
    except DocumentRefused as error:
        advice = "another network's, or the newest genesis is missing here: the daemon fetches that"
        return fail("authority", f"{url} shows a status not to be believed: {error.detail}", advice), None
    except GmeshError as error:
        advice = "see that it runs and that no firewall or proxy is between"
        return fail("authority", f"{url}: {error.detail}", advice), None
    held = kept.trust.status
    if held is not None and status.body.number < held.body.number:
        detail = f"{url} shows status {status.body.number}, {held.body.number} is held here"
        return fail("authority", detail, "it was restored, or newer ones are held back"), None
    if held is not None and status.body.number == held.body.number and status.digest != held.digest:
        detail = f"{url} shows another status {held.body.number} than is held here"
        return fail("authority", detail, "two authorities work with one key: see the manual"), None
    return ok("authority", f"{url} answers in {milliseconds(took)}, status {status.body.number}"), status.body


def anchors(kept: Kept, facts: Mapping[str, Any] | None) -> list[Finding]:
    """
    The anchors, and what else the daemon dials, take connections, or are linked.

    @param facts: what the daemon says, if it runs: with links of others it needs none of these.
    """
    report = facts or {}
    targets = {str(each.get("address")): each for each in report.get("targets") or []}
    wanted = {address: words(target.get("name")) for address, target in targets.items()}
    wanted |= anchors_of(kept)
    if not wanted:
        return [ok("anchors", "none but this node: others find it")]
    found = []
    for address, trouble in zip(
        wanted, _at_once(lambda each: _dial(each, each in targets), list(wanted)), strict=True
    ):
        where = f"{wanted[address]} at {printable(address)}"
        target = targets.get(address, {})
        reason = printable(str(target.get("reason", "")))
        if target.get("state") == "linked":
            over = printable(str(target.get("over") or ""))
            found.append(ok("anchors", f"{where} is linked" + (f" over {over}" if over else "")))
        elif reason in _CARRIERS and target.get("why"):
            said = printable(str(target["why"]))
            found.append(fail("anchors", f"{where} is not reached: {said}", _CARRIERS[reason]))
        elif trouble:
            spelled = client_place(address, address in targets) is not None
            advice = (
                "see that it runs, and that this host can reach it"
                if spelled
                else what_to_write(address) or f"it is named as {FORMS}"
            )
            found.append(fail("anchors", f"{where}: {trouble}", advice))
        elif target.get("state") == "refused":
            advice = _REFUSALS.get(reason, "the log of the daemon, and that of the anchor, say more")
            found.append(fail("anchors", f"{where} is reached, the handshake ends: {reason}", advice))
        elif target.get("state") == "ourselves":
            advice = "correct the address, or the name that leads here"
            found.append(fail("anchors", f"{where} leads back to this node", advice))
        elif target.get("state") in _TRYING and reason not in _PASSING:
            advice = _ENDINGS.get(reason, _REFUSALS.get(reason, "the log of the daemon says more"))
            detail = f"{where} takes connections, but the daemon's last one ended: {reason}"
            found.append(fail("anchors", detail, advice))
        else:
            found.append(ok("anchors", f"{where} takes connections"))
    return softened(found) if report.get("links") else unless_all(found)


def anchors_of(kept: Kept) -> dict[str, str]:
    """The others by address: those of the genesis, or of an operator's command that came after it."""
    from gmesh.node.anchor_order import anchors_first

    genesis = kept.trust.genesis.body
    try:
        listed, behind = anchors_first(kept.identity.state.bootstrap, genesis)
    except msgspec.ValidationError:
        listed, behind = genesis.anchors, ()
    if not any(read_address(anchor.endpoint) for anchor in listed):
        listed += behind
    own = kept.identity.certificate.body.name
    return {anchor.endpoint: anchor.name for anchor in listed if anchor.name != own}


def _dial(endpoint: str, local: bool) -> str:
    """@return: why nothing can be reached there, or nothing."""
    where = client_place(endpoint, local)
    return "no node dials that" if where is None else _knock(where)


def _knock(where: HostPort) -> str:
    try:
        socket.create_connection((where.host, where.port), DIAL_SECONDS).close()
    except OSError as error:
        return "no answer" if isinstance(error, TimeoutError) else str(error.strerror or error)
    return ""


def listening(kept: Kept, facts: Mapping[str, Any]) -> list[Finding]:
    """The ports are open, and what is advertised is an address that others can use."""
    roles, listen = kept.identity.certificate.body.roles, [str(text) for text in facts.get("listen") or []]
    report = [str(text) for text in facts.get("advertise") or []]
    if not listen:
        if "anchor" in roles or "relay" in roles:
            advice = "start it with --listen tcp:PORT, and --advertise HOST:PORT"
            return [warn("listen", f"it listens nowhere, though it is {', '.join(roles)}", advice)]
        return [ok("listen", "nowhere: this node only dials")]
    found = []
    for text in listen:
        where = server_place(text)
        trouble = "" if where is None else _knock(where)
        if trouble:
            advice = "see the log of the daemon, and what else holds the port"
            found.append(fail("listen", f"{text} is not open here: {trouble}", advice))
        else:
            found.append(ok("listen", f"{text} is open"))
    own = {anchor.name for anchor in kept.trust.genesis.body.anchors}
    if not report and kept.identity.certificate.body.name not in own:
        advice = "start it with --advertise HOST:PORT, as others see it"
        found.append(warn("listen", "it listens and does not advertise where", advice))
    return found + [_advertised(text) for text in report]


def _advertised(text: str) -> Finding:
    where = client_place(text)
    address = None if where is None else where.address
    local = where is not None and where.host == "localhost"
    if local or (address is not None and (address.is_loopback or address.is_unspecified)):
        advice = "no other host can use it: give --advertise HOST:PORT as others see this one"
        return warn("listen", f"it advertises {text}", advice)
    return ok("listen", f"it advertises {text}")
