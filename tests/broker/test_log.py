"""LogBroker: the dry run."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Any

import pytest

from qkt.broker.paper.dry_run import LogBroker
from qkt.broker.protocol import Broker, OrderTypeCapability, SubmitOutcome
from qkt.bus import EventBus
from qkt.errors import InvalidRequestError
from qkt.events import BrokerEvent, OrderAccepted, OrderCancelled, OrderModified
from qkt.model.orders import (
    IfTouchedOrder,
    LimitOrder,
    MarketOrder,
    OrderModification,
    OrderRequest,
    OrderStatus,
    Side,
    StopLimitOrder,
    StopOrder,
    TimeInForce,
)

DRY_RUN = "qkt.broker.paper.dry_run"
ANY = {"symbol": "ANYTHING:AT-ALL", "side": Side.BUY, "quantity": Decimal("0.10")}
LIMIT = LimitOrder(**ANY, limit_price=Decimal("60000"), client_order_id="bot-1")  # type: ignore[arg-type]


@pytest.fixture
def heard() -> list[BrokerEvent]:
    return []


@pytest.fixture
def broker(heard: Any) -> LogBroker:
    bus = EventBus()
    bus.subscribe(BrokerEvent, heard.append)
    return LogBroker(bus)


def test_it_is_a_broker(broker: Any) -> None:
    checked: Broker = broker
    assert isinstance(checked, Broker)


@pytest.mark.parametrize(
    "order",
    [
        MarketOrder(**ANY),  # type: ignore[arg-type]
        MarketOrder(**ANY, quote_sized=True),  # type: ignore[arg-type]
        LIMIT,
        LimitOrder(**ANY, limit_price=1, take_profit=2, stop_loss=Decimal("0.5")),  # type: ignore[arg-type]
        LimitOrder(**ANY, limit_price=1, time_in_force=TimeInForce.DAY),  # type: ignore[arg-type]
        LimitOrder(**ANY, limit_price=1, time_in_force=TimeInForce.FOK),  # type: ignore[arg-type]
        LimitOrder(**ANY, limit_price=1, time_in_force=TimeInForce.POST_ONLY),  # type: ignore[arg-type]
        StopOrder(**ANY, stop_price=1),  # type: ignore[arg-type]
        StopLimitOrder(**ANY, stop_price=1, limit_price=1),  # type: ignore[arg-type]
        IfTouchedOrder(**ANY, trigger_price=1),  # type: ignore[arg-type]
    ],
)
def test_every_order_is_accepted_announced_and_stays_open(broker: Any, heard: Any, order: OrderRequest) -> None:
    ack = broker.submit(order)
    assert ack.accepted
    assert [(type(event), event.client_order_id) for event in heard] == [(OrderAccepted, ack.client_order_id)]
    assert [view.client_order_id for view in broker.open_orders()] == [ack.client_order_id]


def dry_run_lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The lines of the dry run alone, whatever level an earlier test of this worker gave to the other loggers."""
    return [record for record in caplog.records if record.name == DRY_RUN]


def test_each_request_is_one_line_of_plain_figures(broker: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, DRY_RUN)
    broker.submit(LIMIT)
    broker.modify("bot-1", OrderModification(new_limit_price=Decimal("1E+5")))
    broker.cancel("bot-1")
    ids = "source=LOG client_order_id=bot-1 broker_order_id=log-1 outcome=ACCEPTED"
    assert [(record.levelname, record.getMessage()) for record in dry_run_lines(caplog)] == [
        (
            "INFO",
            f"dry run submit {ids} type=LimitOrder symbol=ANYTHING:AT-ALL side=BUY quantity=0.10 time_in_force=GTC "
            "limit_price=60000",
        ),
        ("INFO", f"dry run modify {ids} type=OrderModification new_limit_price=100000"),
        ("INFO", f"dry run cancel {ids}"),
    ]


def test_the_line_is_written_before_any_handler_hears_of_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, DRY_RUN)
    bus, lines_at_event = EventBus(), []
    bus.subscribe(OrderAccepted, lambda event: lines_at_event.append(len(dry_run_lines(caplog))))
    LogBroker(bus).submit(LIMIT)
    assert lines_at_event == [1]


def test_cancel_and_modify_work_as_at_a_venue(broker: Any, heard: Any) -> None:
    broker.submit(LIMIT)
    broker.modify("bot-1", OrderModification(new_quantity=Decimal(2)))
    broker.cancel("bot-1")
    assert [type(event) for event in heard] == [OrderAccepted, OrderModified, OrderCancelled]
    assert broker.open_orders() == []
    assert broker.order("bot-1").status is OrderStatus.CANCELLED


def test_cancelling_twice_is_refused_the_second_time(broker: Any) -> None:
    broker.submit(LIMIT)
    broker.cancel("bot-1")
    assert broker.cancel("bot-1").outcome is SubmitOutcome.REJECTED


@pytest.mark.parametrize(
    "call",
    [
        lambda broker: broker.cancel("nobody"),
        lambda broker: broker.cancel(broker_order_id="nobody"),
        lambda broker: broker.modify("nobody", OrderModification(new_quantity=Decimal(1))),
        lambda broker: broker.order("nobody"),
        lambda broker: broker.wait("nobody", timeout_ms=0),
    ],
)
def test_an_unknown_id_is_refused_by_name(broker: Any, call: Any) -> None:
    with pytest.raises(InvalidRequestError, match="LOG knows no order 'nobody'"):
        call(broker)


def test_a_client_order_id_is_used_once_even_after_its_order_ended(broker: Any) -> None:
    broker.submit(LIMIT)
    broker.cancel("bot-1")
    with pytest.raises(InvalidRequestError, match="'bot-1' was used before"):
        broker.submit(LIMIT)


@pytest.mark.parametrize(
    "call", [lambda broker: broker.cancel(), lambda broker: broker.cancel("a", broker_order_id="b")]
)
def test_cancel_takes_exactly_one_id(broker: Any, call: Any) -> None:
    with pytest.raises(InvalidRequestError, match="exactly one"):
        call(broker)


@pytest.mark.parametrize(
    "call", [lambda broker: broker.submit({"symbol": "X"}), lambda broker: broker.modify("x", {"new_quantity": 1})]
)
def test_a_dict_is_not_an_order(broker: Any, call: Any) -> None:
    with pytest.raises(InvalidRequestError, match="takes an"):
        call(broker)


def test_it_serves_everything_and_says_what_it_can_do(broker: Any) -> None:
    assert broker.supports("ANYTHING:AT-ALL")
    assert broker.capabilities_for("ANYTHING:AT-ALL") == frozenset(OrderTypeCapability)


def test_the_with_block_closes_it(broker: Any) -> None:
    with broker:
        broker.submit(LIMIT)
    with pytest.raises(InvalidRequestError, match="LOG is closed"):
        broker.submit(MarketOrder(**ANY))  # type: ignore[arg-type]


def test_the_repr_tells_what_it_is_doing(broker: Any) -> None:
    broker.submit(LIMIT)
    assert repr(broker) == "<LogBroker LOG open_orders=1>"
