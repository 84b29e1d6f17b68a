# SPDX-License-Identifier: MIT
"""
C{bench}: how fast streams to another node are, measured over a service that every node has.

Tests: C{tests/live/test_streams_by_programs.py}.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from statistics import median

import click

from gmesh.cli.http import Endpoint, HttpRefused
from gmesh.cli.local import node_command
from gmesh.cli.options import NumberRange, node_name
from gmesh.cli.output import facts, milliseconds, print_json
from gmesh.cli.stream_socket import FramedSocket, stream_names

__all__ = ["bench"]

SERVICE = "gmesh-bench"
RUN = 16
"""Bytes that all streams of a run begin with."""
MAX_SECONDS, MAX_STREAMS = 60, 16
TRIPS = 200
_PIECE = bytes(64 * 1024)
_COUNT = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Flow:
    """
    What went one way.

    @ivar bytes: of all streams.
    @ivar seconds: from the first to the last of them.
    @ivar rate: bytes a second.
    """

    bytes: int
    seconds: float
    rate: float


@node_command
@click.argument("node", type=node_name)
@click.option(
    "--seconds",
    default=5.0,
    show_default=True,
    type=NumberRange(0.1, MAX_SECONDS),
    help="How long each way is measured.",
)
@click.option(
    "--streams",
    default=1,
    show_default=True,
    type=click.IntRange(1, MAX_STREAMS),
    help="Streams beside each other.",
)
def bench(node: str, seconds: float, streams: int, where: Endpoint, as_json: bool) -> None:
    """
    Measure streams to NODE: how long one takes to open, its round trip, and bytes a second each way.

    The policy must let this node use the service gmesh-bench of NODE.  One run at a time.
    """
    node, _ = stream_names(node, SERVICE)
    run = os.urandom(RUN)
    trips = _trips(where, node, run, min(seconds, 1.0), time.perf_counter())
    with _progress(seconds, quiet=as_json or not sys.stdout.isatty()) as step:
        up = _flow([_Up(where, node, run, seconds) for _ in range(streams)], step)
        down = _flow([_Down(where, node, run, seconds) for _ in range(streams)], step)
    result = {
        "node": node,
        "streams": streams,
        "open_ms": round(trips[0], 3),
        "rtt_ms": round(median(trips[1:]), 3),
        "up": asdict(up),
        "down": asdict(down),
    }
    if as_json:
        return print_json(result)
    facts(
        [
            ("open", milliseconds(result["open_ms"])),
            ("round trip", milliseconds(result["rtt_ms"])),
            (f"to {node}", _rate(up)),
            (f"from {node}", _rate(down)),
        ]
    )


def _rate(flow: Flow) -> str:
    return f"{flow.rate / 1e6:.1f} MB/s ({flow.bytes / 1e6:.0f} MB in {flow.seconds:.1f} s)"


@contextmanager
def _progress(seconds: float, quiet: bool) -> Iterator[Callable[[float], None]]:
    """A bar over both ways, on a terminal. @return: to be told of seconds that have passed."""
    if quiet:
        yield lambda passed: None
        return
    with click.progressbar(length=int(2000 * seconds), label="measuring") as bar:
        yield lambda passed: bar.update(int(1000 * passed))
        bar.update(int(2000 * seconds) - bar.pos)


def _trips(where: Endpoint, node: str, run: bytes, seconds: float, began: float) -> list[float]:
    """Milliseconds from before the dial to the first byte back, then of each round trip of a byte."""
    stream = _Measured(where, node, run, b"e")
    times: list[float] = []
    start = began
    while len(times) < TRIPS and (len(times) < 2 or time.perf_counter() - began < seconds):
        stream.write(b"x")
        stream.take(1)
        now = time.perf_counter()
        times.append(1000 * (now - start))
        start = now
    stream.finish()
    return times


def _flow(ways: Sequence[_Way], step: Callable[[float], None]) -> Flow:
    """All of them at once. @raise HttpRefused: the first that went wrong."""
    ways[0].step = step
    began = time.perf_counter()
    threads = [threading.Thread(target=way.guarded, daemon=True) for way in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for way in ways:
        if way.wrong is not None:
            raise way.wrong
    passed = time.perf_counter() - began
    total = sum(way.moved for way in ways)
    return Flow(total, round(passed, 3), round(total / passed, 1))


class _Measured(FramedSocket):
    """A stream to the service, which has been told what to do."""

    def __init__(self, where: Endpoint, node: str, run: bytes, act: bytes) -> None:
        super().__init__(where, node, SERVICE)
        self._held = b""
        self.write(run + act)

    def take(self, size: int) -> bytes:
        """So many bytes. @raise HttpRefused: if the stream ends before."""
        while len(self._held) < size:
            self._held += self.piece()
        taken, self._held = self._held[:size], self._held[size:]
        return taken

    def piece(self) -> bytes:
        """What comes next of the stream. @raise HttpRefused: if it has ended, or breaks."""
        from gmesh.client.stream_frames import FrameKind

        found = self.read()
        piece = b"".join(item for item in found if isinstance(item, bytes))
        resets = [item for item in found if not isinstance(item, bytes) and item.kind is FrameKind.RESET]
        if not piece and (resets or not found):
            raise self.broken(resets[0] if resets else None)
        return piece

    def finish(self) -> None:
        """End both halves."""
        from gmesh.client.stream_frames import FIN

        with suppress(ConnectionError):
            self.socket.sendall(FIN)
        self.close()

    def close(self) -> None:
        """Read no more, after the half that writes has ended; the node may have closed by now."""
        from gmesh.client.stream_frames import stop_frame

        with suppress(ConnectionError):
            self.socket.sendall(stop_frame())
        self.socket.close()


class _Way:
    """
    One stream in one direction.

    @ivar moved: bytes that arrived.
    @ivar wrong: what went wrong.
    @ivar step: told of seconds that have passed.
    """

    act = b""

    def __init__(self, where: Endpoint, node: str, run: bytes, seconds: float) -> None:
        self.stream = _Measured(where, node, run, self.act)
        self.moved = 0
        self.wrong: HttpRefused | None = None
        self.step: Callable[[float], None] = lambda passed: None
        self._seconds = seconds

    def guarded(self) -> None:
        """Move bytes, and keep what goes wrong for who waits."""
        try:
            self.move()
        except HttpRefused as error:
            self.wrong = error
        except ConnectionError:
            self.wrong = self.stream.broken(None)

    def move(self) -> None:
        """Until the time is over."""
        raise NotImplementedError

    def ticks(self) -> Iterator[None]:
        """While there is time."""
        last = began = time.perf_counter()
        while (now := time.perf_counter()) - began < self._seconds:
            if now - last >= 0.1:
                self.step(now - last)
                last = now
            yield


class _Up(_Way):
    act = b"u"

    def move(self) -> None:
        """Send, and hear how much arrived."""
        from gmesh.client.stream_frames import FIN

        for _ in self.ticks():
            self.stream.write(_PIECE)
        self.stream.socket.sendall(FIN)
        (self.moved,) = _COUNT.unpack(self.stream.take(_COUNT.size))
        self.stream.close()


class _Down(_Way):
    act = b"d"

    def move(self) -> None:
        """Read."""
        for _ in self.ticks():
            self.moved += len(self.stream.piece())
        self.stream.finish()
