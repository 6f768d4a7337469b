"""Signed notes over the head of the log: their form, their keys, and what is no checkpoint."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import InputRejected, UsageError
from reconciler.events.checkpoint import Checkpoint, SignerKey, VerifierKey, opened

KEY = SignerKey("log.example.com", bytes(range(32)))
OTHER = SignerKey("log.example.com", bytes(32))
POINT = Checkpoint("reconciler.dev/log/1", 7, "ab" * 32)
NOTE = KEY.signed(POINT)


def test_a_key_and_a_note_are_those_of_the_signed_note_specification() -> None:
    """c2sp.org/signed-note publishes this key and this note."""
    key = VerifierKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    assert key.id.hex() == "c74f20a3"
    text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    signature = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    blob = base64.b64decode(signature)
    assert blob[:4] == key.id
    assert key.verifies(blob[4:], text)
    assert not key.verifies(blob[4:], text + " ")


def test_the_form_of_a_note() -> None:
    lines = NOTE.split("\n")
    assert lines[:4] == ["reconciler.dev/log/1", "7", base64.b64encode(b"\xab" * 32).decode(), ""]
    assert lines[4].startswith("— log.example.com ")
    assert lines[5:] == [""]
    digest = hashlib.sha256(b"log.example.com\n\x01" + KEY.public.public).digest()
    assert KEY.public.id == digest[:4] == base64.b64decode(lines[4].split()[2])[:4]


@given(st.binary(min_size=32, max_size=32), st.integers(1, 10**15), st.binary(min_size=32, max_size=32))
def test_what_is_signed_is_read_back(seed: bytes, position: int, own: bytes) -> None:
    key = SignerKey("k", seed)
    assert VerifierKey.parse(str(key.public)) == key.public
    assert SignerKey.parse(key.secret_text()).public == key.public
    point = Checkpoint("origin", position, own.hex())
    assert opened(key.signed(point), [OTHER.public, key.public]) == [point]


def test_notes_after_each_other_and_other_signatures_beside_ours() -> None:
    second = Checkpoint("reconciler.dev/log/1", 9, "cd" * 32)
    witnessed = NOTE + "— witness.example.com " + base64.b64encode(bytes(68)).decode() + "\n"
    assert opened(witnessed + "\n" + KEY.signed(second) + NOTE, [KEY.public]) == [POINT, second, POINT]


@pytest.mark.parametrize(
    "changed",
    [NOTE.replace("\n7\n", "\n8\n"), NOTE.replace("log/1", "log/2"), NOTE.replace("q6ur", "q6us", 1)],
    ids=["position", "origin", "hash"],
)
def test_a_changed_note_is_refused(changed: str) -> None:
    assert changed != NOTE
    with pytest.raises(InputRejected, match=r"the signature of log\.example\.com\+\w{8} does not match"):
        opened(changed, [KEY.public])


@pytest.mark.parametrize("text", ["", "text\n", "text\n\n", NOTE.partition("—")[0], "— a b\n", "\n\n\n"])
def test_what_is_no_note_is_refused(text: str) -> None:
    with pytest.raises(InputRejected):
        opened(text, [KEY.public])


@pytest.mark.parametrize("body", ["a\nb\n", "a\n07\nqw==\n", "a\n7\nqw==\n", "a\n0\n" + "A" * 43 + "=\n"])
def test_a_signed_note_that_is_no_checkpoint_is_refused(body: str) -> None:
    class Text(Checkpoint):
        @property
        def text(self) -> str:
            return body

    with pytest.raises(InputRejected, match="is no checkpoint of a log of reconciler"):
        opened(KEY.signed(Text("", 1, "")), [KEY.public])


def test_another_key_proves_nothing() -> None:
    with pytest.raises(InputRejected, match="no signature of log"):
        opened(NOTE, [OTHER.public])


@pytest.mark.parametrize(
    "text",
    ["", "name", "a+b+c", str(KEY.public).replace("log.", "lag."), str(KEY.public)[:-4], KEY.secret_text(),
     "name+00000000+" + base64.b64encode(b"\x02" + bytes(32)).decode()],
)  # fmt: skip
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        VerifierKey.parse(text)


@pytest.mark.parametrize(
    "text", ["", str(KEY.public), KEY.secret_text()[:-4], KEY.secret_text().replace("log.", "lag.")]
)
def test_what_is_no_secret_key_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        SignerKey.parse(text)
    assert KEY.secret_text().split("+", 4)[4] not in str(refused.value)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "ü", "a\n"])
def test_names_that_a_note_cannot_hold_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a key"):
        SignerKey(name, bytes(32))


@pytest.mark.parametrize("text", [KEY.secret_text(), "log.example.com+00000000+AAAA", str(KEY.public)[:-4]])
def test_what_is_no_public_key_is_named_by_where_it_was_given(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        VerifierKey.parse(text, "key.txt")
    assert refused.value.where == "key.txt"
    assert text.rpartition("+")[2] not in str(refused.value)
    assert ("secret" in refused.value.what) == (text == KEY.secret_text())
