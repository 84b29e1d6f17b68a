# SPDX-License-Identifier: MIT
"""
C{openapi.json}: the local API in words that programs read, shipped as the file beside this one.

It is written by hand, and tests hold it against the routes and against what they answer.
Tests: C{tests/node/test_local_description.py}.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

__all__ = ["description"]


@cache
def description() -> bytes:
    """The OpenAPI 3.1 document of the local API."""
    return files("gmesh.node").joinpath("openapi.json").read_bytes()
