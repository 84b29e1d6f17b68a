# SPDX-License-Identifier: MIT
"""
The same bytes by iroh, a stream of QUIC between two processes over one hop: a row beside ours, no floor.

It needs an interpreter that has C{iroh} (C{pip install iroh} in a virtual environment of its own), as nothing
here depends on it: C{python -m bench.streams --iroh PYTHON}.  Run by that interpreter this module is one of
the two processes, and imports nothing of gmesh.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextlib import ExitStack

ALPN = b"gmesh-bench"
WRITE = READ = 64 * 1024
FRAME = 16_000


class Iroh:
    """
    A process that writes to another.

    @ivar about: which iroh, for the reader of a result.
    """

    title = "iroh from Python, one hop"

    def __init__(self, python: str, version: str) -> None:
        self.python = python
        self.about = f"iroh {version} by {python}, its binding mended; QUIC over loopback, no relay"

    @classmethod
    def found(cls, python: str | None) -> Iroh | str:
        """@return: that of an interpreter, or why there is none."""
        python = os.path.abspath(python) if python else sys.executable
        look = "import iroh, importlib.metadata as m; print(m.version('iroh'))"
        try:
            asked = subprocess.run([python, "-c", look], capture_output=True, text=True, check=False)
        except OSError as error:
            return f"iroh is not measured: {error}"
        if asked.returncode:
            return f"iroh is not measured: {python} has none (see --iroh)"
        return cls(python, asked.stdout.strip())

    def start(self, stack: ExitStack, seconds: float) -> None:
        """Both processes, until C{stack} ends."""
        from bench.children import Process

        def started(role: str, options: dict[str, Any]) -> Process:
            process = Process("bench.streams_iroh", role, options, python=self.python)
            return stack.enter_context(process)

        self.reader = started("reader", {})
        self.writer = started("writer", {**self.reader.line(), "seconds": seconds})
        self.writer.line()

    def round(self) -> dict[str, Any]:
        """One round: a stream of some seconds."""
        self.writer.say({"say": "write"})
        sent, received = self.writer.line(), self.reader.line()
        if sent["frames"] != received["frames"]:
            raise SystemExit(f"iroh: {sent['frames']:,} frames were written, {received['frames']:,} arrived")
        return {"reports": {"writer": sent, "reader": received}}


def mend(iroh: Any) -> None:
    """Have the binding copy bytes at once: as shipped it copies them one by one, in Python, at 5 MB/s."""

    def write(builder: Any, value: bytes) -> None:
        with builder._reserve(len(value)):
            to = ctypes.cast(builder.rbuf.data, ctypes.c_void_p).value or 0
            ctypes.memmove(to + builder.rbuf.len, bytes(value), len(value))

    iroh.iroh_ffi._UniffiRustBufferBuilder.write = write


def say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def report(size: int, began: float, used: float) -> None:
    """What a round cost."""
    say({"frames": size // FRAME, "seconds": time.monotonic() - began, "cpu": cpu() - used})


async def bound(iroh: Any) -> Any:
    """An endpoint of loopback alone."""
    iroh.iroh_ffi.uniffi_set_event_loop(asyncio.get_running_loop())
    return await iroh.Endpoint.bind(
        iroh.EndpointOptions(
            preset=iroh.preset_minimal(),
            bind_addr="127.0.0.1:0",
            alpns=[ALPN],
            relay_mode=iroh.RelayMode.disabled(),
        )
    )


async def read(iroh: Any) -> None:
    endpoint = await bound(iroh)
    address = endpoint.addr()
    say({"id": bytes(address.id().to_bytes()).hex(), "sockets": endpoint.bound_sockets()})
    incoming = await endpoint.accept_next()
    connection = await (await incoming.accept()).connect()
    while True:
        stream = await connection.accept_uni()
        size, began, used = 0, 0.0, 0.0
        while data := await stream.read(READ):
            if not size:
                began, used = time.monotonic(), cpu()
            size += len(data)
        report(size, began, used)


async def write(iroh: Any, options: dict[str, Any]) -> None:
    endpoint = await bound(iroh)
    peer = iroh.EndpointId.from_bytes(bytes.fromhex(options["id"]))
    connection = await endpoint.connect(iroh.EndpointAddr(peer, None, options["sockets"]), ALPN)
    say({"ready": True})
    data = bytes(WRITE)
    while await asyncio.to_thread(sys.stdin.readline):
        stream = await connection.open_uni()
        size, began, used = 0, time.monotonic(), cpu()
        while time.monotonic() - began < options["seconds"]:
            await stream.write_all(data)
            size += WRITE
        await stream.finish()
        report(size, began, used)


async def main(role: str, options: dict[str, Any]) -> None:
    """One role, until standard input ends."""
    import iroh

    mend(iroh)
    if role == "writer":
        await write(iroh, options)
        return
    reading = asyncio.ensure_future(read(iroh))
    ending = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait({reading, ending}, return_when=asyncio.FIRST_COMPLETED)
    if reading.done():
        reading.result()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
    os._exit(0)  # threads of iroh's runtime may wait for more
