"""SHA-256 without hashlib, which loads OpenSSL: for what starts at every commit, that takes as long as all the rest."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def _fastest_sha256() -> "Callable[[bytes], Any]":
    # Python's own, which hashlib falls back to. It is nobody's promise that it stays there.
    try:
        found: Callable[[bytes], Any] = __import__("_sha2" if sys.version_info >= (3, 12) else "_sha256").sha256
    except ImportError:
        from hashlib import sha256

        return sha256
    return found


sha256 = _fastest_sha256()


def digest(*parts: bytes) -> str:
    """Digest of these parts in this order, hexadecimal. No other list of parts has it."""
    found: str = sha256(b"".join([b"%d:%b" % (len(part), part) for part in parts])).hexdigest()
    return found
