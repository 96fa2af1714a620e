"""Tokens for pushing over HTTP: made once, shown once, and known afterwards by their digest alone."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping


def new_token() -> tuple[str, str]:
    """A fresh token of 32 random bytes, and its digest."""
    token = secrets.token_urlsafe(32)
    return token, digest(token)


def digest(token: str) -> str:
    """SHA-256, hexadecimal. A slow hash would add nothing: a token is not a word that could be guessed."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def find(token: str, tokens: Mapping[str, str]) -> str | None:
    """Whose token this is, among digests by name; None: nobody's. Takes the same time whichever it is."""
    wanted = digest(token)
    found = None
    for name, known in tokens.items():
        if hmac.compare_digest(wanted.encode(), known.encode()):
            found = name
    return found
