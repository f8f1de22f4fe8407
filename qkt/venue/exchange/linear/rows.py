"""Records of contracts as clients read them.

Field sets follow docs ``v5/order/open-order``, ``v5/order/execution``, ``v5/position/position`` and their stream twins.
Unlike spot, contracts print an unset price as an empty string and amounts without padding (captured).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from ..accounts import Account, Order
from ..executions import Execution
from ..money import ZERO, average, wire
from ..transactions import Transaction
from .closed import ClosedPnl
from .margin import ISOLATED, Margin
from .positions import Position

Row = dict[str, Any]


def order_row(order: Order, *, stream: bool) -> Row:
    """An order record of a contract."""
    cancelled = order.status in ("Cancelled", "Deactivated", "Rejected")
    no_limit = "0" if stream else ""
    row: Row = {
        "orderId": order.order_id,
        "orderLinkId": order.link_id,
        "parentOrderLinkId": order.parent_link_id,
        "blockTradeId": "",
        "symbol": order.instrument.symbol,
        "price": wire(order.price),
        "qty": wire(order.quantity),
        "side": order.side,
        "isLeverage": "",
        "positionIdx": order.position_idx,
        "orderStatus": order.status,
        "createType": order.create_type,
        "cancelType": order.cancel_type,
        "rejectReason": order.reject_reason,
        "avgPrice": wire(average(order.cum_value, order.cum_quantity)) if order.cum_quantity else "",
        "leavesQty": "" if cancelled and not stream else wire(order.leaves_quantity),
        "leavesValue": "" if cancelled and not stream else wire(order.leaves_quantity * order.price),
        "cumExecQty": wire(order.cum_quantity),
        "cumExecValue": wire(order.cum_value),
        "cumExecFee": wire(sum(order.fees.values(), ZERO)),
        "closedPnl": wire(order.closed_pnl),
        "timeInForce": order.time_in_force,
        "orderType": order.order_type,
        "stopOrderType": order.stop_kind,
        "orderIv": "",
        "marketUnit": "",
        "triggerPrice": _price(order.active_price if order.trailing else order.trigger_price),
        "takeProfit": _price(order.take_profit),
        "stopLoss": _price(order.stop_loss),
        "tpslMode": order.tpsl_mode or ("UNKNOWN" if stream else ""),
        "tpLimitPrice": _price(order.tp_limit_price) or no_limit,
        "slLimitPrice": _price(order.sl_limit_price) or no_limit,
        "tpTriggerBy": order.tp_trigger_by,
        "slTriggerBy": order.sl_trigger_by,
        "triggerDirection": 0 if not order.stop_kind else 1 if order.trigger_rises else 2,
        "triggerBy": order.trigger_by,
        "lastPriceOnCreated": wire(order.last_on_created),
        "reduceOnly": order.reduce_only,
        "closeOnTrigger": order.close_on_trigger,
        "placeType": "",
        "smpType": order.smp_type,
        "smpGroup": 0,
        "smpOrderId": "",
        "slippageToleranceType": order.slippage_type,
        "slippageTolerance": wire(order.slippage),
        "createdTime": str(order.created_ms),
        "updatedTime": str(order.updated_ms),
        "extraFees": "",
        "cumFeeDetail": {coin: wire(fee) for coin, fee in order.fees.items()},
    }
    if stream:
        row["category"] = "linear"
        row["feeCurrency"] = next(iter(order.fees), "")
    return row


def execution_row(execution: Execution, *, stream: bool) -> Row:
    """An execution record of a contract; a funding record has no order behind it."""
    row: Row = {
        "symbol": execution.instrument.symbol,
        "orderType": execution.order_type,
        "underlyingPrice": "",
        "orderLinkId": execution.link_id,
        "side": execution.side,
        "indexPrice": "" if stream else wire(execution.index_price),
        "orderId": execution.order_id,
        "stopOrderType": execution.stop_order_type or "UNKNOWN",
        "leavesQty": wire(execution.leaves_quantity),
        "execTime": str(execution.time_ms),
        "feeCurrency": execution.fee_coin,
        "isMaker": execution.is_maker,
        "execFee": wire(execution.fee),
        "feeRate": wire(execution.fee_rate),
        "execId": execution.exec_id,
        "tradeIv": "",
        "blockTradeId": "",
        "markPrice": wire(execution.mark_price),
        "execPrice": wire(execution.price),
        "markIv": "",
        "orderQty": wire(execution.order_quantity),
        "orderPrice": wire(execution.order_price),
        "execValue": wire(execution.value),
        "execType": execution.exec_type,
        "execQty": wire(execution.quantity),
        "closedSize": wire(execution.closed_size),
        "createType": execution.create_type,
        "extraFees": "",
        "seq": execution.seq,
    }
    if stream:
        row["category"] = "linear"
        row["isLeverage"] = "0"
        row["execPnl"] = wire(execution.profit)
        row["marketUnit"] = ""
    else:
        row["execFeeV2"] = ""
    return row


def position_row(account: Account, position: Position, margin: Margin, *, stream: bool) -> Row:
    """A position record; the stream says ``entryPrice`` where REST says ``avgPrice``."""
    contract, flat = position.contract, not position.size
    mark = margin.mark(contract)
    tier = contract.tier_of(margin.value(account, position))
    liquidation = None if flat else margin.liquidation_price(account, position)
    initial = ZERO if flat else margin.initial(account, position)
    maintenance = ZERO if flat else margin.maintenance(account, position)
    row: Row = {
        "positionIdx": position.index,
        "tradeMode": 0,
        "riskId": tier.number,
        "riskLimitValue": wire(tier.limit_value),
        "symbol": contract.symbol,
        "side": position.side,
        "size": wire(position.quantity),
        "entryPrice" if stream else "avgPrice": wire(position.average_price),
        "sessionAvgPrice": "",
        "leverage": wire(position.leverage),
        "positionValue": wire(abs(position.entry_value)) if position.size else "" if not stream else "0",
        "positionBalance": wire(round(initial, 8)) if account.margin_mode == ISOLATED else "0",
        "markPrice": wire(mark),
        "positionIM": _rounded(initial, flat and not stream),
        "positionIMByMp": _rounded(initial, flat and not stream),
        "positionMM": _rounded(maintenance, flat and not stream),
        "positionMMByMp": _rounded(maintenance, flat and not stream),
        "takeProfit": _price(position.take_profit) or ("0" if stream else ""),
        "stopLoss": _price(position.stop_loss) or ("0" if stream else ""),
        "trailingStop": wire(position.trailing_stop),
        "unrealisedPnl": _rounded(margin.profit(position), flat and not stream),
        "curRealisedPnl": wire(round(ZERO if flat else position.current_realised, 8)),
        "cumRealisedPnl": wire(round(position.total_realised, 8)),
        "createdTime": str(position.created_ms),
        "updatedTime": str(position.updated_ms),
        "tpslMode": "Full",
        "liqPrice": "" if liquidation is None else wire(liquidation),
        "bustPrice": "",
        "positionStatus": position.status if position.size or position.status != "Normal" or stream else "",
        "adlRankIndicator": 0 if flat else _adl_rank(position, margin),
        "autoAddMargin": 0,
        "leverageSysUpdatedTime": "",
        "mmrSysUpdatedTime": "",
        "seq": position.seq,
        "breakEvenPrice": "" if flat else wire(_break_even(account, position)),
        "isReduceOnly": False,
        "openTime": 0 if flat else position.opened_ms,
        "delta": "",
        "gamma": "",
        "vega": "",
        "theta": "",
    }
    if stream:
        row["category"] = "linear"
    return row


def closed_row(record: ClosedPnl) -> Row:
    """A record of ``position/closed-pnl``."""
    return {
        "symbol": record.contract.symbol,
        "orderId": record.order_id,
        "side": record.side,
        "qty": wire(record.order_quantity),
        "orderPrice": wire(record.order_price),
        "orderType": record.order_type,
        "execType": record.execution_kind,
        "closedSize": wire(record.closed),
        "cumEntryValue": wire(record.entry_value),
        "avgEntryPrice": wire(average(record.entry_value, record.closed)),
        "cumExitValue": wire(record.exit_value),
        "avgExitPrice": wire(average(record.exit_value, record.closed)),
        "closedPnl": wire(round(record.profit, 8)),
        "fillCount": str(record.fills),
        "leverage": wire(record.leverage),
        "openFee": wire(round(record.open_fee, 8)),
        "closeFee": wire(round(record.close_fee, 8)),
        "createdTime": str(record.created_ms),
        "updatedTime": str(record.updated_ms),
    }


def transaction_row(account: Account, transaction: Transaction) -> Row:
    """A record of ``account/transaction-log``."""
    return {
        "id": f"{account.uid}_{transaction.symbol}_{transaction.number}",
        "symbol": transaction.symbol,
        "category": transaction.category,
        "side": transaction.side,
        "transactionTime": str(transaction.time_ms),
        "type": transaction.kind,
        "transSubType": "",
        "qty": wire(transaction.quantity),
        "size": wire(transaction.size),
        "currency": transaction.currency,
        "tradePrice": wire(transaction.price) if transaction.price else "",
        "funding": "" if transaction.funding is None else wire(transaction.funding),
        "fee": wire(transaction.fee),
        "cashFlow": wire(transaction.cash_flow),
        "change": wire(transaction.change),
        "cashBalance": wire(transaction.cash_balance),
        "feeRate": wire(transaction.fee_rate) if transaction.fee_rate else "",
        "bonusChange": "",
        "tradeId": transaction.trade_id,
        "orderId": transaction.order_id,
        "orderLinkId": transaction.link_id,
        "extraFees": "",
    }


def _price(price: Decimal) -> str:
    return wire(price) if price else ""


def _rounded(value: Decimal, absent: bool) -> str:
    return "" if absent else wire(round(value, 8))


def _break_even(account: Account, position: Position) -> Decimal:
    """The exit price at which fees paid and the fee to close are earned back (docs v5/position/position)."""
    rate = max(account.linear_taker_rate, Decimal("0.00055"))
    sign = 1 if position.is_long else -1
    value = abs(position.entry_value) - sign * position.current_realised
    return average(value, position.quantity * (1 - sign * rate))


def _adl_rank(position: Position, margin: Margin) -> int:
    """1 to 5 by profit and leverage; losers are last in the queue."""
    profit = margin.profit(position)
    if profit <= 0 or not position.entry_value:
        return 1
    ratio = profit / abs(position.entry_value) * position.leverage
    return min(5, 2 + int(ratio * 4))
