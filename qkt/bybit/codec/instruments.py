"""Instrument rows from the wire: steps and limits, under the two names the categories have for each.

Source: docs v5/market/instrument, v5/market/tickers.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from qkt.bybit.codec.symbol import BybitSymbol
from qkt.model.instruments import InstrumentRules
from qkt.money import positive_from_wire


def to_rules(row: Mapping[str, Any], category: str, *, as_of_ms: int) -> InstrumentRules:
    """Read one row; raises ValueError or KeyError when a number is broken or a key field is missing.

    A limit the venue leaves out, leaves blank or sets to zero is none.
    """
    lot, price, risk = (_part(row, name) for name in ("lotSizeFilter", "priceFilter", "riskParameters"))
    return InstrumentRules(
        symbol=BybitSymbol.to_qkt(category, _text(row, "symbol")),
        base_coin=_text(row, "baseCoin"),
        quote_coin=_text(row, "quoteCoin"),
        settle_coin=str(row.get("settleCoin") or ""),
        tick_size=positive_from_wire(price.get("tickSize")),
        min_price=positive_from_wire(price.get("minPrice")),
        max_price=positive_from_wire(price.get("maxPrice")),
        quantity_step=_first(lot, "basePrecision", "qtyStep"),
        quote_step=_first(lot, "quotePrecision"),
        min_quantity=_first(lot, "minOrderQty"),
        min_notional=_first(lot, "minOrderAmt", "minNotionalValue"),
        max_limit_quantity=_first(lot, "maxLimitOrderQty", "maxOrderQty"),
        max_market_quantity=_first(lot, "maxMarketOrderQty", "maxMktOrderQty"),
        max_post_only_quantity=_first(lot, "postOnlyMaxLimitOrderSize", "postOnlyMaxOrderQty"),
        price_limit_ratio_x=positive_from_wire(risk.get("priceLimitRatioX")),
        price_limit_ratio_y=positive_from_wire(risk.get("priceLimitRatioY")),
        is_trading=row.get("status", "Trading") == "Trading",
        as_of_ms=as_of_ms,
    )


def to_last_price(row: Mapping[str, Any]) -> tuple[str, Decimal | None]:
    """A ticker row's symbol and ``lastPrice``; None where the market has not traded."""
    return _text(row, "symbol"), positive_from_wire(row.get("lastPrice"))


def _part(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = row.get(name)
    return part if isinstance(part, Mapping) else {}


def _first(lot: Mapping[str, Any], *names: str) -> Decimal | None:
    """The first of several names that says something; ``maxOrderQty`` is deprecated on spot and current on linear."""
    return next((found for name in names if (found := positive_from_wire(lot.get(name))) is not None), None)


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row[name]
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is {value!r}")
    return value
