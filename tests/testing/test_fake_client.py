"""The fake transport refuses typos, is silent in its default use, and forgets listeners."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Any

import pytest

from qkt.bus import EventBus
from qkt.bybit.spot import BybitSpotBroker
from qkt.bybit.transport.protocol import StreamFault
from qkt.errors import InvalidRequestError
from qkt.model.orders import LimitOrder, Side
from qkt.testing import FakeBybitClient, TickScheduler


def test_a_typo_in_the_path_of_a_response_is_an_error_that_names_the_right_one() -> None:
    client = FakeBybitClient()

    with pytest.raises(InvalidRequestError, match="did you mean '/v5/order/create'"):
        client.responses["/v5/order/craete"] = {}
    with pytest.raises(InvalidRequestError, match="knows no path"):
        client.responses.update({"/v5/nothing": {}})
    with pytest.raises(InvalidRequestError, match="knows no path"):
        client.responses = {"/v5/nothing": {}}


def test_a_path_of_the_users_own_is_named_at_construction() -> None:
    client = FakeBybitClient(extra_paths=["/v5/asset/deposit"])
    client.responses["/v5/asset/deposit"] = {"retCode": 0, "result": {"list": ["x"]}}

    assert client.get_signed("/v5/asset/deposit", {})["result"]["list"] == ["x"]


def test_a_broker_on_a_fake_logs_nothing_a_person_should_see(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.WARNING),
        BybitSpotBroker(FakeBybitClient(), EventBus(), poll_scheduler=TickScheduler()) as broker,
    ):
        order = LimitOrder(
            symbol="BYBIT_SPOT:BTCUSDT", side=Side.BUY, quantity=Decimal("0.1"), limit_price=Decimal("50000")
        )
        assert broker.submit(order).accepted

    assert caplog.text == ""


def test_faults_and_gaps_reach_their_handlers_until_they_are_forgotten() -> None:
    client = FakeBybitClient()
    heard: list[Any] = []
    client.on_fault(heard.append)
    client.on_gap(heard.append)
    fault = StreamFault(kind="topic", topic="order.spot", reason="no")

    client.emit_fault(fault)
    client.emit_gap("asleep")
    client.forget(heard.append)
    client.emit_gap("again")

    assert heard == [fault, "asleep"]
    assert client.topic_faults == {"order.spot": fault}
