"""Trading rules of one instrument: price and quantity steps, minimum and maximum sizes."""

from __future__ import annotations

from decimal import Decimal

import attrs


@attrs.frozen(kw_only=True)
class InstrumentRules:
    """Steps and limits of one symbol; None where the venue sets none. Prices in quote, quantities in base.

    ``settle_coin`` is the coin of a contract's margin, profit and fees ("" for spot). ``quote_step`` and
    ``min_notional`` are in quote. The ``price_limit_ratio``s bound limit prices around the venue's index, e.g. 0.05 for
    5 %. ``as_of_ms`` is the venue time at which the rules were read.
    Source: docs v5/market/instrument (``priceFilter``, ``lotSizeFilter``, ``riskParameters``).
    """

    symbol: str
    base_coin: str
    quote_coin: str
    settle_coin: str = ""
    tick_size: Decimal | None = None
    min_price: Decimal | None = None
    max_price: Decimal | None = None
    quantity_step: Decimal | None = None
    quote_step: Decimal | None = None
    min_quantity: Decimal | None = None
    min_notional: Decimal | None = None
    max_limit_quantity: Decimal | None = None
    max_market_quantity: Decimal | None = None
    max_post_only_quantity: Decimal | None = None
    price_limit_ratio_x: Decimal | None = None
    price_limit_ratio_y: Decimal | None = None
    is_trading: bool = True
    as_of_ms: int = 0
