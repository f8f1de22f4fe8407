"""The scenario of the demo: seven scenes that each cause one real fault and wait until the bot knows its effect.

The seed decides sizes and prices; the faults are always the same.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from random import Random

from qkt.broker.protocol import SubmitOutcome
from qkt.cli.demo.setup import SYMBOL, Night
from qkt.cli.formatting import number
from qkt.events import FillEvent, OrderAccepted, OrderCancelled, OrderFilled, OrderPartiallyFilled
from qkt.model.orders import LimitOrder, MarketOrder, OrderView, Side

CREATE = "/v5/order/create"


class Story:
    """The seven scenes, run on one `Night`."""

    def __init__(self, night: Night, seed: int) -> None:
        self._night = night
        self._venue = night.venue
        self._tell = night.teller
        self._random = Random(seed)

    def run(self) -> None:
        """Run all scenes; returns when the bot had time to learn everything."""
        scenes: list[tuple[str, Callable[[], None]]] = [
            ("A bot connects and trades", self._trades),
            ("Its stream breaks, and an order fills in the dark", self._is_filled_in_the_dark),
            ("An order is cancelled behind its back, and no frame says so", self._is_cancelled_silently),
            ("An order is sent, and the reply is lost", self._loses_a_reply),
            ("The venue's list of open orders lags behind", self._reads_a_late_list),
            ("Money moves and somebody trades by hand", self._sees_money_move),
        ]
        for at, (title, scene) in enumerate(scenes, 1):
            self._tell.scene(at, title)
            scene()
            self._night.pause(0.8)
        self._night.settle()

    def _trades(self) -> None:
        night, tell = self._night, self._tell
        night.connect()
        coins = ", ".join(f"{number(total)} {coin}" for coin, total in sorted(night.client.balances.items()))
        tell.bot(f"connected; holds {coins}")
        night.pause()
        size = self._lots(8, 20)
        tell.bot(f"A: buy {number(size)} BTC at market")
        night.broker.submit(MarketOrder(symbol=SYMBOL, side=Side.BUY, quantity=size, client_order_id="A"))
        night.until_told(OrderFilled, "A")
        night.pause()
        self._rests("B", Side.BUY, self._lots(20, 40), self._price(58_000, 59_500))
        night.pause()
        part = self._lots(5, 15)
        tell.venue(f"{number(part)} of B trade; the frame that says so is sent twice")
        self._venue.faults.add("frame_duplicate", topic="execution", count=1)
        self._venue.fill("B", part)
        night.until_told(OrderPartiallyFilled, "B")
        night.pause()

    def _is_filled_in_the_dark(self) -> None:
        night, tell = self._night, self._tell
        night.a_round_passes()
        tell.venue("cuts the stream and lets nobody back in")
        dark = self._venue.faults.add("stream_refused")
        self._venue.cut_streams()
        night.pause(0.7)
        left = night.view("B").leaves_quantity
        tell.venue(f"the other {number(left or Decimal(0))} of B trade; no stream, so no frame")
        self._venue.fill("B")
        tell.bot(f"believes {belief(night.view('B'))}")
        night.pause(1.0)
        tell.venue("lets the bot back in")
        dark.remove()
        if not night.until_told(OrderFilled, "B"):
            tell.bot(f"still believes {belief(night.view('B'))}")

    def _is_cancelled_silently(self) -> None:
        night, tell = self._night, self._tell
        self._rests("C", Side.SELL, self._lots(20, 60), self._price(61_000, 63_000))
        night.a_round_passes()
        tell.venue("C is cancelled from the owner's phone; the frame is dropped")
        self._venue.faults.add("frame_drop", topic="order", count=1)
        self._venue.cancel("C")
        night.pause(0.7)
        tell.bot(f"believes {belief(night.view('C'))}")
        if not night.until_told(OrderCancelled, "C"):
            tell.bot(f"still believes {belief(night.view('C'))}")

    def _loses_a_reply(self) -> None:
        night, tell = self._night, self._tell
        night.a_round_passes()
        size, price = self._lots(20, 50), self._price(57_000, 58_500)
        tell.bot(f"D: buy {number(size)} BTC at {number(price)}")
        tell.venue("has the order; its reply and its frame are lost on the way")
        self._venue.faults.add("reply_lost", path=CREATE, count=1, mode=night.pace.lost_reply)
        self._venue.faults.add("frame_drop", topic="order", count=1)
        if self._submitted("D", Side.BUY, size, price) is SubmitOutcome.REJECTED:
            tell.bot("was told that D never came to be, so it sends it again, as D2")
            self._submitted("D2", Side.BUY, size, price)
        night.until_told(OrderAccepted, "D")
        night.pause(0.7)
        for name in ("D", "D2"):
            if any(row["orderLinkId"] == name for row in self._venue.truth()["orders"]):
                tell.venue(f"{name} trades in full")
                self._venue.fill(name)
        night.until_told(FillEvent, "D")

    def _reads_a_late_list(self) -> None:
        night, tell = self._night, self._tell
        self._rests("E", Side.SELL, self._lots(10, 30), self._price(60_500, 62_000))
        tell.venue("its list of open orders shows how things stood 30 s ago")
        lag = self._venue.faults.add("stale_realtime", lag_ms=30_000)
        report = night.broker.reconcile()
        lag.remove()
        asked = "; it asks by id: not known there either" if report.lookups_made else ""
        tell.bot(f"E is not in the list{asked}")
        why = "; absence proves nothing" if night.view("E").is_open else ""
        tell.bot(f"believes {belief(night.view('E'))}{why}")
        night.pause()
        tell.venue("E trades in full")
        self._venue.fill("E")
        night.until_told(FillEvent, "E")

    def _sees_money_move(self) -> None:
        night, tell = self._night, self._tell
        night.a_round_passes()
        self._tell.tells_balances = True
        deposit = self._random.randint(100_000, 900_000)
        tell.venue(f"{number(Decimal(deposit) / 100)} USDT are paid in; the frame is dropped")
        self._venue.faults.add("frame_drop", topic="wallet", count=1)
        self._venue.deposit("USDT", Decimal(deposit) / 100)
        self._until_balances_agree()
        night.pause()
        size = self._lots(10, 90)
        tell.venue(f"the owner sells {number(size)} BTC by hand, in the app")
        self._venue.trade(symbol="BTCUSDT", side="Sell", quantity=size)
        self._until_balances_agree()
        self._tell.tells_balances = False

    def _rests(self, name: str, side: Side, size: Decimal, price: Decimal) -> None:
        self._tell.bot(f"{name}: {side.value.lower()} {number(size)} BTC at {number(price)}")
        self._submit(name, side, size, price)
        self._night.until_told(OrderAccepted, name)

    def _submitted(self, name: str, side: Side, size: Decimal, price: Decimal) -> SubmitOutcome:
        begun_ms = self._tell.elapsed_ms
        outcome = self._submit(name, side, size, price)
        meaning = {
            SubmitOutcome.ACCEPTED: "the venue has it",
            SubmitOutcome.REJECTED: "it does not stand",
            SubmitOutcome.UNKNOWN: "it may stand; do not send it again, qkt is asking",
        }[outcome]
        self._tell.bot(f"submit says {outcome.value} after {self._tell.elapsed_ms - begun_ms} ms: {meaning}")
        return outcome

    def _submit(self, name: str, side: Side, size: Decimal, price: Decimal) -> SubmitOutcome:
        order = LimitOrder(symbol=SYMBOL, side=side, quantity=size, limit_price=price, client_order_id=name)
        return self._night.broker.submit(order).outcome

    def _until_balances_agree(self) -> None:
        self._night.until(lambda: dict(self._night.client.balances) == self._night.truth_balances(), "the balances")

    def _lots(self, least: int, most: int) -> Decimal:
        return Decimal(self._random.randint(least, most)) / 1000

    def _price(self, least: int, most: int) -> Decimal:
        return Decimal(self._random.randrange(least, most, 50))


def belief(view: OrderView) -> str:
    """The bot's view of an order as one line of text."""
    state = "open" if view.is_open else view.status.value.lower()
    size = f" of {number(view.quantity)}" if view.quantity is not None else ""
    return f"{view.client_order_id}: {state}, {number(view.cum_quantity)}{size} filled"
