"""A legacy bot with threads of its own, and qkt embedded in it.

The signal thread decides, the trading thread sends, the risk thread watches; they speak through queues, as they did
before. qkt adds three subscriptions and one object, and none of the bot's threads ever waits for the network but the
one that submits.
"""

from __future__ import annotations

import queue
import threading
from decimal import Decimal

from blocking_script import BTC, venue_and_client

from qkt import BybitSpotBroker, EventBus, FillEvent, HealthDegraded, LimitOrder, PositionTracker, QktError, Side

DONE = object()


class LegacyBot:
    """Three threads and two queues: the shape of many a bot from before asyncio."""

    def __init__(self, broker: BybitSpotBroker, bus: EventBus) -> None:
        self.broker = broker
        self.signals: queue.SimpleQueue = queue.SimpleQueue()
        self.fills: queue.SimpleQueue = queue.SimpleQueue()
        self.tracker = PositionTracker()
        self.refused: list[str] = []
        bus.subscribe(FillEvent, self.tracker.apply_fill)
        bus.subscribe(FillEvent, self.fills.put)
        bus.subscribe(HealthDegraded, lambda event: print("health:", event.domain, event.reason))
        self.threads = [
            threading.Thread(target=self.trade, name="bot-trading", daemon=True),
            threading.Thread(target=self.watch_risk, name="bot-risk", daemon=True),
        ]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def trade(self) -> None:
        """Send what the signals ask for. An outcome of UNKNOWN is not sent again: the fill will tell."""
        while (signal := self.signals.get()) is not DONE:
            side, quantity, price = signal
            try:
                self.broker.submit(LimitOrder(symbol=BTC, side=side, quantity=quantity, limit_price=price))
            except QktError as error:  # nothing was sent
                self.refused.append(str(error))

    def watch_risk(self) -> None:
        """Every fill, in order, on this thread."""
        while (fill := self.fills.get()) is not DONE:
            print(f"risk: {fill.side.value} {fill.quantity} @ {fill.price}, now {self.tracker.position(BTC)}")

    def stop(self) -> None:
        self.signals.put(DONE)
        self.threads[0].join(timeout=10)
        self.fills.put(DONE)
        self.threads[1].join(timeout=10)


def main() -> None:
    with venue_and_client() as (venue, client):
        bus = EventBus()
        with BybitSpotBroker(client, bus, poll_interval_ms=1_000) as broker:
            bot = LegacyBot(broker, bus)
            bot.start()
            for price in ("59990", "59980", "59970"):
                bot.signals.put((Side.BUY, Decimal("0.001"), Decimal(price)))
            bot.signals.put((Side.BUY, Decimal("0.0000001"), Decimal("59960")))  # below the venue's minimum
            bot.signals.put(DONE)
            bot.threads[0].join(timeout=10)

            venue.cut_streams()  # the bot hears nothing of what follows ...
            venue.set_price("BTCUSDT", "59900")
            for view in broker.open_orders():
                broker.wait(view.client_order_id, timeout_ms=20_000)  # ... until a round has read it
        bot.fills.put(DONE)
        bot.threads[1].join(timeout=10)
        print("position:", bot.tracker.position(BTC))
        print("refused before sending:", len(bot.refused))


if __name__ == "__main__":
    main()
