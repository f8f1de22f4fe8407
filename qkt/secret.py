"""Secrets that are not printed by accident, and texts from the wire without secrets.

The venue itself echoes the API key in its 10004 reply (docs v5/error), so every text from the wire passes `redact`
before it reaches a log, an error or a repr.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HIDDEN = "***"
_LONG_HEX = re.compile(r"\b[0-9a-fA-F]{64}\b")
_ORIGIN = re.compile(r"(origin_string\[)[^\]]*(?:\]|\Z)")  # without a closing bracket: to the end of the text
_MARGIN = 128


class Secret:
    """A text that shows itself only to `reveal`; its repr, str and format are ``***``, and it cannot be pickled."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the signer."""
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
    """At most ``limit`` characters of a text from the wire, safe to print, in time linear in ``limit``.

    The given secrets, signatures and the echo of 10004 are replaced; line breaks, escape sequences and other characters
    that could forge a log line are escaped. A cut text ends with its length.
    """
    keys = [secret.reveal() for secret in secrets if secret]
    margin = max([_MARGIN, *map(len, keys)])
    window = text[: limit + margin]
    for key in keys:
        window = window.replace(key, HIDDEN)
    window = _LONG_HEX.sub(HIDDEN, _ORIGIN.sub(rf"\1{HIDDEN}]", window))
    if len(text) > limit + margin:
        window = window[:-margin]  # a key that the cut went through must not show its first half
    window = printable(window)
    return (
        window
        if len(window) <= limit and len(text) <= limit + margin
        else f"{window[:limit]}… ({len(text)} characters)"
    )


def hide_secrets(text: str, secrets: Iterable[Secret] = ()) -> str:
    """The whole text with the given secrets, signatures and the echo of 10004 replaced, and nothing else changed."""
    for secret in secrets:
        if secret:
            text = text.replace(secret.reveal(), HIDDEN)
    return _LONG_HEX.sub(HIDDEN, _ORIGIN.sub(rf"\1{HIDDEN}]", text))


def printable(text: str) -> str:
    """The text with every character that is not printable (line breaks, escapes, direction marks) as an escape."""
    return text if text.isprintable() else "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
