"""`BYBIT_SPOT:BTCUSDT` and back: qkt's symbols carry the category, since spot and linear share Bybit's names."""

from __future__ import annotations

import re

import attrs

from qkt.errors import InvalidRequestError

_is_bare = re.compile(r"[A-Z0-9][A-Z0-9-]{0,39}").fullmatch
_known: dict[tuple[str, str], str] = {}  # symbols that were checked before
_MOST_KNOWN = 10_000
_PREFIXES = {"spot": "BYBIT_SPOT:", "linear": "BYBIT_LINEAR:"}


@attrs.frozen
class BybitSymbol:
    """One instrument: Bybit's ``category`` and its ``bare`` symbol, e.g. ``("spot", "BTCUSDT")``."""

    category: str
    bare: str

    @classmethod
    def parse(cls, symbol: str) -> BybitSymbol:
        """Read a qkt symbol; raises InvalidRequestError for a prefix that is not Bybit's or an empty name."""
        for category, prefix in _PREFIXES.items():
            if symbol.startswith(prefix):
                bare = symbol[len(prefix) :]
                if not _is_bare(bare):
                    raise InvalidRequestError(
                        f"{symbol!r} is no Bybit symbol: after {prefix!r} comes the venue's name in capitals, "
                        "e.g. BTCUSDT"
                    )
                return cls(category, bare)
        examples = " or ".join(f"{prefix}BTCUSDT" for prefix in _PREFIXES.values())
        raise InvalidRequestError(f"{symbol!r} has no prefix qkt knows; write {examples}")

    @staticmethod
    def to_qkt(category: str, bare: object) -> str:
        """The qkt symbol for a row of ``category``; raises ValueError for a name that cannot be Bybit's."""
        known = _known.get((category, bare)) if isinstance(bare, str) else None
        if known is not None:
            return known
        if not isinstance(bare, str) or not _is_bare(bare):
            raise ValueError(f"symbol is {str(bare)[:40]!r}")
        symbol = f"{_PREFIXES[category]}{bare}"
        if len(_known) < _MOST_KNOWN:
            _known[category, bare] = symbol
        return symbol

    def __str__(self) -> str:
        return self.to_qkt(self.category, self.bare)
