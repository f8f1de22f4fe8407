"""A transport of the user's own: only the contract's members, only one way to be found, and errors of its own kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
import requests

from qkt.broker.protocol import SubmitOutcome
from qkt.bus import EventBus
from qkt.bybit.spot import BybitSpotBroker
from qkt.errors import ReconcileError
from qkt.events import HealthDegraded
from qkt.testing import FixedClock, TickScheduler
from qkt.testing.builders import a_limit_order, envelope, wallet_envelope

NOW = 1_767_225_600_000
REALTIME = "/v5/order/realtime"


@dataclass
class OwnTransport:
    """What the contract asks for, and nothing else; compares by value, so it has no hash."""

    answers: dict[str, Any] = field(default_factory=dict)
    balances: Mapping[str, Decimal] = field(default_factory=dict)
    is_connected: bool = True

    def update_balances(self, snapshot: Any) -> None:
        self.balances = snapshot

    def get_signed(self, path: Any, query: Any) -> Any:
        return self._answer(path, wallet_envelope(USDT="1") if path.endswith("wallet-balance") else envelope())

    def post_signed(self, path: Any, body: Any) -> Any:
        return self._answer(path, {"retCode": 0, "retMsg": "OK", "result": {"orderId": "77", "orderLinkId": ""}})

    def _answer(self, path: Any, default: Any) -> Any:
        answer = self.answers.get(path, default)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def subscribe(self, topic: Any, listener: Any) -> None:
        pass

    def on_disconnect(self, handler: Any) -> None:
        pass

    def on_reconnect(self, handler: Any) -> None:
        pass


@pytest.fixture
def transport() -> Any:
    return OwnTransport()


@pytest.fixture
def events() -> list[Any]:
    return []


@pytest.fixture
def own_broker(transport: Any, events: list[Any]) -> Iterator[Any]:
    bus = EventBus(FixedClock(NOW))
    bus.subscribe(HealthDegraded, events.append)
    with BybitSpotBroker(transport, bus, FixedClock(NOW), poll_scheduler=TickScheduler()) as broker:
        yield broker


def test_a_transport_that_compares_by_value_carries_a_broker(transport: Any, own_broker: Any) -> None:
    assert own_broker.submit(a_limit_order()).accepted
    assert transport.balances == {"USDT": Decimal(1)}


def test_two_transports_that_are_equal_do_not_share_a_wallet() -> None:
    one, other = OwnTransport(), OwnTransport()
    assert one == other
    for transport, total in ((one, "1"), (other, "2")):
        transport.answers["/v5/account/wallet-balance"] = wallet_envelope(USDT=total)
        BybitSpotBroker(transport, EventBus(FixedClock(NOW)), FixedClock(NOW), poll_scheduler=TickScheduler()).close()  # type: ignore[arg-type]

    assert (one.balances, other.balances) == ({"USDT": Decimal(1)}, {"USDT": Decimal(2)})


def test_a_read_that_breaks_in_the_transport_fails_its_path_and_not_the_round(
    transport: Any, own_broker: Any, events: list[Any]
) -> None:
    transport.answers[REALTIME] = requests.ConnectionError("reset by peer")

    reports = [own_broker.reconcile(), own_broker.reconcile()]

    assert [path.path for path in reports[0].failures] == ["orders"]
    assert "reset by peer" in str(reports[0])
    assert [event.domain for event in events] == ["orders"]


def test_construction_on_a_transport_that_breaks_fails_loud_with_the_report(transport: Any) -> None:
    transport.answers[REALTIME] = OSError("no route to host")

    with pytest.raises(ReconcileError, match="no route to host") as caught:
        BybitSpotBroker(transport, EventBus(FixedClock(NOW)), FixedClock(NOW), poll_scheduler=TickScheduler())

    assert caught.value.report is not None


def test_an_error_envelope_that_was_not_raised_is_a_refusal_and_no_empty_list(transport: Any, own_broker: Any) -> None:
    transport.answers[REALTIME] = envelope() | {"retCode": 10016, "retMsg": "Server error"}
    transport.answers["/v5/order/create"] = {"retCode": 170131, "retMsg": "Insufficient balance.", "result": {}}

    ack = own_broker.submit(a_limit_order())

    assert [path.path for path in own_broker.reconcile().failures] == ["orders"]
    assert (ack.outcome, "170131" in ack.reject_reason) == (SubmitOutcome.REJECTED, True)


def test_a_balance_cache_that_breaks_fails_its_path_and_what_the_round_found_is_told(
    transport: Any, own_broker: Any, events: list[Any]
) -> None:
    def broken(snapshot: Any) -> None:
        raise RuntimeError("the cache is full")

    transport.update_balances = broken

    assert [path.path for path in own_broker.reconcile().failures] == ["balances"]
    assert [event.domain for event in events] == []
    own_broker.reconcile()
    assert [event.domain for event in events] == ["balances"]
