# SPDX-License-Identifier: MIT
"""A look at one link: headers of what passes, both ways, bounded, and nothing of what is carried."""

from __future__ import annotations

import pytest
from mesh.linkworld import World

from gmesh.wire.frames import Kind, pack_frame
from gmesh.wire.messages import CloseReason
from gmesh.wire.paths import PathHeader, pack_path_frame

CANARY = b"nobody may see this payload"


@pytest.fixture
def world():
    world = World()
    yield world
    world.finish()


def test_headers_of_both_directions_and_no_payload(world):
    """Kinds, sizes and path headers of sent and received frames, in order; not one byte of a payload."""
    one, two = world.pair()
    seen = []
    one.link(two).capture(1.0, 100).addCallback(seen.append)
    path = (one.enrolled.handle, two.enrolled.handle)
    frame = pack_path_frame(Kind.E2E_DATA, PathHeader(path, 7, 42), CANARY)
    one.link(two).send_data(frame, path[0] + path[1])
    two.link(one).send_control(16, CANARY)
    world.run(0.5)
    assert seen == []
    world.run(0.6)
    [traces] = seen
    assert [(trace.sent, trace.kind) for trace in traces] == [(True, "E2E_DATA"), (False, "LSA")]
    assert traces[0].size == len(frame) and traces[0].header == PathHeader(path, 7, 42)
    assert traces[1].header is None and traces[1].size == 3 + len(CANARY)
    assert 0 <= traces[0].at < traces[1].at < 0.1
    assert CANARY.decode() not in repr(traces)
    assert one.link(two)._egress.captures.active == []


def test_so_many_frames_are_enough(world):
    """It ends with the last frame asked for, and leaves no timer."""
    one, two = world.pair()
    seen = []
    one.link(two).capture(60.0, 3).addCallback(seen.append)
    for _ in range(10):
        one.link(two).send_control(200, b"")
    world.run(0.1)
    assert [trace.kind for trace in seen[0]] == ["200"] * 3
    assert one.link(two)._egress.captures.active == []


def test_several_may_look_at_once_and_go_when_they_like(world):
    """One that is cancelled ends alone."""
    one, two = world.pair()
    seen = []
    first = one.link(two).capture(5.0, 10)
    first.addErrback(lambda failure: seen.append("cancelled"))
    one.link(two).capture(5.0, 10).addCallback(lambda traces: seen.append(len(traces)))
    first.cancel()
    one.link(two).send_control(200, b"")
    world.run(5.1)
    assert seen[0] == "cancelled" and seen[1] >= 1


def test_it_ends_with_the_link(world):
    """What was seen until then is told; a link that is gone shows nothing."""
    one, two = world.pair()
    link = one.link(two)
    seen = []
    link.capture(60.0, 10).addCallback(seen.append)
    link.send_control(200, b"")
    world.run(0.1)
    link.close(CloseReason.SHUTDOWN)
    assert [trace.kind for trace in seen[0]] == ["200"]
    link.capture(60.0, 10).addCallback(seen.append)
    assert seen[1] == []


def test_malformed_headers_are_shown_without(world):
    """A data frame that is no data frame has a kind and a size, and costs nothing more."""
    one, two = world.pair()
    seen = []
    one.link(two).capture(0.5, 10).addCallback(seen.append)
    one.link(two).send_data(pack_frame(Kind.E2E_DATA, b"short"), bytes(16))
    world.run(1)
    assert (seen[0][0].kind, seen[0][0].size, seen[0][0].header) == ("E2E_DATA", 8, None)
