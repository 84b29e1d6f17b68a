# SPDX-License-Identifier: MIT
"""Keys at rest: whose file is used, what a pass phrase protects, and where the pass phrase comes from."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import stat
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from gmesh.errors import ConfigurationError, DocumentRefused
from gmesh.interfaces import ISigner
from gmesh.keyfiles import Passphrases, load_key, public_of, save_key
from gmesh.trust.keys import SigningKey, verify
from gmesh.trust.sealed import is_sealed, open_sealed, seal, sealed_public

PASSPHRASE = "correct horse battery staple"
KEY = SigningKey.from_seed(hashlib.sha256(b"a root key").digest())


@pytest.fixture(scope="module")
def sealed() -> bytes:
    """The container of one key."""
    return seal(KEY, PASSPHRASE.encode(), os.urandom)


def _private(path: Path, data: bytes | str) -> Path:
    path.touch(0o600)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def _raw(sealed: bytes) -> bytes:
    return base64.b64decode(b"".join(sealed.splitlines()[1:-1]))


def _armoured(raw: bytes) -> bytes:
    body = base64.encodebytes(raw).decode()
    return f"-----BEGIN GMESH SEALED KEY-----\n{body}-----END GMESH SEALED KEY-----\n".encode()


def test_container_is_what_the_documentation_says(sealed: bytes) -> None:
    """Python's own scrypt and AES-GCM open it by the documented layout."""
    raw = _raw(sealed)
    assert raw[:4] == bytes([1, 17, 8, 1])
    head, public, salt, nonce = raw[:64], raw[4:36], raw[36:52], raw[52:64]
    secret = hashlib.scrypt(PASSPHRASE.encode(), salt=salt, n=2**17, r=8, p=1, maxmem=2**28, dklen=32)
    assert AESGCM(secret).decrypt(nonce, raw[64:], head) == KEY.seed
    assert public == KEY.public


def test_sealed_key_opens(sealed: bytes) -> None:
    """The right pass phrase gives the key back; another one is told from damage to the form."""
    assert open_sealed(sealed, PASSPHRASE.encode()).seed == KEY.seed
    with pytest.raises(DocumentRefused) as refused:
        open_sealed(sealed, b"correct horse battery stapler")
    assert refused.value.reason == "wrong-passphrase"


def test_sealed_key_shows_its_public_half_alone(sealed: bytes) -> None:
    """The public key is readable without the pass phrase; the seed stands nowhere."""
    assert sealed_public(sealed) == KEY.public
    assert KEY.seed not in _raw(sealed)


def test_two_seals_of_one_key_differ() -> None:
    """Salt and nonce are new each time."""
    one, two = (_raw(seal(KEY, PASSPHRASE.encode(), os.urandom)) for _ in range(2))
    assert one[36:52] != two[36:52] and one[52:64] != two[52:64] and one[64:] != two[64:]


@pytest.mark.parametrize("position", [4, 36, 52, 111])
def test_changed_container_does_not_open(sealed: bytes, position: int) -> None:
    """A flipped bit anywhere, in what is shown as well, is refused."""
    raw = bytearray(_raw(sealed))
    raw[position] ^= 1
    with pytest.raises(DocumentRefused):
        open_sealed(_armoured(bytes(raw)), PASSPHRASE.encode())


@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_parameters_are_not_the_files_choice(sealed: bytes, position: int) -> None:
    """A file can neither weaken the derivation nor make it eat the memory."""
    raw = bytearray(_raw(sealed))
    raw[position] += 1
    with pytest.raises(DocumentRefused) as refused:
        open_sealed(_armoured(bytes(raw)), PASSPHRASE.encode())
    assert refused.value.reason == "bad-key"


@given(st.binary(max_size=400) | st.binary(min_size=112, max_size=112).map(_armoured))
def test_no_bytes_hurt(data: bytes) -> None:
    """Whatever the file holds, it is a key or a refusal."""
    with contextlib.suppress(DocumentRefused):
        sealed_public(data)


def test_short_pass_phrase_is_refused() -> None:
    """A new key is not sealed with a handful of letters."""
    with pytest.raises(DocumentRefused) as refused:
        seal(KEY, b"secret!", os.urandom)
    assert refused.value.reason == "weak-passphrase"


def test_saved_keys_load(tmp_path: Path) -> None:
    """In the clear or sealed, the file is its owner's alone and gives the same signer back."""
    phrase = _private(tmp_path / "phrase", PASSPHRASE + "\n")
    save_key(tmp_path / "clear.key", KEY)
    save_key(tmp_path / "sealed.key", KEY, PASSPHRASE.encode())
    for name in ("clear.key", "sealed.key"):
        path = tmp_path / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        loaded = load_key(path, Passphrases(phrase))
        assert verifyObject(ISigner, loaded)
        assert verify(KEY.public, loaded.sign(b"text"), b"text")
        assert public_of(path, Passphrases()) == KEY.public
    assert is_sealed((tmp_path / "sealed.key").read_bytes())


def test_wrong_mode_is_refused(tmp_path: Path) -> None:
    """A key, or a pass phrase, that others can read is not used, and the message says how to mend it."""
    save_key(tmp_path / "a.key", KEY)
    (tmp_path / "a.key").chmod(0o640)
    phrase = _private(tmp_path / "phrase", PASSPHRASE)
    phrase.chmod(0o644)
    with pytest.raises(ConfigurationError, match=r"chmod 0600 .*a\.key"):
        load_key(tmp_path / "a.key", Passphrases())
    with pytest.raises(ConfigurationError, match=r"chmod 0600 .*phrase"):
        Passphrases(phrase).existing("a key")


def test_foreign_owner_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that another user put there is not used."""
    save_key(tmp_path / "a.key", KEY)
    if (tmp_path / "a.key").stat().st_uid == 0:
        os.chown(tmp_path / "a.key", 1, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(ConfigurationError) as refused:
        load_key(tmp_path / "a.key", Passphrases())
    assert refused.value.reason == "key-owner"


@pytest.mark.parametrize(
    "seed",
    [
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842",
        "00" * 32,
        bytes(range(32)).hex(),
    ],
)
def test_published_key_is_refused(tmp_path: Path, seed: str) -> None:
    """Keys of RFC 8032 and RFC 8410, and those anybody would try first, are refused."""
    save_key(tmp_path / "a.key", SigningKey.from_seed(bytes.fromhex(seed)))
    with pytest.raises(ConfigurationError) as refused:
        load_key(tmp_path / "a.key", Passphrases())
    assert refused.value.reason == "published-key"


def test_published_key_is_refused_under_a_pass_phrase(tmp_path: Path) -> None:
    """Sealing such a key does not make it secret."""
    save_key(tmp_path / "a.key", SigningKey.from_seed(bytes(32)), PASSPHRASE.encode())
    with pytest.raises(ConfigurationError) as refused:
        load_key(tmp_path / "a.key", Passphrases(_private(tmp_path / "phrase", PASSPHRASE)))
    assert refused.value.reason == "published-key"


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN GMESH SEALED KEY-----\n"])
def test_what_is_no_key_is_named(tmp_path: Path, content: bytes) -> None:
    """Whatever else a key file holds is one sentence with its name."""
    with pytest.raises(ConfigurationError, match=r"a\.key"):
        load_key(_private(tmp_path / "a.key", content), Passphrases())


def test_pass_phrase_from_a_descriptor(tmp_path: Path, sealed: bytes) -> None:
    """C{/dev/fd/N} is read once and serves every key of the command."""
    reading, writing = os.pipe()
    os.write(writing, PASSPHRASE.encode() + b"\n")
    os.close(writing)
    passphrases = Passphrases(Path(f"/dev/fd/{reading}"))
    try:
        for name in ("a.key", "b.key"):
            assert load_key(_private(tmp_path / name, sealed), passphrases).key_id == KEY.key_id
    finally:
        os.close(reading)


def test_pass_phrase_from_a_credential(
    tmp_path: Path, sealed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under systemd the credential C{passphrase} opens the key; its mode is systemd's business."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "passphrase").write_text(PASSPHRASE)
    (credentials / "passphrase").chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert load_key(_private(tmp_path / "a.key", sealed), Passphrases()).key_id == KEY.key_id


def test_pass_phrase_from_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a terminal the key is named and a new pass phrase is asked for twice; forms of one text are one."""
    asked: list[str] = []
    answers = ["caf\N{LATIN SMALL LETTER E WITH ACUTE} noir", "cafe\N{COMBINING ACUTE ACCENT} noir"]

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return answers[len(asked) % 2]

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert Passphrases(ask=ask).new("root.key") == "caf\N{LATIN SMALL LETTER E WITH ACUTE} noir".encode()
    assert asked == ["New pass phrase of root.key: ", "Again: "]
    answers[0] = "another"
    with pytest.raises(ConfigurationError, match="differ"):
        Passphrases(ask=ask).new("root.key")


def test_who_asks_no_more_has_what_was_typed(
    tmp_path: Path, sealed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that serves asks nobody for a new key's pass phrase, though it has a terminal."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return PASSPHRASE

    phrases = Passphrases(ask=ask)
    first, later = _private(tmp_path / "a.key", sealed), _private(tmp_path / "b.key", sealed)
    load_key(first, phrases)
    phrases.ask_no_more()
    assert load_key(first, phrases).key_id == KEY.key_id
    with pytest.raises(ConfigurationError, match="--passphrase-file") as refused:
        load_key(later, phrases)
    assert (refused.value.reason, len(asked)) == ("passphrase-needed", 1)


def test_nobody_to_ask(tmp_path: Path, sealed: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file, a credential or a terminal the refusal names all three."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    with pytest.raises(ConfigurationError, match="--passphrase-file"):
        load_key(_private(tmp_path / "a.key", sealed), Passphrases())


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"two\nlines\n"])
def test_file_that_holds_no_pass_phrase(tmp_path: Path, content: bytes) -> None:
    """An empty, binary or longer file is not taken for a pass phrase."""
    with pytest.raises(ConfigurationError) as refused:
        Passphrases(_private(tmp_path / "phrase", content)).existing("a key")
    assert refused.value.reason == "bad-passphrase"
