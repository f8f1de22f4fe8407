"""Execution rows from the wire. Only what moves coins against a counterparty is a fill.

Funding, settlement and the like come through the same list (docs v5/enum#exectype) and are no fills: they are kept
apart, never counted into an order.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from qkt.bybit.codec.bounds import integer_from_wire, required_text, text_from_wire, time_ms_from_wire
from qkt.bybit.codec.symbol import BybitSymbol
from qkt.model.costs import FundingPayment
from qkt.model.executions import Execution
from qkt.model.orders import OrderType, Side
from qkt.money import ZERO, decimal_from_wire, optional_from_wire, positive_from_wire

# the venue took (part of) the position away: auto-deleveraging and liquidation (docs v5/enum#exectype)
_FORCED = frozenset({"AdlTrade", "BustTrade"})
_FILLS = frozenset({"", "Trade", "AdlTrade", "BustTrade", "BlockTrade", "MovePosition", "FutureSpread"})
_SIDES = {"Buy": Side.BUY, "Sell": Side.SELL}
_TYPES = {"Market": OrderType.MARKET, "Limit": OrderType.LIMIT}


def is_fill(row: Mapping[str, Any]) -> bool:
    """True when the row is a trade; ``execution.fast`` rows carry no type and always are."""
    return str(row.get("execType") or "") in _FILLS


def is_funding(row: Mapping[str, Any], category: str) -> bool:
    """True when the row is a funding payment of a position; spot has no positions."""
    return row.get("execType") == "Funding" and category != "spot"


def settle_coin_of(symbol: str) -> str:
    """The coin that a linear contract is settled in, from its name: ``BTCUSDT`` in USDT, ``BTCPERP`` in USDC.

    Source: docs v5/market/instrument; symbols of USDC contracts end in PERP, or in USDC with a delivery date.
    """
    return "USDT" if "USDT" in symbol else "USDC"


def fee_currency_of(row: Mapping[str, Any], category: str) -> str:
    """The coin of a row's fee; older and funding rows of contracts leave it blank and mean the settle coin."""
    coin = text_from_wire(row, "feeCurrency")
    return coin if coin or category != "linear" else settle_coin_of(str(row["symbol"]))


def to_funding(row: Mapping[str, Any], category: str) -> FundingPayment:
    """Read one funding row; raises ValueError or KeyError when a key field is missing or broken.

    ``execFee`` is above zero where the position paid (docs v5/order/execution); the transaction log has the other sign.
    """
    return FundingPayment(
        exec_id=required_text(row, "execId"),
        symbol=BybitSymbol.to_qkt(category, row["symbol"]),
        side=_SIDES.get(row.get("side") or ""),
        quantity=decimal_from_wire(row["execQty"]),
        price=positive_from_wire(row.get("execPrice")),
        amount=decimal_from_wire(row["execFee"]),
        currency=fee_currency_of(row, category),
        rate=optional_from_wire(row.get("feeRate")),
        time_ms=time_ms_from_wire(row.get("execTime")),
    )


def to_execution(row: Mapping[str, Any], category: str) -> Execution:
    """Read one execution row; raises ValueError or KeyError when a key field is missing or broken.

    Source: docs v5/order/execution, v5/websocket/private/execution.
    """
    exec_id, order_id = required_text(row, "execId"), required_text(row, "orderId")
    quantity = decimal_from_wire(row["execQty"])
    if quantity <= 0:
        raise ValueError(f"execQty is {row['execQty']!r}")
    side = _SIDES[row["side"]]
    fee = optional_from_wire(row.get("execFee")) or ZERO
    order_quantity = positive_from_wire(row.get("orderQty"))
    return Execution(
        exec_id=exec_id,
        broker_order_id=order_id,
        client_order_id=text_from_wire(row, "orderLinkId"),
        symbol=BybitSymbol.to_qkt(category, row["symbol"]),
        side=side,
        price=decimal_from_wire(row["execPrice"]),
        quantity=quantity,
        fee=fee,
        fee_currency=fee_currency_of(row, category),
        is_maker=row.get("isMaker") in (True, "true"),
        exec_time_ms=time_ms_from_wire(row.get("execTime")),
        order_quantity=None if row.get("marketUnit") == "quoteCoin" else order_quantity,
        order_price=positive_from_wire(row.get("orderPrice")),
        leaves_quantity=optional_from_wire(row.get("leavesQty")),
        order_type=_TYPES.get(str(row.get("orderType") or ""), OrderType.UNKNOWN),
        seq=integer_from_wire(row.get("seq") or 0),
        exec_type=text_from_wire(row, "execType") or "Trade",
        is_forced=row.get("execType") in _FORCED,
        may_be_quote_sized=(
            category == "spot" and side is Side.BUY and row.get("orderType") == "Market" and not row.get("marketUnit")
        ),
        taxes=_taxes(row.get("extraFees")),
    )


def _taxes(extra_fees: Any) -> tuple[tuple[str, Decimal], ...]:
    """Tax charged on top of the fee (India, Indonesia, EU, UAE): ``""`` or a list of amounts with their coins."""
    if not isinstance(extra_fees, list):
        return ()
    return tuple((required_text(part, "feeCoin"), decimal_from_wire(part["fee"])) for part in extra_fees)
