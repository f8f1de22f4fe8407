"""The perpetual contracts on offer: steps, leverage, risk tiers and funding interval of each.

Shapes and quirks follow ``instruments-info`` (docs v5/market/instrument): a USDT perpetual is named after base and
quote, a USDC perpetual ``BTCPERP`` with quote ``USD`` and settle coin ``USDC``.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from ..instruments import Instrument
from ..money import wire

HOUR_MS = 3_600_000
_TIERS = 5


@dataclass(frozen=True, slots=True)
class RiskTier:
    """One step of the risk limit: up to this position value these margin rates and this leverage apply."""

    number: int
    limit_value: Decimal
    maintenance_rate: Decimal
    max_leverage: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract(Instrument):
    """One perpetual contract; quantities are in base coin, money in the settle coin."""

    category: str = "linear"
    settle: str
    min_leverage: Decimal = Decimal(1)
    max_leverage: Decimal
    leverage_step: Decimal = Decimal("0.01")
    maintenance_rate: Decimal = Decimal("0.005")
    risk_step: Decimal = Decimal(2_000_000)
    funding_interval_ms: int = 8 * HOUR_MS
    max_funding_rate: Decimal = Decimal("0.00375")
    launch_ms: int = 1_584_230_400_000

    @property
    def min_price(self) -> Decimal:
        return self.tick

    @property
    def max_price(self) -> Decimal:
        return Decimal(1_999_999) * self.tick * 10

    @property
    def tiers(self) -> list[RiskTier]:
        """The risk tiers, lowest first: each doubles the maintenance rate's step and divides the leverage."""
        return [
            RiskTier(
                number,
                self.risk_step * number,
                self.maintenance_rate * number,
                (self.max_leverage / number).quantize(self.leverage_step),
            )
            for number in range(1, _TIERS + 1)
        ]

    def tier_of(self, value: Decimal) -> RiskTier:
        """The tier a position value falls into; the highest for what is beyond all."""
        return next((tier for tier in self.tiers if value <= tier.limit_value), self.tiers[-1])

    def limit_at(self, leverage: Decimal) -> Decimal:
        """The largest position value that may be held at a leverage."""
        return max(tier.limit_value for tier in self.tiers if tier.max_leverage >= leverage)

    def row(self) -> dict[str, object]:
        """The contract as ``instruments-info`` lists it."""
        return {
            "symbol": self.symbol,
            "contractType": "LinearPerpetual",
            "status": "Trading",
            "baseCoin": self.base,
            "quoteCoin": self.quote,
            "launchTime": str(self.launch_ms),
            "deliveryTime": "0",
            "deliveryFeeRate": "",
            "priceScale": str(max(0, -int(self.tick.as_tuple().exponent))),
            "leverageFilter": {
                "minLeverage": wire(self.min_leverage),
                "maxLeverage": format(self.max_leverage, ".2f"),
                "leverageStep": wire(self.leverage_step),
            },
            "priceFilter": {
                "minPrice": wire(self.min_price),
                "maxPrice": wire(self.max_price),
                "tickSize": format(self.tick, "f"),
            },
            "lotSizeFilter": {
                "maxOrderQty": wire(self.max_limit_quantity),
                "minOrderQty": wire(self.min_quantity),
                "qtyStep": wire(self.base_step),
                "postOnlyMaxOrderQty": wire(self.max_limit_quantity),
                "maxMktOrderQty": wire(self.max_market_quantity),
                "minNotionalValue": wire(self.min_amount),
            },
            "unifiedMarginTrade": True,
            "fundingInterval": self.funding_interval_ms // 60_000,
            "settleCoin": self.settle,
            "copyTrading": "both" if self.settle == "USDT" else "none",
            "upperFundingRate": wire(self.max_funding_rate),
            "lowerFundingRate": wire(-self.max_funding_rate),
            "isPreListing": False,
            "preListingInfo": None,
            "riskParameters": {"priceLimitRatioX": wire(self.band_x), "priceLimitRatioY": wire(self.band_y)},
            "displayName": "",
            "symbolType": "",
        }


def _contract(
    symbol: str,
    symbol_id: int,
    base: str,
    tick: str,
    step: str,
    most: str,
    price: str,
    depth: str,
    leverage: str,
    settle: str = "USDT",
) -> Contract:
    return Contract(
        symbol=symbol,
        symbol_id=symbol_id,
        base=base,
        quote="USDT" if settle == "USDT" else "USD",
        settle=settle,
        tick=Decimal(tick),
        base_step=Decimal(step),
        quote_step=Decimal("0.0000001"),
        min_quantity=Decimal(step),
        min_amount=Decimal(5),
        max_limit_quantity=Decimal(most),
        max_market_quantity=Decimal(most) / 5,
        band_x=Decimal("0.02"),
        band_y=Decimal("0.05"),
        opening_price=Decimal(price),
        depth_quantity=Decimal(depth),
        max_leverage=Decimal(leverage),
    )


CATALOGUE: dict[str, Contract] = {
    contract.symbol: contract
    for contract in (
        _contract("BTCUSDT", 5, "BTC", "0.10", "0.001", "1190", "60000", "20", "100"),
        _contract("ETHUSDT", 24, "ETH", "0.01", "0.01", "7240", "3000", "300", "100"),
        _contract("SOLUSDT", 60, "SOL", "0.010", "0.1", "75960", "150", "5000", "100"),
        _contract("XRPUSDT", 43, "XRP", "0.0001", "0.1", "4900000", "0.5", "500000", "75"),
        _contract("DOGEUSDT", 55, "DOGE", "0.00001", "1", "29000000", "0.1", "4000000", "75"),
        _contract("BTCPERP", 300, "BTC", "0.1", "0.001", "200", "60000", "20", "50", "USDC"),
        _contract("ETHPERP", 301, "ETH", "0.01", "0.01", "2000", "3000", "300", "50", "USDC"),
    )
}


def contract_for(symbol: str, symbol_id: int) -> Contract:
    """The catalogue's contract, or a plausible one for a symbol it does not know (opening at 100).

    Raises:
        ValueError: the symbol ends neither in USDT nor in PERP.
    """
    if symbol in CATALOGUE:
        return CATALOGUE[symbol]
    for ending, settle in (("USDT", "USDT"), ("PERP", "USDC")):
        if symbol.endswith(ending) and symbol != ending:
            base = symbol[: -len(ending)]
            return _contract(symbol, symbol_id, base, "0.01", "0.001", "100000", "100", "3000", "50", settle)
    raise ValueError(f"cannot tell the settle coin of {symbol!r}; a linear symbol must end in USDT or PERP")
