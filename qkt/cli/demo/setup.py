"""Sets up the demo: a venue, a bot, and a record of every event the bot received.

`Night` owns both and closes them. Every wait ends on an event or on a stop, never on a fixed sleep, so that Ctrl-C
works at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Self

import attrs

from qkt.bus import EventBus
from qkt.bybit.spot import BybitSpotBroker
from qkt.bybit.transport.client import BybitClient
from qkt.cli.demo.judge import Verdict, judge
from qkt.cli.demo.narrator import Teller, VenueTimes
from qkt.cli.output import Screen
from qkt.clock import SystemClock
from qkt.errors import InvalidRequestError
from qkt.events import BalancesUpdated, BrokerEvent, OrderEvent
from qkt.model.orders import OrderView
from qkt.net.backoff import FixedDelayBackoff

if TYPE_CHECKING:
    from qkt.venue import SimulatedBybit

SYMBOL = "BYBIT_SPOT:BTCUSDT"


@attrs.frozen(kw_only=True)
class Pace:
    """Speed of the demo.

    ``reading`` scales the pauses for reading; zero in tests. ``patience_ms`` is how long the scenario waits for an
    event before it reports that the bot was not told. ``lost_reply`` is how a reply is lost: the connection hangs until
    the bot's timeout, or is reset.
    """

    reading: float
    poll_interval_ms: int
    read_timeout_ms: int
    reconnect_ms: int
    patience_ms: int
    lost_reply: str


STROLL = Pace(
    reading=1.0, poll_interval_ms=3_000, read_timeout_ms=1_500, reconnect_ms=300, patience_ms=16_000, lost_reply="hang"
)
FAST = Pace(
    reading=0.0, poll_interval_ms=400, read_timeout_ms=300, reconnect_ms=20, patience_ms=2_500, lost_reply="reset"
)


class Ear:
    """Records every event in order, and lets the scenario wait for one."""

    def __init__(self) -> None:
        self.events: list[BrokerEvent] = []
        self._changed = threading.Condition()

    def hear(self, event: BrokerEvent) -> None:
        """Record an event; subscribed to the bot's bus."""
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait(self, is_reached: Callable[[], bool], timeout_ms: int) -> bool:
        """Wait until a condition is true, checked after each event; returns False after the timeout."""
        with self._changed:
            return self._changed.wait_for(is_reached, timeout_ms / 1000)

    def heard(self, kind: type[BrokerEvent], client_order_id: str = "", *, since: int = 0) -> bool:
        """True when an event of this type, and of this order if given, came after the first ``since`` events."""
        return any(
            isinstance(event, kind)
            and (not client_order_id or (isinstance(event, OrderEvent) and event.client_order_id == client_order_id))
            for event in self.events[since:]
        )


class Night:
    """A running venue, a bot connected to it, and the narrator of both."""

    def __init__(self, screen: Screen, venue: SimulatedBybit, pace: Pace) -> None:
        self.pace = pace
        self.venue = venue
        self.ear: Ear = Ear()
        times = VenueTimes()
        self.teller: Teller = Teller(screen, SystemClock(), times)
        venue.journal.listen(times.note)
        self._stack = ExitStack()
        self.client: BybitClient
        self.broker: BybitSpotBroker
        self.bus: EventBus = EventBus()
        self.bus.subscribe(BrokerEvent, self.ear.hear)
        self.bus.subscribe(BrokerEvent, self.teller.hear)

    def connect(self) -> None:
        """Start the bot; its first round reads the account's state."""
        self.client = self._stack.enter_context(
            BybitClient(
                "key",
                "secret",
                rest_url=self.venue.rest_url,
                ws_url=self.venue.ws_url,
                read_timeout_ms=self.pace.read_timeout_ms,
                backoff=FixedDelayBackoff(delay_ms=self.pace.reconnect_ms),
            )
        )
        self.broker = self._stack.enter_context(
            BybitSpotBroker(self.client, self.bus, poll_interval_ms=self.pace.poll_interval_ms)
        )

    def __enter__(self) -> Self:
        self._stack.enter_context(self.venue)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def pause(self, seconds: float = 1.0) -> None:
        """Wait for reading time; events that come meanwhile are printed at once."""
        if self.pace.reading:
            threading.Event().wait(seconds * self.pace.reading)

    def until(self, is_reached: Callable[[], bool], what: str) -> bool:
        """Wait until a condition is true, and print it when it does not come true."""
        if self.ear.wait(is_reached, self.pace.patience_ms):
            return True
        self.teller.bot(f"was told nothing for {self.pace.patience_ms / 1000:g} s about {what}")
        return False

    def until_told(self, kind: type[BrokerEvent], client_order_id: str) -> bool:
        """Wait for an event about an order."""
        return self.until(lambda: self.ear.heard(kind, client_order_id), client_order_id)

    def a_round_passes(self) -> None:
        """Wait for the end of the timer's next round."""
        since = len(self.ear.events)

        def is_over() -> bool:
            return any(isinstance(e, BalancesUpdated) and e.origin == "reconcile" for e in self.ear.events[since:])

        self.ear.wait(is_over, self.pace.poll_interval_ms * 3 // 2)

    def view(self, client_order_id: str) -> OrderView:
        """The bot's view of an order."""
        return self.broker.order(client_order_id)

    def truth_balances(self) -> dict[str, Decimal]:
        """The account's balances at the venue."""
        return {coin: Decimal(row["walletBalance"]) for coin, row in self.venue.truth()["balances"].items()}

    def settle(self) -> None:
        """Wait for all frames and two rounds, after which nothing is left to learn."""
        self.venue.wait_idle()
        for _ in range(2):
            self.broker.reconcile()
        self.bus.deliver()
        self.ear.wait(lambda: self.bus.queue_depth == 0, 1_000)

    def views(self) -> dict[str, OrderView]:
        """Broker order id -> view, for every order of the venue that the bot knows."""
        found: dict[str, OrderView] = {}
        for row in self.venue.truth()["orders"]:
            try:
                found[row["orderId"]] = self.broker.order(broker_order_id=row["orderId"])
            except InvalidRequestError:
                continue
        return found

    def judged(self) -> Verdict:
        """The judge's verdict on this run."""
        return judge(
            self.venue.truth(),
            list(self.ear.events),
            views=self.views(),
            wallet=self.client.wallet,
            unresolved=self.broker.health.unresolved,
        )
