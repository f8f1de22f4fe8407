"""Everything at once, by seed: lost replies, dropped, doubled and late frames, failing reads; then one calm hour.

Whatever happened, after the storm the bot believes what the venue holds, and has told it lawfully: for every order at
the venue its executions, each once, and its end; for every order that never got there one rejection.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import pytest

from qkt import OrderModification, Side
from qkt.errors import QktError, VenueUnavailableError
from qkt.events import OrderAccepted, OrderEvent
from qkt.testing.builders import envelope, frame, refusal
from tests.support.stage import (
    AMEND,
    CANCEL,
    CREATE,
    EXECUTIONS,
    HISTORY,
    LOST,
    OPEN,
    REALTIME,
    WALLET,
    Stage,
    ids,
    word,
)

ENDS = {
    "Filled": "filled",
    "Cancelled": "cancelled",
    "PartiallyFilledCanceled": "cancelled",
    "Rejected": "rejected",
}
SEEDS = range(30)


class Storm:
    """Random happenings on a stage; ``weather`` is the seed's."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage = stage
        self.venue = stage.venue
        self.weather = random.Random(seed)
        self.blows = True
        self.late: list[tuple[str, dict[str, Any]]] = []  # topic and frame
        self.told_no: set[str] = set()
        self.sent: list[str] = []
        self.trades = 0
        self.lagging: dict[str, int] = {}
        self.amended: Counter[str] = Counter()
        self.keeps_quantity: set[str] = set()  # an order under a disputed id is known for ours by its quantity (S16)
        self.venue.page_rows = 3
        _ = stage.broker
        for path in (REALTIME, HISTORY, EXECUTIONS, WALLET):
            self._make_unreliable(path)
        stage.client.responses.update({CREATE: self._create, CANCEL: self._cancel, AMEND: self._amend})

    def chance(self, of: float) -> bool:
        return self.blows and self.weather.random() < of

    def _make_unreliable(self, path: str) -> None:
        truthful: Callable[..., Any] = self.stage.client.responses[path]  # type: ignore[assignment]

        def answer(query: Mapping[str, Any]) -> Any:
            if self.chance(0.12):
                raise VenueUnavailableError("502")
            if self.chance(0.05):
                return self.weather.choice(["<html>", {**envelope(), "result": {}}, refusal(10016), refusal(10006)])
            now_ms = self.stage.clock.now_ms()
            self.venue.hidden = {name for name, until_ms in self.lagging.items() if self.blows and until_ms > now_ms}
            picture = truthful(query)
            if self.chance(0.1):
                self.happens()  # the picture is old before it arrives
            return picture

        self.stage.client.responses[path] = answer

    # -- the venue's side --------------------------------------------------------------------------------------------

    def pushes(self, topic: str, row: Mapping[str, Any]) -> None:
        """A frame: in time, twice, late, or never."""
        nameless = {"orderLinkId": ""} if self.chance(0.2) else {}
        told = frame(topic, {**row, **nameless}, created_ms=self.stage.clock.now_ms())
        fate = self.weather.random() if self.blows else 0.5
        if fate < 0.3:
            return
        if fate < 0.5:
            self.late.append((topic, told))
        if fate >= 0.4:
            self.delivers(topic, told)
        if fate > 0.9:
            self.delivers(topic, told)

    def may_lag(self, name: str) -> None:
        """The reads show it only seconds later."""
        if self.chance(0.25):
            self.lagging[name] = self.stage.clock.now_ms() + self.weather.randint(100, 8_000)

    def delivers(self, topic: str, told: dict[str, Any]) -> None:
        self.stage.client.emit_ws_frame(topic, told)

    def blows_in(self, number: int) -> None:
        """Late frames arrive, in any order."""
        self.weather.shuffle(self.late)
        for _ in range(min(number, len(self.late))):
            self.delivers(*self.late.pop())

    def standing(self) -> list[str]:
        return [order_id for order_id, row in self.venue.orders.items() if row["orderStatus"] in OPEN]

    def happens(self) -> None:
        """Something at the venue."""
        self.stage.clock.advance_ms(self.weather.randint(1, 40))
        if not self.standing():
            return
        order_id = self.weather.choice(self.standing())
        row = self.venue.orders[order_id]
        match self.weather.randint(0, 6):
            case 0:
                self.venue.ends(order_id, cancelType=self.weather.choice(["CancelByUser", "CancelBySmp", "UNKNOWN"]))
            case 1:
                self.amended[order_id] += 1
                self.venue.amends(order_id, price=str(self.weather.randint(50, 150)))
            case 2 if order_id not in self.keeps_quantity:
                self.amended[order_id] += 1
                self.venue.amends(order_id, qty=str(Decimal(row["cumExecQty"]) + self.weather.randint(1, 3)))
            case _:
                left = Decimal(row["qty"]) - Decimal(row["cumExecQty"])
                quantity = left if self.weather.random() < 0.3 else left / 2
                self.trades += 1
                execution = self.venue.trades(f"e{self.trades}", str(quantity), order_id=order_id)
                self.may_lag(f"e{self.trades}")
                self.pushes("execution.spot", execution)
        self.pushes("order.spot", row)

    def _create(self, body: Mapping[str, Any]) -> Any:
        fate = self.weather.random()
        if fate < 0.1:
            self.told_no.add(body["orderLinkId"])
            return refusal(170131, "Insufficient balance.")
        if fate < 0.2:
            self.told_no.add(body["orderLinkId"])
            raise LOST  # it never got there
        if fate < 0.25:
            delay_ms = self.weather.randint(100, 11_000)
            self.stage.scheduler.schedule_once(lambda: self._takes(body), delay_ms)  # type: ignore[arg-type]
            raise LOST  # it lies in the network and may arrive as long as its signature is good
        answer = self._takes(body)
        for _ in range(self.weather.randint(0, 2)):
            self.happens()
        if fate < 0.4:
            raise LOST
        if fate < 0.5:
            order_id = answer["result"]["orderId"]
            if self.amended[order_id]:
                return refusal(10016)
            self.keeps_quantity.add(order_id)
            return refusal(self.weather.choice([10016, 170007, 170141]))
        return answer

    def _takes(self, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = self.venue.create(body)
        self.may_lag(answer["result"]["orderId"])
        self.pushes("order.spot", self.venue.orders[answer["result"]["orderId"]])
        return answer

    def _request(self, body: Mapping[str, Any], carry_out: Callable[[dict[str, Any]], object]) -> Any:
        named = "orderId" if "orderId" in body else "orderLinkId"
        rows = [row for row in self.venue.orders.values() if row[named] == body[named]]
        if self.chance(0.2):
            raise LOST  # it never got there
        if not rows or rows[0]["orderStatus"] not in OPEN:
            return refusal(170213, "Order does not exist.")
        self.stage.clock.advance_ms(1)
        if self.weather.random() < 0.2:
            self.happens()
        if rows[0]["orderStatus"] in OPEN:
            carry_out(rows[0])
            self.pushes("order.spot", rows[0])
        if self.chance(0.3):
            raise LOST
        return ids(rows[0]["orderId"], rows[0]["orderLinkId"])

    def _cancel(self, body: Mapping[str, Any]) -> Any:
        return self._request(body, lambda row: self.venue.ends(row["orderId"]))

    def _amend(self, body: Mapping[str, Any]) -> Any:
        def carry_out(row: dict[str, Any]) -> None:
            quantity = body.get("qty", row["qty"])
            if Decimal(quantity) > Decimal(row["cumExecQty"]):
                self.amended[row["orderId"]] += 1
                self.venue.amends(row["orderId"], qty=quantity, price=body.get("price", row["price"]))

        return self._request(body, carry_out)

    # -- the bot's side ----------------------------------------------------------------------------------------------

    def acts(self) -> None:
        """The bot does something, or time passes."""
        broker = self.stage.broker
        own = [view for view in broker.open_orders() if not view.external]
        try:
            match self.weather.randint(0, 9):
                case 0 | 1:
                    self.sent.append(f"c{len(self.sent) + 1}")
                    side = self.weather.choice([Side.BUY, Side.SELL])
                    self.stage.submit(self.sent[-1], side=side, quantity=Decimal(self.weather.randint(1, 3)))
                case 2 if own:
                    broker.cancel(self.weather.choice(own).client_order_id)
                case 3 if own:
                    price = Decimal(self.weather.randint(50, 150))
                    broker.modify(self.weather.choice(own).client_order_id, OrderModification(new_limit_price=price))
                case 4:
                    broker.reconcile()
                case 5:
                    self.stage.pass_ms(self.weather.choice([50, 300, 1_500, 8_000, 31_000]))
                case 6:
                    self.blows_in(self.weather.randint(0, 3))
                case 7:
                    order_id = f"m{len(self.venue.orders)}"
                    self.venue.rests(order_id, "" if self.weather.random() < 0.5 else f"u{order_id}")
                    self.pushes("order.spot", self.venue.orders[order_id])
                case _:
                    self.happens()
        except QktError:
            pass  # refused before anything was sent

    def passes(self) -> None:
        """The weather turns: reads are true again, half of the late frames still arrive, and time passes."""
        self.blows = False
        self.blows_in(len(self.late) // 2)
        for _ in range(5):
            self.stage.pass_ms(31_000)
        self.blows_in(len(self.late))


@pytest.mark.parametrize("seed", SEEDS)
def test_S01_to_S38_after_any_storm_local_is_venue_and_everything_was_told_lawfully(stage: Stage, seed: int) -> None:
    storm = Storm(stage, seed)
    for _ in range(45):
        storm.acts()
    storm.passes()
    stage.assert_settled()

    told: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    for event in stage.ever_heard:
        if isinstance(event, OrderEvent):
            told.setdefault(event.client_order_id if not event.external else event.broker_order_id, []).append(
                word(event)
            )
            if isinstance(event, OrderAccepted):
                names[event.broker_order_id] = event.client_order_id
    for order_id, row in stage.venue.orders.items():
        link_id = row["orderLinkId"]
        traded = any(execution["orderId"] == order_id for execution in stage.venue.executions.values())
        if link_id not in storm.sent and order_id not in told and row["orderStatus"] not in OPEN and not traded:
            continue  # an outside order that came and went in the dark and did nothing
        said = told[link_id if link_id in storm.sent else order_id]
        there = [exec_id for exec_id, execution in stage.venue.executions.items() if execution["orderId"] == order_id]
        heard = [one.split()[1] for one in said if one.startswith(("part ", "filled "))]
        assert sorted(heard) == sorted(there), f"{order_id}: {said}"
        assert not any(one.endswith(" late") for one in said), f"{order_id} ended before its fills: {said}"
        assert said.count("modified") <= storm.amended[order_id], f"{order_id}: {said}"
        assert "accepted" in said, f"{order_id}: {said}"
        ends = [one.split()[0] for one in said if one.split()[0] in ENDS.values()]
        expected = [] if row["orderStatus"] in OPEN else [ENDS[row["orderStatus"]]]
        assert ends == expected, f"{order_id} {row['orderStatus']}: {said}"
        view = stage.broker.order(broker_order_id=order_id)
        assert view.external is (link_id not in storm.sent)
        assert view.missing_quantity == 0
    for client_order_id in storm.told_no:
        assert [one for one in told[client_order_id] if one not in ("unknown", "cancel failed")] == ["rejected"]
    assert stage.broker.health.ok
