# SPDX-License-Identifier: MIT
"""
Edwards curve arithmetic straight from RFC 8032 section 5.1: slow, plain, and nobody else's code.

The oracle for which byte strings are Ed25519 public keys of prime order.
"""

from __future__ import annotations

from functools import cache

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)

Point = tuple[int, int]
NEUTRAL: Point = (0, 1)


def add(a: Point, b: Point) -> Point:
    """a + b, by the complete addition law."""
    product = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + product, -1, P)
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, P)
    return x % P, y % P


def multiply(scalar: int, point: Point) -> Point:
    """scalar * point."""
    result = NEUTRAL
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point = add(point, point)
        scalar >>= 1
    return result


def decode(data: bytes) -> Point | None:
    """The point these 32 bytes encode, None unless they are its one canonical encoding."""
    value = int.from_bytes(data, "little")
    sign, y = value >> 255, value & (2**255 - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * ROOT_OF_MINUS_ONE % P
    if x * x % P != square or (x == 0 and sign):
        return None
    return (P - x if x & 1 != sign else x), y


def encode(point: Point) -> bytes:
    """The canonical encoding of a point."""
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


@cache
def small_order_points() -> list[Point]:
    """The eight points whose order divides 8."""
    y = 2
    while True:
        point = decode(y.to_bytes(32, "little"))
        if point is not None:
            candidate = multiply(L, point)
            points = [multiply(n, candidate) for n in range(8)]
            if len(set(points)) == 8:
                return points
        y += 1


def small_order_encodings() -> list[bytes]:
    """All byte strings that a lenient decoder takes for a point of small order."""
    encodings = set()
    for x, y in small_order_points():
        for spelling in (y, y + P):
            if spelling < 2**255:
                for sign in {x & 1} if x else {0, 1}:
                    encodings.add((spelling | sign << 255).to_bytes(32, "little"))
    return sorted(encodings)
