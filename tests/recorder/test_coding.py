"""Facts and events come back from a file exactly as they went in."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from qkt import InvalidRequestError, LimitOrder, MarketOrder, OrderModification, Side, StopLimitOrder
from qkt.events import BalancesUpdated, OrderFilled
from qkt.model.balances import CoinBalance, Wallet
from qkt.orders.facts import ModifyIntended, SubmitIntended
from qkt.recorder.coding import decode, encode
from qkt.testing.builders import acknowledged, execution_reported, order_reported, submit_intended

S = "BYBIT_LINEAR:BTCUSDT"
VALUES: list[Any] = [
    submit_intended(),
    acknowledged(),
    order_reported("PartiallyFilled", "0.50", reason="=1 #Side.BUY ~", origin="reconcile"),
    execution_reported("e1", "1E-8", leaves="0.10", fee=Decimal("-0.0")),
    ModifyIntended(client_order_id="c1", changes=OrderModification(new_limit_price=Decimal("9.90"))),
    SubmitIntended(
        client_order_id="c1",
        request=StopLimitOrder(
            symbol=S,
            side=Side.SELL,
            quantity=Decimal(1),
            stop_price=Decimal(2),
            limit_price=Decimal(3),
            reduce_only=True,
        ),
        sent_ms=1,
    ),
    SubmitIntended(
        client_order_id="c1",
        request=MarketOrder(symbol=S, side=Side.BUY, quantity=Decimal(1), slippage_ticks=5),
        sent_ms=1,
    ),
    SubmitIntended(
        client_order_id="c1",
        request=LimitOrder(
            symbol=S, side=Side.BUY, quantity=Decimal(1), limit_price=Decimal(1), extra={"smpType": "=None", "n": 1}
        ),
        sent_ms=1,
    ),
    OrderFilled(client_order_id="é", symbol=S, side=Side.BUY, price=Decimal("1.50"), quantity=Decimal("1E+3")),
    BalancesUpdated(
        balances={"USDT": Decimal("1.0")},
        wallet=Wallet(coins={"USDT": CoinBalance(total=None)}),
        changed=frozenset("AB"),
    ),
    (1, "x", None, True),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    back = decode(json.loads(json.dumps(encode(value))))

    assert back == value
    assert repr(back) == repr(value)  # 1.50 is not 1.5


@pytest.mark.parametrize(
    "told",
    [{"_": "Popen", "args": ["true"]}, {"_": "OrderFilled", "nonsense": 1}, "#Side.UP", "#os.system", "=one", {"x": 1}],
)
def test_a_file_can_name_nothing_but_values_of_qkt(told: Any) -> None:
    with pytest.raises(InvalidRequestError):
        decode(told)


def test_a_value_that_is_not_of_qkt_is_not_recorded() -> None:
    with pytest.raises(TypeError, match="object cannot be recorded"):
        encode(object())
