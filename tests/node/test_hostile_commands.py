# SPDX-License-Identifier: MIT
"""Commands that a member, or an operator alone, brings into the mesh: not obeyed, not kept, not written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from node.managed_mesh import ManagedMesh, ManagedNode, managed_line

from gmesh.errors import DocumentRefused
from gmesh.trust.documents import Document, NumberedDigest, add_signature
from gmesh.trust.limits import MAX_NUMBER
from gmesh.wire.frames import Kind
from gmesh.wire.messages import DocumentPush

JUNK = 70
"""More than a node holds, 64, and than may wait, 16."""


@pytest.fixture
def mesh() -> Iterator[ManagedMesh]:
    """a - b - c, a an anchor that polls."""
    with managed_line(seed=6, settle=130) as made:
        yield made


def pushed(mesh: ManagedMesh, sender: str, to: str, *commands: Document[Any]) -> None:
    """One node sends these to its neighbour, as a hostile one could."""
    [link] = [one for one in mesh[sender].runtime.neighbours if one.peer.name == to]
    for command in commands:
        link.send(Kind.COMMAND, DocumentPush.of(command.body.number, command.encode()).encode())
    mesh.run(5)


def told(mesh: ManagedMesh, command: Document[Any]) -> set[str]:
    """The nodes that say they have done it."""
    receipts = mesh.authority.receipts.items()
    return {name for (one, name), (outcome, _) in receipts if (one, outcome) == (command.body.id, "done")}


def writes(node: ManagedNode) -> list[None]:
    """Grows with each write of the node's state."""
    written: list[None] = []
    save = node.runtime.member.save_now

    def counted() -> None:
        written.append(None)
        save()

    node.runtime.member.save_now = counted  # type: ignore[method-assign]  # counts, and does it
    return written


def test_a7_what_an_operator_alone_signed_stops_nobody(mesh: ManagedMesh) -> None:
    """A member floods an unapproved C{shutdown}: nobody stops, passes it on, or answers it."""
    alone = mesh.authority.command("shutdown", publish=False, countersigned=False)
    pushed(mesh, "b", "c", alone)
    pushed(mesh, "b", "a", alone)
    assert [node.stopped for node in mesh] == [False, False, False]
    assert mesh.authority.receipts == {}
    assert mesh["a"].runtime.counters()["command-not-countersigned"] == 1
    pushed(mesh, "b", "c", add_signature(alone, mesh.authority.authority))
    mesh.run(5)
    assert mesh["c"].stopped, "the same, approved"


def test_a8_c7_numbers_of_operators_move_no_floor(mesh: ManagedMesh) -> None:
    """Seventy near 2^53 by a link: nothing is written, and the next is obeyed, also after a restart."""
    written = writes(mesh["c"])
    for place in range(JUNK):
        number = MAX_NUMBER - place
        junk = mesh.authority.command(
            "ping-report", number=number, signer=mesh.authority.reader, publish=False, countersigned=False
        )
        pushed(mesh, "b", "c", junk)
    assert written == []
    before = mesh.authority.command("reload")
    mesh.run(10)
    assert told(mesh, before) == {"a", "b", "c"}
    for node in mesh:
        node.restart()
    mesh.run(130)
    after = mesh.authority.command("reload")
    mesh.run(10)
    assert told(mesh, after) == {"a", "b", "c"}


def test_a8_what_a_stolen_authority_key_signed_ends_with_that_key(mesh: ManagedMesh) -> None:
    """Seventy of a thief, near 2^53, with a status that names them: gone with the key, floors and all."""
    authority = mesh.authority
    numbers = range(MAX_NUMBER - JUNK, MAX_NUMBER)
    forged = [authority.command("ping-report", node="c", number=n, publish=False) for n in numbers]
    authority.claimed = NumberedDigest(number=MAX_NUMBER - JUNK, digest="0" * 64)
    authority._publish()
    mesh.run(60)
    pushed(mesh, "b", "c", *forged)
    assert mesh["c"].runtime.control.flood.floor > 2**52, "they were believed"
    authority.claimed = None
    authority.rotate_authority_key()
    authority.rotate_authority_key(drop=True)
    mesh.run(60)
    honest = authority.command("reload")
    mesh.run(10)
    assert told(mesh, honest) == {"a", "b", "c"}


def test_a8_who_lags_asks_again_once_the_status_is_there(mesh: ManagedMesh) -> None:
    """A command far above an old status is refused, and asked for when the status has come."""
    c, flood = mesh["c"], mesh["c"].runtime.control.flood
    first = mesh.authority.command("reload", publish=False, number=500)
    with pytest.raises(DocumentRefused) as refused:
        flood.offer(first)
    assert (refused.value.reason, c.reloads) == ("ahead", 0)
    mesh.authority._commands.append(first)
    mesh.authority._publish()
    mesh.run(10)
    assert [node.reloads for node in mesh] == [1, 1, 1]


def test_c20_junk_takes_no_waiting_place(mesh: ManagedMesh) -> None:
    """Strangers' commands by the dozen, and a good one under their name: the good one is obeyed still."""
    authority, flood = mesh.authority, mesh["c"].runtime.control.flood
    strangers = [authority.new_key() for _ in range(JUNK)]
    for stranger in strangers:
        pushed(
            mesh, "b", "c", authority.command("reload", signer=stranger, publish=False, countersigned=False)
        )
    assert flood._waiting == {}
    newcomer = authority.new_key()
    good = authority.command("reload", node="c", signer=newcomer, publish=False)
    claimed = Document(good.body, good.signed, (good.signatures[1], (strangers[0].key_id, bytes(64))))
    pushed(mesh, "b", "c", claimed, good)
    authority.operator = newcomer
    authority.publish_policy()
    mesh.run(10)
    assert told(mesh, good) == {"c"}


def test_c20_each_signer_has_room_of_its_own(mesh: ManagedMesh) -> None:
    """One operator whose commands all wait for a policy leaves places for those of others."""
    authority, flood = mesh.authority, mesh["c"].runtime.control.flood
    greedy, modest = authority.new_key(), authority.new_key()
    for signer in [greedy] * 16 + [modest]:
        with pytest.raises(DocumentRefused, match="not signed by any key"):
            flood.offer(authority.command("reload", signer=signer, publish=False))
    waiting = [document.signatures[0][0] for document in flood._waiting.values()]
    assert (waiting.count(greedy.key_id), waiting.count(modest.key_id)) == (4, 1)
