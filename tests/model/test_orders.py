"""Orders are checked when they are built: the error stands in the caller's own line."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import attrs
import pytest

from qkt.errors import InvalidRequestError
from qkt.model.orders import (
    IfTouchedOrder,
    LimitOrder,
    MarketOrder,
    OrderModification,
    Side,
    StopLimitOrder,
    StopOrder,
    TimeInForce,
)
from qkt.testing.builders import SYMBOL, a_limit_order


@pytest.mark.parametrize("quantity", [0, Decimal(0), Decimal("-1"), Decimal("NaN"), 0.5, "1", None, True])
def test_a_quantity_that_is_not_a_positive_decimal_is_refused(quantity: Any) -> None:
    with pytest.raises(InvalidRequestError, match="quantity"):
        a_limit_order(quantity=quantity)


def test_the_message_names_the_field() -> None:
    with pytest.raises(InvalidRequestError, match="limit_price must be a Decimal, not float"):
        a_limit_order(limit_price=60000.5)


def test_a_side_as_text_is_refused_with_the_choices() -> None:
    with pytest.raises(InvalidRequestError, match=r"Side\.BUY, Side\.SELL"):
        a_limit_order(side="buy")


def test_an_order_without_a_symbol_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="BYBIT_SPOT:BTCUSDT"):
        a_limit_order(symbol="")


def test_a_client_order_id_the_venue_would_refuse_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="36"):
        a_limit_order(client_order_id="x" * 37)


def test_a_market_order_takes_no_lifetime_it_could_not_keep() -> None:
    with pytest.raises(InvalidRequestError, match="always IOC"):
        MarketOrder(symbol=SYMBOL, side=Side.BUY, quantity=Decimal(1), time_in_force=TimeInForce.GTC)


def test_a_modification_that_changes_nothing_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="changes nothing"):
        OrderModification()


@pytest.mark.parametrize(
    ("kind", "prices"),
    [
        (StopOrder, {"stop_price": Decimal(0)}),
        (StopLimitOrder, {"stop_price": Decimal(1), "limit_price": Decimal(-1)}),
        (IfTouchedOrder, {"trigger_price": Decimal(0)}),
        (LimitOrder, {"limit_price": Decimal(0)}),
    ],
)
def test_a_price_at_or_below_zero_is_refused(kind: Any, prices: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="above zero"):
        kind(symbol=SYMBOL, side=Side.SELL, quantity=Decimal(1), **prices)


def test_whole_numbers_become_decimals() -> None:
    assert a_limit_order(quantity=2).quantity == Decimal(2)


def test_an_order_cannot_be_edited_after_it_was_built() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        a_limit_order().quantity = Decimal(9)  # type: ignore[misc]
