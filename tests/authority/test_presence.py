# SPDX-License-Identifier: MIT
"""When members were last heard of: written in small batches, and never over something newer."""

from __future__ import annotations

from typing import Any

from authority.in_place import HeldThreads

from gmesh.authority import limits
from gmesh.authority.presence import Numbers
from gmesh.authority.store import presence
from gmesh.authority.store.presence import HeardRow


def written(network: Any, node_id: str) -> HeardRow | None:
    """What the database holds of a node."""
    got: list[Any] = []
    network.authority.store.read(lambda reader: presence.of(reader, [node_id])).addCallback(got.append)
    found: HeardRow | None = got[0].get(node_id)
    return found


def rows(count: int, sent_ms: int = 1) -> list[HeardRow]:
    """Of nodes that need not be members."""
    return [HeardRow(f"{number:032x}", sent_ms, sent_ms // 1000, "{}") for number in range(count)]


def test_only_a_later_heartbeat_takes_the_place_of_one(network: Any) -> None:
    """Whatever order they are written in."""
    store = network.authority.store
    for sent_ms in (5000, 4000, 5000, 7000, 6000):
        store.note(lambda notes, sent_ms=sent_ms: presence.write(notes, rows(2, sent_ms)))
    assert written(network, f"{1:032x}") == HeardRow(f"{1:032x}", 7000, 7, "{}")


def test_p30_decisions_come_between_the_notes_of_a_flush(network: Any) -> None:
    """A decision that is asked for after the first of three batches is made before the last."""
    members, store = network.authority.members, network.authority.store
    members.presence.put_back(rows(2 * presence.ROWS_A_NOTE + 1))
    writer: Any = store._writer
    at_once, held = writer.threadpool, HeldThreads()
    writer.threadpool = held
    order: list[str] = []
    members.flush_presence().addCallback(lambda _: order.append("flushed"))
    store.decide(lambda tx: None).addCallback(lambda _: order.append("decided"))
    held.go()
    writer.threadpool = at_once
    assert order == ["decided", "flushed"]
    count: list[int] = []
    store.read(lambda reader: count.append(reader.value("SELECT count(*) FROM presence")))
    assert count == [2 * presence.ROWS_A_NOTE + 1]


def test_what_could_not_be_written_is_written_later(network: Any) -> None:
    """Unless something newer was heard meanwhile."""
    member = network.joined("pump-1")
    members, store = network.authority.members, network.authority.store
    answer = network.heartbeat(member)
    assert answer.status == 200
    wrong = store.note(lambda notes: notes.execute("INSERT INTO nowhere VALUES (1)"))
    failures: list[Any] = []
    wrong.addErrback(failures.append)
    assert failures[0].value.reason == "unavailable" and not store.writable
    network.clock.advance(limits.PRESENCE_NEWS_SECONDS)
    assert written(network, member.node.key_id) is None, "not tried while nothing can be written"
    assert network.ask("GET", "/readyz").status == 200 and store.writable
    taken = members.presence.take(1)
    members.presence.put_back(taken)
    network.clock.advance(limits.PRESENCE_NEWS_SECONDS)
    row = written(network, member.node.key_id)
    assert row is not None and row.last_seen == answer.json["time"]


def test_the_number_of_the_status_alone_is_no_news(network: Any) -> None:
    """A fleet takes over each status, and would be written each time."""
    member = network.joined("pump-1")
    members = network.authority.members
    caller: Any = type("Caller", (), {"key_id": member.node.key_id, "name": "pump-1", "address": "192.0.2.1"})
    for sent_ms, numbers, news in (
        (1, Numbers(status=1), 1),
        (2, Numbers(status=2), 0),
        (3, Numbers(status=2, crl=1), 1),
        (4, Numbers(status=3, crl=1), 0),
    ):
        members.presence.note(caller, sent_ms, 1, numbers)
        assert len(members.presence.take_news(9)) == news, numbers
    assert len(members.presence.take(9)) == 1


def test_who_is_no_member_any_more_is_forgotten_after_a_month(network: Any) -> None:
    """A member that was away for longer is not."""
    member = network.joined("pump-1")
    assert network.heartbeat(member).status == 200
    network.authority.store.note(lambda notes: presence.write(notes, rows(1, network.now * 1000)))
    network.clock.advance(limits.PRESENCE_FLUSH_SECONDS)
    network.clock.advance(limits.PRESENCE_KEPT_SECONDS + 1)
    network.clock.advance(limits.PRESENCE_FORGET_SECONDS)
    assert written(network, rows(1)[0].node_id) is None
    assert written(network, member.node.key_id) is not None


def held_notes(network: Any, count: int) -> HeldThreads:
    """So many batches are being written, and the first of them waits until it is let go."""
    network.authority.members.presence.put_back(rows(count * presence.ROWS_A_NOTE))
    held = HeldThreads()
    network.authority.store._writer.threadpool = held
    network.authority.members.flush_presence()
    return held


def test_p30_one_note_of_heartbeats_waits_at_a_time(network: Any) -> None:
    """However long a flush takes: a decision that comes then waits for no more than one."""
    store = network.authority.store
    at_once = store._writer.threadpool
    held = held_notes(network, 3)
    for _ in range(3):
        network.clock.advance(limits.PRESENCE_NEWS_SECONDS)
    before: list[str] = []
    store.note(lambda notes: before.append("another"))
    assert len(held._waiting) == 2
    held.go()
    store._writer.threadpool = at_once
    assert before == ["another"]


def test_news_pass_what_waits_to_be_written(network: Any) -> None:
    """Whose numbers changed is in the next note, whoever was heard of before."""
    known = network.authority.members.presence
    for sent_ms in (1, 2):
        for name in ("a", "b", "c"):
            caller: Any = type("Caller", (), {"key_id": name, "name": name, "address": "192.0.2.1"})
            known.note(caller, sent_ms, 100, Numbers(crl=sent_ms if name == "c" else 1))
        taken = [row.node_id for row in known.take(2 if sent_ms == 2 else 3)]
        assert taken == (["c", "a"] if sent_ms == 2 else ["a", "b", "c"])
