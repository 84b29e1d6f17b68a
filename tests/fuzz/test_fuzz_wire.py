# SPDX-License-Identifier: MIT
"""
Byte mutations of good bodies, and of every input that once broke a decoder.

C{seeds/wire.json} maps the name of a decoder to its seeds in hexadecimal: first the published
format, then what was found. A decoder may read or refuse a mutant; what it reads, it can write.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from wire.wire_samples import DECODERS

from gmesh.errors import FrameRefused

SEEDS: dict[str, list[str]] = json.loads((Path(__file__).parent / "seeds" / "wire.json").read_text())
ROUNDS = 400
INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF)


def mutate(data: bytes, chance: random.Random) -> bytes:
    """One to four changes: a bit, a byte, a cut, a repeated or removed run, a run from elsewhere."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(out) + 1)
        end = min(len(out), at + chance.randint(1, 16))
        match chance.randrange(6):
            case 0 if at < len(out):
                out[at] ^= 1 << chance.randrange(8)
            case 1 if at < len(out):
                out[at] = chance.choice(INTERESTING)
            case 2:
                del out[at:]
            case 3:
                out[at:at] = out[at:end] * chance.randint(1, 4)
            case 4:
                del out[at:end]
            case _:
                out[at:end] = chance.randbytes(end - at)
    return bytes(out)


def test_every_decoder_has_seeds() -> None:
    """The corpus names all decoders and nothing else."""
    assert set(SEEDS) == set(DECODERS)


@pytest.mark.parametrize("name", sorted(SEEDS))
def test_mutants_are_read_or_refused(name: str) -> None:
    """Nothing but FrameRefused comes out; a mutant that is read can be written and reads alike again."""
    decoder = DECODERS[name]
    chance = random.Random(f"gmesh wire {name}")
    for seed in SEEDS[name]:
        original = bytes.fromhex(seed)
        try:
            decoder(original)
        except FrameRefused:
            assert seed != SEEDS[name][0], "the published format is refused"
        for _ in range(ROUNDS):
            mutant = mutate(original, chance)
            try:
                message = decoder(mutant)
            except FrameRefused:
                continue
            if hasattr(message, "encode"):
                assert decoder(message.encode()) == message, mutant.hex()
