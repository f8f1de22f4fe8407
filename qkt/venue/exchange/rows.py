"""Records as clients read them: the JSON shapes of orders, executions and wallets.

Field sets follow docs ``v5/order/open-order``, ``v5/order/execution``, ``v5/account/wallet-balance`` and their stream
twins. What the docs do not mention follows captured frames: padded quantities beside unpadded ones, ``leavesQty`` of a
cancelled order being ``"0"`` on the stream and ``""`` over REST.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from .accounts import STOP_ORDER_TYPE, Account, Order
from .executions import Execution
from .linear import rows as linear_rows
from .linear.margin import ISOLATED, Margin
from .money import ZERO, average, wire

Row = dict[str, Any]


def padded(value: Decimal, step: Decimal) -> str:
    """An amount with as many decimals as its step has, the way spot prints prices and order quantities."""
    try:
        return format(value.quantize(step), "f")
    except ArithmeticError:
        return wire(value)


def order_row(order: Order, *, stream: bool) -> Row:
    """An order record; the stream's has ``category`` and ``feeCurrency`` in addition."""
    if order.is_linear:
        return linear_rows.order_row(order, stream=stream)
    instrument = order.instrument
    tick, unset = instrument.tick, instrument.no_price
    cancelled = order.status in ("Cancelled", "PartiallyFilledCanceled", "Deactivated", "Rejected")
    row: Row = {
        "orderId": order.order_id,
        "orderLinkId": order.link_id,
        "blockTradeId": "",
        "symbol": instrument.symbol,
        "price": padded(order.price, tick) if order.price else "0",
        "qty": padded(order.quantity, instrument.quote_step if order.in_quote else instrument.base_step),
        "side": order.side,
        "isLeverage": order.is_leverage,
        "positionIdx": 0,
        "orderStatus": order.status,
        "cancelType": order.cancel_type,
        "rejectReason": order.reject_reason,
        "avgPrice": wire(average(order.cum_value, order.cum_quantity)) if order.cum_quantity else _no_average(stream),
        "leavesQty": "" if cancelled and not stream else padded(order.leaves_quantity, instrument.base_step),
        "leavesValue": "" if cancelled and not stream else wire(_leaves_value(order)),
        "cumExecQty": wire(order.cum_quantity),
        "cumExecValue": wire(order.cum_value),
        "cumExecFee": wire(sum(order.fees.values(), ZERO)),
        "timeInForce": order.time_in_force,
        "orderType": order.order_type,
        "stopOrderType": stop_order_type(order),
        "ocoTriggerBy": order.oco_trigger_by,
        "orderIv": "",
        "marketUnit": order.market_unit,
        "triggerPrice": padded(order.trigger_price, tick) if order.trigger_price else unset,
        "takeProfit": padded(order.take_profit, tick) if order.take_profit else unset,
        "stopLoss": padded(order.stop_loss, tick) if order.stop_loss else unset,
        "tpLimitPrice": padded(order.tp_limit_price, tick) if order.tp_limit_price else unset,
        "slLimitPrice": padded(order.sl_limit_price, tick) if order.sl_limit_price else unset,
        "tpTriggerBy": "",
        "slTriggerBy": "",
        "triggerDirection": 0,
        "triggerBy": "",
        "lastPriceOnCreated": wire(order.last_on_created) if stream else "",
        "basePrice": wire(order.last_on_created),
        "reduceOnly": False,
        "closeOnTrigger": False,
        "placeType": "",
        "smpType": order.smp_type,
        "smpGroup": 0,
        "smpOrderId": "",
        "slippageToleranceType": order.slippage_type,
        "slippageTolerance": wire(order.slippage) if order.slippage else "",
        "createdTime": str(order.created_ms),
        "updatedTime": str(order.updated_ms),
        "extraFees": "",
        "cumFeeDetail": {coin: wire(fee) for coin, fee in order.fees.items()},
        "rpiTakerAccess": False,
        "rpiMatchedQty": "0",
    }
    if stream:
        row["category"] = instrument.category
        row["feeCurrency"] = next(iter(order.fees), "")
    return row


def _no_average(stream: bool) -> str:
    return "" if stream else "0"


def _leaves_value(order: Order) -> Decimal:
    """The value not spent; a limit buy filled at better prices has some left after its last fill (captured)."""
    if order.in_quote:
        return max(ZERO, order.quantity - order.cum_value)
    if order.status == "Filled" and order.is_buy and order.order_type == "Limit":
        return order.quantity * order.price - order.cum_value
    return order.leaves_quantity * order.price


def stop_order_type(order: Order) -> str:
    if order.is_linear:
        return order.stop_kind
    return STOP_ORDER_TYPE.get(order.order_filter, order.order_filter)


def execution_row(execution: Execution, *, stream: bool) -> Row:
    """An execution record; spot rows leave the derivatives' fields empty."""
    instrument = execution.instrument
    if instrument.category == "linear":
        return linear_rows.execution_row(execution, stream=stream)
    row: Row = {
        "symbol": instrument.symbol,
        "orderType": execution.order_type,
        "underlyingPrice": "",
        "orderLinkId": execution.link_id,
        "side": execution.side,
        "indexPrice": "",
        "orderId": execution.order_id,
        "stopOrderType": execution.stop_order_type,
        "leavesQty": padded(execution.leaves_quantity, instrument.base_step),
        "execTime": str(execution.time_ms),
        "feeCurrency": execution.fee_coin,
        "isMaker": execution.is_maker,
        "execFee": wire(execution.fee),
        "feeRate": wire(execution.fee_rate),
        "execId": execution.exec_id,
        "tradeIv": "",
        "blockTradeId": "",
        "markPrice": "",
        "execPrice": wire(execution.price),
        "markIv": "",
        "orderQty": padded(execution.order_quantity, instrument.base_step),
        "orderPrice": wire(execution.order_price),
        "execValue": wire(execution.value),
        "execType": "Trade",
        "execQty": wire(execution.quantity),
        "closedSize": "",
        "extraFees": "",
        "seq": execution.seq,
    }
    if stream:
        row["category"] = instrument.category
        row["isLeverage"] = execution.is_leverage
        row["execPnl"] = ""
        row["marketUnit"] = execution.market_unit
    else:
        row["execFeeV2"] = ""
    return row


def fast_execution_row(execution: Execution) -> Row:
    """A record of ``execution.fast``: no fee, no link id for maker fills (docs websocket/private/fast-execution)."""
    return {
        "category": execution.instrument.category,
        "symbol": execution.instrument.symbol,
        "execId": execution.exec_id,
        "execPrice": wire(execution.price),
        "execQty": wire(execution.quantity),
        "orderId": execution.order_id,
        "isMaker": execution.is_maker,
        "orderLinkId": "" if execution.is_maker else execution.link_id,
        "side": execution.side,
        "execTime": str(execution.time_ms),
        "seq": execution.seq,
    }


def coin_row(account: Account, coin: str, margin: Margin) -> Row:
    balance = account.balance(coin)
    profit = margin.coin_profit(account, coin)
    equity = balance.total + profit
    return {
        "coin": coin,
        "equity": wire(round(equity, 18)),
        "usdValue": wire(round(equity * margin.in_usd(coin), 8)),
        "walletBalance": wire(balance.total),
        "availableToWithdraw": "",
        "availableToBorrow": "",
        "borrowAmount": "0",
        "accruedInterest": "0",
        "totalOrderIM": wire(round(balance.order_margin, 8)),
        "totalPositionIM": wire(round(margin.coin_initial(account, coin), 8)),
        "totalPositionMM": wire(round(margin.coin_maintenance(account, coin), 8)),
        "unrealisedPnl": wire(round(profit, 18)),
        "cumRealisedPnl": wire(account.realised.get(coin, ZERO)),
        "bonus": "0",
        "collateralSwitch": True,
        "marginCollateral": True,
        "locked": wire(balance.locked),
        "spotHedgingQty": "0",
        "spotBorrow": "0",
        "colRes": "0",
    }


def wallet_row(account: Account, coins: Iterable[str], margin: Margin) -> Row:
    """The account row with the coins asked for; its USD sums are over all coins, and empty in isolated margin."""
    summary = margin.summary(account)
    isolated = account.margin_mode == ISOLATED

    def usd(value: Decimal) -> str:
        return "" if isolated else wire(round(value, 8))

    def rate(value: Decimal) -> str:
        return usd(round(value / summary.balance, 4)) if summary.balance > 0 else usd(ZERO)

    return {
        "accountType": "UNIFIED",
        "accountIMRate": rate(summary.initial),
        "accountMMRate": rate(summary.maintenance),
        "accountIMRateByMp": rate(summary.initial),
        "accountMMRateByMp": rate(summary.maintenance),
        "totalEquity": wire(round(summary.balance, 8)),
        "totalWalletBalance": usd(summary.wallet),
        "totalMarginBalance": usd(summary.balance),
        "totalAvailableBalance": usd(summary.available),
        "totalPerpUPL": usd(summary.profit),
        "totalInitialMargin": usd(summary.initial),
        "totalMaintenanceMargin": usd(summary.maintenance),
        "totalInitialMarginByMp": usd(summary.initial),
        "totalMaintenanceMarginByMp": usd(summary.maintenance),
        "accountLTV": "0",
        "coin": [coin_row(account, coin, margin) for coin in coins],
    }
