"""Credentials never reach a message."""

from __future__ import annotations

import pytest

from reconciler.errors import SourceError, redacted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://bot:s3cret@git.example.com/x.git", "https://***@git.example.com/x.git"),
        ("https://t0ken@git.example.com/x.git", "https://***@git.example.com/x.git"),
        ("https://bot:p@ss@git.example.com/x.git", "https://***@git.example.com/x.git"),
        ("postgresql://me:s3cret@db:5432/log", "postgresql://***@db:5432/log"),
        ("postgresql://db/log?user=me&password=s3cret&x=1", "postgresql://db/log?user=me&password=***&x=1"),
        ("ssh://git@git.example.com:22/x.git", "ssh://git@git.example.com:22/x.git"),
        ("https://git.example.com/@scope/x:1", "https://git.example.com/@scope/x:1"),
        ("fatal: a https://a:b@c/ and http://d@e/", "fatal: a https://***@c/ and http://***@e/"),
        ("git@git.example.com:x.git", "git@git.example.com:x.git"),
    ],
)
def test_redacted(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert str(SourceError(text, where=text, remedy=text)) == f"{shown}: {shown}\n  → {shown}"
