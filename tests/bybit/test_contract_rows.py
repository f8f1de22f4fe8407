"""What rows of contracts say beside sizes and prices: exits, position sides, margins, funding, taxes, the account."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from qkt.bybit.codec.balances import BybitBalanceTranslator, account_of
from qkt.bybit.codec.executions import is_funding, to_execution, to_funding
from qkt.bybit.codec.instruments import to_rules
from qkt.bybit.codec.orders import BybitOrderTranslator
from qkt.bybit.codec.positions import to_position
from qkt.model.order_kinds import PLAIN, ExitMode, PositionSide, Side, StopKind, TriggerBy
from qkt.model.positions import PositionStatus
from qkt.testing.builders import execution_row, order_row

D = Decimal


def position_row(**changes: Any) -> dict[str, Any]:
    """A long position of 0.2 ETH, as the stream prints it (docs v5/websocket/private/position)."""
    return {
        "positionIdx": 0, "symbol": "ETHUSDT", "side": "Buy", "size": "0.2", "entryPrice": "3120.15", "leverage": "10",
        "markPrice": "3120.4", "positionIM": "62.74", "positionMM": "3.46", "takeProfit": "0", "stopLoss": "3000",
        "trailingStop": "0", "unrealisedPnl": "0.05", "cumRealisedPnl": "-7.5", "curRealisedPnl": "-0.124806",
        "liqPrice": "2811.1", "positionStatus": "Normal", "adlRankIndicator": 2, "isReduceOnly": False,
        "updatedTime": "1767225607712", "seq": 330514772644, "category": "linear", **changes,
    }  # fmt: skip


def test_a_position_row_tells_price_margin_profit_and_exits() -> None:
    position = to_position(position_row(), "linear", as_of_ms=7).view()

    assert (position.quantity, position.avg_price, position.mark_price) == (D("0.2"), D("3120.15"), D("3120.4"))
    assert (position.liquidation_price, position.leverage) == (D("2811.1"), D(10))
    assert (position.initial_margin, position.maintenance_margin) == (D("62.74"), D("3.46"))
    assert (position.unrealized_pnl, position.realized_pnl) == (D("0.05"), D("-0.124806"))
    assert (position.take_profit, position.stop_loss, position.trailing_stop) == (None, D(3000), None)
    assert (position.position_side, position.status, position.adl_rank) == (None, PositionStatus.NORMAL, 2)
    assert position.as_of_ms == 7


@pytest.mark.parametrize(
    ("word", "status"),
    [("Liq", PositionStatus.LIQUIDATING), ("Adl", PositionStatus.ADL), ("New", PositionStatus.UNKNOWN)],
)
def test_a_position_row_tells_what_the_venue_does_with_it(word: str, status: PositionStatus) -> None:
    assert to_position(position_row(positionStatus=word), "linear", as_of_ms=0).status is status


def test_a_position_row_of_hedge_mode_tells_its_side() -> None:
    row = position_row(positionIdx=2, side="Sell")

    assert to_position(row, "linear", as_of_ms=0).view().position_side is PositionSide.SHORT


def test_a_blank_liquidation_price_is_none_and_no_price() -> None:
    assert to_position(position_row(liqPrice=""), "linear", as_of_ms=0).liquidation_price is None


def a_child_row(**changes: Any) -> dict[str, Any]:
    """The stop loss that the venue creates for an order of ours."""
    return order_row(
        category="linear", orderLinkId="", parentOrderLinkId="c1", orderStatus="Untriggered", orderType="Market",
        side="Sell", stopOrderType="PartialStopLoss", createType="CreateByPartialStopLoss", reduceOnly=True,
        closeOnTrigger=True, positionIdx=1, triggerPrice="90", triggerBy="MarkPrice", tpslMode="Partial", **changes,
    )  # fmt: skip


def test_an_order_row_tells_an_exit_its_parent_and_its_position() -> None:
    details = BybitOrderTranslator.to_report(a_child_row(), "linear").details

    assert (details.stop_kind, details.parent_client_order_id) == (StopKind.PARTIAL_STOP_LOSS, "c1")
    assert (details.reduce_only, details.close_on_trigger) == (True, True)
    assert (details.position_side, details.trigger_by) == (PositionSide.LONG, TriggerBy.MARK)
    assert details.exit_mode is ExitMode.PARTIAL


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"stopOrderType": "TakeProfit"}, StopKind.TAKE_PROFIT),
        ({"stopOrderType": "TrailingStop"}, StopKind.TRAILING_STOP),
        ({"stopOrderType": "Stop"}, StopKind.CONDITIONAL),
        ({"stopOrderType": "UNKNOWN", "createType": "CreateByTakeOver_PassThrough"}, StopKind.LIQUIDATION),
        ({"stopOrderType": "", "createType": "CreateByAdl_PassThrough"}, StopKind.ADL),
        ({"stopOrderType": "MmRateClose"}, StopKind.OTHER),
        ({"stopOrderType": "", "createType": "CreateByUser"}, StopKind.NONE),
    ],
)
def test_an_order_row_tells_a_take_profit_from_a_liquidation(row: dict[str, Any], kind: StopKind) -> None:
    assert BybitOrderTranslator.to_report(order_row(category="linear", **row), "linear").details.stop_kind is kind


def test_an_order_row_tells_the_exits_it_carries() -> None:
    row = order_row(category="linear", takeProfit="110", stopLoss="90", tpslMode="Full")

    details = BybitOrderTranslator.to_report(row, "linear").details

    assert (details.take_profit, details.stop_loss, details.exit_mode) == (D(110), D(90), ExitMode.FULL)


def test_a_plain_spot_row_has_plain_details() -> None:
    row = order_row(takeProfit="0.00", stopLoss="0.00", positionIdx=0, reduceOnly=False, triggerBy="", tpslMode="")

    assert BybitOrderTranslator.to_report(row, "spot").details is PLAIN


def a_funding_row(**changes: Any) -> dict[str, Any]:
    return execution_row(
        category="linear", execType="Funding", orderQty="0", orderType="UNKNOWN", execQty="0.2", execPrice="3120",
        execFee="0.0624", feeRate="0.0001", feeCurrency="", symbol="ETHUSDT", execId="f1", **changes,
    )  # fmt: skip


def test_a_funding_row_is_a_payment_in_the_settle_coin() -> None:
    row = a_funding_row()

    payment = to_funding(row, "linear")

    assert is_funding(row, "linear")
    assert (payment.amount, payment.currency, payment.rate) == (D("0.0624"), "USDT", D("0.0001"))
    assert (payment.side, payment.quantity, payment.price) == (Side.BUY, D("0.2"), D(3120))


@pytest.mark.parametrize(
    ("symbol", "coin"), [("BTCUSDT", "USDT"), ("BTCPERP", "USDC"), ("BTC-26JUN26", "USDC"), ("BTCUSDT-26JUN26", "USDT")]
)
def test_a_blank_fee_coin_of_a_contract_is_its_settle_coin(symbol: str, coin: str) -> None:
    row = execution_row(category="linear", symbol=symbol, feeCurrency="")

    assert to_execution(row, "linear").fee_currency == coin


def test_a_blank_fee_coin_of_spot_stays_blank() -> None:
    assert to_execution(execution_row(feeCurrency=""), "spot").fee_currency == ""


def test_taxes_on_top_of_a_fee_are_read() -> None:
    tax = {"feeCoin": "USDT", "feeType": "GST", "subFeeType": "IND_GST", "feeRate": "0.18", "fee": "0.004613796"}

    execution = to_execution(execution_row(category="linear", extraFees=[tax]), "linear")

    assert execution.taxes == (("USDT", D("0.004613796")),)
    assert to_execution(execution_row(extraFees=""), "spot").taxes == ()


def test_the_account_row_tells_equity_and_margin_rates() -> None:
    row = {"totalEquity": "1201.94", "totalAvailableBalance": "1180.10", "accountIMRate": "0.02", "accountMMRate": ""}

    account = account_of(row, as_of_ms=5)

    assert (account.equity, account.total_available) == (D("1201.94"), D("1180.10"))
    assert (account.initial_margin_rate, account.maintenance_margin_rate) == (D("0.02"), None)
    assert account.as_of_ms == 5


def test_margin_of_positions_and_orders_is_not_available() -> None:
    coin = {
        "coin": "USDT", "walletBalance": "100", "locked": "10", "totalPositionIM": "20", "totalOrderIM": "5",
        "spotBorrow": "3", "borrowAmount": "4", "accruedInterest": "0.1", "equity": "98", "unrealisedPnl": "1",
    }  # fmt: skip

    held = BybitBalanceTranslator.coins_of({"coin": [coin]})["USDT"]

    assert held.available == D(62)
    assert (held.position_margin, held.order_margin, held.borrowed, held.interest) == (D(20), D(5), D(4), D("0.1"))


def test_rules_tell_the_settle_coin() -> None:
    row = {"symbol": "BTCPERP", "baseCoin": "BTC", "quoteCoin": "USD", "settleCoin": "USDC"}

    assert to_rules(row, "linear", as_of_ms=0).settle_coin == "USDC"
