"""The spot pairs: steps and bounds of prices and quantities.

Shapes follow Bybit's ``instruments-info`` of spot pairs; sizes too where tests depend on them (steps, minimum order,
price band). A market is named by category and symbol together; contracts are in ``linear.contracts``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from .money import wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """One tradable pair: steps and bounds as ``GET /v5/market/instruments-info`` publishes them."""

    category: str = "spot"
    symbol: str
    symbol_id: int
    base: str
    quote: str
    tick: Decimal
    base_step: Decimal
    quote_step: Decimal
    min_quantity: Decimal
    min_amount: Decimal
    max_limit_quantity: Decimal
    max_market_quantity: Decimal
    max_amount: Decimal = Decimal(8_000_000)
    band_x: Decimal = Decimal("0.05")
    band_y: Decimal = Decimal("0.1")
    opening_price: Decimal
    depth_quantity: Decimal
    """How much the synthetic counterparties offer on each price level."""
    depth_levels: int = 1000
    key: tuple[str, str] = field(init=False, repr=False)
    no_price: str = field(init=False, repr=False)
    """How an unset price is printed: a zero with the decimals of the tick."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", (self.category, self.symbol))
        object.__setattr__(self, "no_price", format(Decimal(0).quantize(self.tick), "f"))

    def row(self) -> dict[str, object]:
        """The instrument as ``instruments-info`` lists it."""
        return {
            "symbolId": self.symbol_id,
            "symbol": self.symbol,
            "baseCoin": self.base,
            "quoteCoin": self.quote,
            "innovation": "0",
            "status": "Trading",
            "marginTrading": "utaOnly",
            "stTag": "0",
            "lotSizeFilter": {
                "basePrecision": wire(self.base_step),
                "quotePrecision": wire(self.quote_step),
                "minOrderQty": wire(self.min_quantity),
                "maxOrderQty": wire(self.max_limit_quantity),
                "minOrderAmt": wire(self.min_amount),
                "maxOrderAmt": wire(self.max_amount),
                "maxLimitOrderQty": wire(self.max_limit_quantity),
                "maxMarketOrderQty": wire(self.max_market_quantity),
                "postOnlyMaxLimitOrderSize": wire(self.max_limit_quantity),
            },
            "priceFilter": {"tickSize": wire(self.tick)},
            "riskParameters": {"priceLimitRatioX": wire(self.band_x), "priceLimitRatioY": wire(self.band_y)},
            "symbolType": "",
        }


def _pair(symbol_id: int, base: str, tick: str, step: str, least: str, most: str, price: str, depth: str) -> Instrument:
    return Instrument(
        symbol=f"{base}USDT",
        symbol_id=symbol_id,
        base=base,
        quote="USDT",
        tick=Decimal(tick),
        base_step=Decimal(step),
        quote_step=Decimal("0.0000001"),
        min_quantity=Decimal(least),
        min_amount=Decimal(5),
        max_limit_quantity=Decimal(most),
        max_market_quantity=Decimal(most) / 2,
        opening_price=Decimal(price),
        depth_quantity=Decimal(depth),
    )


CATALOGUE: dict[str, Instrument] = {
    pair.symbol: pair
    for pair in (
        _pair(9, "BTC", "0.1", "0.000001", "0.000011", "83", "60000", "5"),
        _pair(20009, "ETH", "0.01", "0.00001", "0.00029", "1500", "3000", "100"),
        _pair(20031, "SOL", "0.01", "0.001", "0.01", "12000", "150", "2000"),
        _pair(20047, "XRP", "0.0001", "0.01", "1", "1000000", "0.5", "200000"),
        _pair(20052, "DOGE", "0.00001", "0.1", "10", "6000000", "0.1", "2000000"),
    )
}
_QUOTES = ("USDT", "USDC", "EUR", "BTC", "ETH")


def instrument_for(symbol: str, symbol_id: int) -> Instrument:
    """The instrument of the catalogue, or one with default steps and an opening price of 100 for another pair."""
    if symbol in CATALOGUE:
        return CATALOGUE[symbol]
    quote = next((coin for coin in _QUOTES if symbol.endswith(coin) and symbol != coin), None)
    if quote is None:
        raise ValueError(f"cannot tell base and quote of {symbol!r}; it must end in one of {', '.join(_QUOTES)}")
    return Instrument(
        symbol=symbol,
        symbol_id=symbol_id,
        base=symbol[: -len(quote)],
        quote=quote,
        tick=Decimal("0.01"),
        base_step=Decimal("0.001"),
        quote_step=Decimal("0.0000001"),
        min_quantity=Decimal("0.001"),
        min_amount=Decimal(1),
        max_limit_quantity=Decimal(100_000),
        max_market_quantity=Decimal(50_000),
        opening_price=Decimal(100),
        depth_quantity=Decimal(3000),
    )
