"""`BYBIT_SPOT:BTCUSDT` and back: qkt's symbols carry the category, since spot and linear share Bybit's names."""

from __future__ import annotations

import attrs

from qkt.errors import InvalidRequestError

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
                if not bare.replace("-", "").isalnum() or bare != bare.upper():
                    raise InvalidRequestError(
                        f"{symbol!r} is no Bybit symbol: after {prefix!r} comes the venue's name in capitals, "
                        "e.g. BTCUSDT"
                    )
                return cls(category, bare)
        examples = " or ".join(f"{prefix}BTCUSDT" for prefix in _PREFIXES.values())
        raise InvalidRequestError(f"{symbol!r} has no prefix qkt knows; write {examples}")

    @staticmethod
    def to_qkt(category: str, bare: str) -> str:
        """The qkt symbol for a row of ``category``."""
        return f"{_PREFIXES[category]}{bare}"

    def __str__(self) -> str:
        return self.to_qkt(self.category, self.bare)
