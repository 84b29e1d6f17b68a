# SPDX-License-Identifier: MIT
"""
Private keys that everybody has, because a standard prints them.

Deployments have shipped with such keys (CVE-2026-24044), so no key file that holds one is used.
Tests: C{tests/test_keyfiles.py}, C{tests/authority/test_state.py}.
"""

from __future__ import annotations

from gmesh.errors import DocumentRefused
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import SigningKey

__all__ = ["PUBLISHED_KEYS", "refuse_published"]

PUBLISHED_KEYS = frozenset(
    {
        # RFC 8032 section 7.1
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "278117fc144c72340f67d0f2316e8386ceffbf2b2428c9c51fef7c597f1d426e",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        # RFC 9421 appendix B.1.4
        "26b40b8f93fff3d897112f7ebc582b232dbd72517d082fe83cfb30ddce43d1bb",
        # RFC 8410 section 10
        "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1",
    }
)


def refuse_published(key: SigningKey) -> SigningKey:
    """
    C{key}, unless it is printed in a standard or anybody would guess it.

    @raise DocumentRefused: C{published-key}.
    """
    guessed = len(set(key.seed)) == 1 or key.seed == bytes(range(len(key.seed)))
    if guessed or key.public.hex() in PUBLISHED_KEYS:
        raise DocumentRefused(
            "published-key",
            f"it holds a key that is printed in test vectors ({b64url_encode(key.public)}):"
            " everybody has it; make a new one",
        )
    return key
