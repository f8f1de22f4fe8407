"""Keys that cannot be printed by accident, and texts with the keys taken out.

The venue itself echoes the API key in its 10004 reply (docs v5/error), so hiding our own copies is not enough: every
text that comes from the wire goes through `redact` before it may reach a log, an error or a repr.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HIDDEN = "***"
_LONG_HEX = re.compile(r"\b[0-9a-fA-F]{64}\b")
_ORIGIN = re.compile(r"(origin_string\[)[^\]]*(\])")


class Secret:
    """A text that shows itself only to `reveal`; its repr, str and format are ``***``, and it cannot be pickled."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself: for the signer, and nobody else."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"

    def __str__(self) -> str:
        return HIDDEN

    def __format__(self, spec: str) -> str:
        return HIDDEN

    def __reduce__(self) -> str:
        raise TypeError("a Secret does not leave the process")


def redact(text: str, secrets: Iterable[Secret] = (), *, limit: int = 300) -> str:
    """The text, at most ``limit`` characters of it, without the given secrets, signatures and 10004's echo."""
    for secret in secrets:
        if secret:
            text = text.replace(secret.reveal(), HIDDEN)
    text = _ORIGIN.sub(rf"\1{HIDDEN}\2", text)
    text = _LONG_HEX.sub(HIDDEN, text)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
