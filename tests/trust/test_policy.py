# SPDX-License-Identifier: MIT
"""Policy rules: any matching deny wins, no match is a deny."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from trust.network import Network

from gmesh.trust.documents import Rule
from gmesh.trust.policy import MAX_REMEMBERED, Decision, PolicyRules, Subject

NETWORK = Network()
CLIENT = Subject("tv", frozenset({"client"}))
RELAY = Subject("hub", frozenset({"relay", "service:print"}))


def rule(effect: str, sources: str = "*", to: str = "*", services: str = "*") -> Rule:
    """A rule; several selectors are parted by spaces."""
    return Rule(
        effect=effect,  # type: ignore[arg-type]  # a literal, written shorter here
        sources=tuple(sources.split()),
        to=tuple(to.split()),
        services=tuple(services.split()),
    )


def rules(*some: Rule) -> PolicyRules:
    """The rules of a policy."""
    return PolicyRules(NETWORK.policy(rules=some).body)


def test_no_rule_is_a_deny() -> None:
    """Without a policy, without rules and without a match nothing is allowed."""
    for decider in (PolicyRules(None), rules(), rules(rule("allow", services="web"))):
        assert decider.decide(CLIENT, RELAY, "print") == Decision(False, None)


def test_selectors() -> None:
    """Everybody, a role, a node; services exact or all."""
    decider = rules(
        rule("allow", "role:client", "role:service:print", "print"),
        rule("allow", "node:hub", "node:tv node:radio", "web api"),
    )
    assert decider.decide(CLIENT, RELAY, "print") == Decision(True, 0)
    assert decider.decide(RELAY, CLIENT, "api") == Decision(True, 1)
    assert not decider.decide(CLIENT, CLIENT, "print").allowed
    assert not decider.decide(CLIENT, RELAY, "web").allowed
    assert not decider.decide(RELAY, CLIENT, "apis").allowed


def test_deny_wins_wherever_it_stands() -> None:
    """A deny after an allow counts, and says which rule it was."""
    decider = rules(rule("allow"), rule("deny", "node:tv", "*", "print"), rule("allow"))
    assert decider.decide(CLIENT, RELAY, "print") == Decision(False, 1)
    assert decider.decide(RELAY, CLIENT, "print") == Decision(True, 0)


def test_memory_is_bounded() -> None:
    """Questions by the thousand do not pile up."""
    decider = rules(rule("allow"))
    for number in range(MAX_REMEMBERED + 10):
        assert decider.decide(CLIENT, RELAY, f"s{number}").allowed
    assert len(decider._remembered) <= MAX_REMEMBERED


NAMES = st.sampled_from(["a", "b", "c"])
ROLES = st.frozensets(st.sampled_from(["anchor", "relay", "client", "service:x"]), min_size=1)
SELECTORS = st.lists(
    st.sampled_from(["*", "node:a", "node:b", "role:relay", "role:client", "role:service:x"]), min_size=1
).map(" ".join)
RULES = st.builds(
    rule, st.sampled_from(["allow", "deny"]), SELECTORS, SELECTORS, st.sampled_from(["*", "s", "s t"])
)
SUBJECTS = st.builds(Subject, NAMES, ROLES)


def matches(selector: str, subject: Subject) -> bool:
    """The meaning of a selector, spelled out."""
    return selector in {"*", f"node:{subject.name}"} | {f"role:{role}" for role in subject.roles}


@given(st.lists(RULES, max_size=5), SUBJECTS, SUBJECTS, st.sampled_from(["s", "t", "u"]))
def test_agrees_with_the_words(some: list[Rule], source: Subject, target: Subject, service: str) -> None:
    """Compiled rules decide as the sentence in the design does."""
    effects = {
        one.effect
        for one in some
        if any(matches(selector, source) for selector in one.sources)
        and any(matches(selector, target) for selector in one.to)
        and any(selector in ("*", service) for selector in one.services)
    }
    decider = rules(*some)
    assert decider.decide(source, target, service).allowed == (effects == {"allow"})
    assert decider.decide(source, target, service) == decider.decide(source, target, service)
