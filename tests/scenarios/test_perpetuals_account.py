"""Perpetuals on fakes: funding, taxes and the position mode of an account."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from qkt.errors import InvalidRequestError, OutcomeUnknownError, VenueUnavailableError
from qkt.events import FillEvent, FundingPaid
from qkt.model.order_kinds import PositionSide, Side
from qkt.model.orders import LimitOrder
from qkt.model.positions import PositionMode
from qkt.testing.builders import refusal
from tests.support.perp_stage import CREATE, POSITIONS, SYMBOL, PerpStage

D = Decimal


@pytest.fixture
def perp() -> Iterator[PerpStage]:
    stage = PerpStage()
    yield stage
    stage.close()


def an_order(**changes: Any) -> LimitOrder:
    return LimitOrder(symbol=SYMBOL, side=Side.BUY, quantity=D(1), limit_price=D(90), **changes)


def test_S117_a_funding_that_frames_and_rounds_show_is_paid_once(perp: PerpStage) -> None:
    perp.holds_a_long()
    perp.venue.funds("f1", "0.06")

    perp.venue.push_execution("f1")
    perp.venue.push_execution("f1")
    perp.clock.advance_ms(1_000)
    perp.broker.reconcile()

    (event,) = perp.said(FundingPaid)
    assert (event.amount, event.currency, event.exec_id, event.origin) == (D("0.06"), "USDT", "f1", "stream")
    assert perp.broker.costs(SYMBOL).funding == {"USDT": D("0.06")}
    assert perp.said(FillEvent) == []


def test_S118_a_funding_paid_while_the_stream_was_down_is_read(perp: PerpStage) -> None:
    perp.holds_a_long()
    perp.client.emit_disconnect("gone")

    perp.venue.funds("f1", "-0.02")
    perp.pass_ms(31_000)

    (event,) = perp.said(FundingPaid)
    assert (event.amount, event.origin) == (D("-0.02"), "reconcile")


def test_S119_fees_taxes_and_funding_of_a_symbol_are_apart_and_together(perp: PerpStage) -> None:
    order_id = perp.buys("1")
    tax = [{"feeCoin": "USDT", "feeType": "GST", "subFeeType": "IND_GST", "feeRate": "0.18", "fee": "0.009"}]
    perp.venue.trades(order_id, "e1", "1", extraFees=tax)
    perp.venue.funds("f1", "0.01")
    for exec_id in ("e1", "f1", "e1"):
        perp.venue.push_execution(exec_id)

    costs = perp.broker.costs(SYMBOL)

    assert (costs.fees, costs.taxes, costs.funding) == ({"USDT": D("0.05")}, {"USDT": D("0.009")}, {"USDT": D("0.01")})
    assert costs.total == {"USDT": D("0.069")}
    assert (costs.fills, costs.funding_payments) == (1, 1)


def hedged(perp: PerpStage) -> None:
    """The symbol is in hedge mode, and nothing is held."""
    rows = [{**perp.venue.position, "positionIdx": index} for index in (1, 2)]
    perp.client.responses[POSITIONS] = lambda query: _list(rows if "symbol" in query else [])


def test_S120_an_order_without_a_side_is_not_sent_in_hedge_mode(perp: PerpStage) -> None:
    hedged(perp)

    with pytest.raises(InvalidRequestError, match="hedge mode"):
        perp.broker.submit(an_order())

    assert [request for request in perp.client.posts if request.path == CREATE] == []
    assert perp.broker.position_mode(SYMBOL) is PositionMode.HEDGE


def test_S121_an_order_with_a_side_is_not_sent_in_one_way_mode(perp: PerpStage) -> None:
    with pytest.raises(InvalidRequestError, match="one-way mode"):
        perp.broker.submit_many([an_order(position_side=PositionSide.LONG)])

    assert [request for request in perp.client.posts if request.path == CREATE] == []


def test_S122_the_mode_is_read_once_per_symbol_and_again_after_a_refusal(perp: PerpStage) -> None:
    perp.client.responses[CREATE] = refusal(10001, "position idx not match position mode")

    for _ in range(2):
        perp.broker.submit(an_order())
        perp.broker.check(an_order())
        perp.broker.check(an_order())

    asked = [request for request in perp.client.gets if request.path == POSITIONS and "symbol" in request]
    assert len(asked) == 3


def test_S123_while_the_mode_cannot_be_read_the_order_goes_out(perp: PerpStage) -> None:
    _ = perp.broker
    perp.client.responses[POSITIONS] = VenueUnavailableError("busy", path=POSITIONS)

    ack = perp.broker.submit(an_order(position_side=PositionSide.LONG))

    assert ack.accepted
    assert perp.client.posts[-1].body["positionIdx"] == 1


@pytest.mark.parametrize(
    ("path", "code", "change"),
    [
        ("/v5/position/set-leverage", 110043, lambda broker: broker.set_leverage(SYMBOL, 5)),
        ("/v5/position/switch-mode", 110025, lambda broker: broker.set_position_mode(SYMBOL, PositionMode.HEDGE)),
        ("/v5/position/trading-stop", 34040, lambda broker: broker.protect(SYMBOL, stop_loss=D(90))),
    ],
)
def test_S124_a_setting_that_is_so_already_is_a_success(perp: PerpStage, path: str, code: int, change: Any) -> None:
    perp.holds_a_long()
    perp.client.responses[path] = refusal(code, "not modified")

    change(perp.broker)

    assert perp.client.posts[-1].path == path


def test_S125_a_lost_answer_to_a_switch_of_mode_leaves_the_mode_to_be_read(perp: PerpStage) -> None:
    assert perp.broker.position_mode(SYMBOL) is PositionMode.ONE_WAY
    hedged(perp)
    perp.client.responses["/v5/position/switch-mode"] = OutcomeUnknownError("no answer", path="switch-mode")

    with pytest.raises(OutcomeUnknownError):
        perp.broker.set_position_mode("USDT", PositionMode.HEDGE)

    assert perp.broker.position_mode(SYMBOL) is PositionMode.HEDGE


def _list(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"retCode": 0, "retMsg": "OK", "result": {"list": rows, "nextPageCursor": ""}, "retExtInfo": {}, "time": 0}
