"""Patterns that select the symbols of a route."""

from __future__ import annotations

import attrs

from qkt.errors import InvalidRequestError


@attrs.frozen
class SymbolPattern:
    """Symbols that a route takes: one symbol, all with a prefix, or all. Case-sensitive."""

    text: str
    is_prefix: bool

    @classmethod
    def prefix(cls, text: str) -> SymbolPattern:
        """Symbols that begin with ``text``: ``SymbolPattern.prefix("BYBIT_SPOT:")``."""
        return cls(_text(text), is_prefix=True)

    @classmethod
    def exact(cls, symbol: str) -> SymbolPattern:
        """That one symbol."""
        return cls(_text(symbol), is_prefix=False)

    @classmethod
    def any(cls) -> SymbolPattern:
        """Every symbol."""
        return cls("", is_prefix=True)

    def matches(self, symbol: str) -> bool:
        """True when the route takes ``symbol``."""
        return symbol.startswith(self.text) if self.is_prefix else symbol == self.text

    def __str__(self) -> str:
        return self.text + "*" * self.is_prefix


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidRequestError(f'a symbol pattern is text like "BYBIT_SPOT:", got {value!r}')
    return value
