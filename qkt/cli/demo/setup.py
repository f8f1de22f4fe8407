"""A bot and a venue for one night, and everything the bot hears, kept for the judge.

`Night` owns both and takes them down again; it waits on what was heard or on a stop, never on a fixed sleep, so that
Ctrl-C is felt at once.
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
from qkt.cli.screen import Screen
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
    """How fast the night passes.

    ``reading`` stretches the pauses in which a person reads; zero for tests. ``patience_ms`` is how long the
    story waits for the bot to learn something before it says that the bot was told nothing. ``lost_reply`` is how a
    reply gets lost: the connection hangs until the bot gives up, or is reset.
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
    """Hears everything, in order, and lets the story wait for something."""

    def __init__(self) -> None:
        self.events: list[BrokerEvent] = []
        self._changed = threading.Condition()

    def hear(self, event: BrokerEvent) -> None:
        """The bot's handler of every event."""
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait(self, is_reached: Callable[[], bool], timeout_ms: int) -> bool:
        """Until something is true, looked at after each event; False when it took too long."""
        with self._changed:
            return self._changed.wait_for(is_reached, timeout_ms / 1000)

    def heard(self, kind: type[BrokerEvent], client_order_id: str = "", *, since: int = 0) -> bool:
        """True when such an event came, of that order if named, after the first ``since`` events."""
        return any(
            isinstance(event, kind)
            and (not client_order_id or (isinstance(event, OrderEvent) and event.client_order_id == client_order_id))
            for event in self.events[since:]
        )


class Night:
    """A running venue, a bot connected to it, and the teller of what happens between them."""

    def __init__(self, screen: Screen, venue: SimulatedBybit, pace: Pace) -> None:
        self.pace = pace
        self.venue = venue
        self.ear = Ear()
        times = VenueTimes()
        self.teller = Teller(screen, SystemClock(), times)
        venue.journal.listen(times.note)
        self._stack = ExitStack()
        self.client: BybitClient
        self.broker: BybitSpotBroker
        self.bus = EventBus()
        self.bus.subscribe(BrokerEvent, self.ear.hear)
        self.bus.subscribe(BrokerEvent, self.teller.hear)

    def connect(self) -> None:
        """Start the bot; its first round reads everything."""
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

    # -- waiting -----------------------------------------------------------------------------------------------------

    def pause(self, seconds: float = 1.0) -> None:
        """Time to read a line; an event that comes meanwhile is told at once."""
        if self.pace.reading:
            threading.Event().wait(seconds * self.pace.reading)

    def until(self, is_reached: Callable[[], bool], what: str) -> bool:
        """Wait for the bot to learn something; says so when it does not."""
        if self.ear.wait(is_reached, self.pace.patience_ms):
            return True
        self.teller.bot(f"was told nothing for {self.pace.patience_ms / 1000:g} s about {what}")
        return False

    def until_told(self, kind: type[BrokerEvent], client_order_id: str) -> bool:
        """Wait for an event about an order."""
        return self.until(lambda: self.ear.heard(kind, client_order_id), client_order_id)

    def a_round_passes(self) -> None:
        """Wait for the end of the next round of the timer."""
        since = len(self.ear.events)

        def is_over() -> bool:
            return any(isinstance(e, BalancesUpdated) and e.origin == "reconcile" for e in self.ear.events[since:])

        self.ear.wait(is_over, self.pace.poll_interval_ms * 3 // 2)

    # -- looking -----------------------------------------------------------------------------------------------------

    def view(self, client_order_id: str) -> OrderView:
        """What the bot believes of an order."""
        return self.broker.order(client_order_id)

    def truth_balances(self) -> dict[str, Decimal]:
        """What the account holds at the venue."""
        return {coin: Decimal(row["walletBalance"]) for coin, row in self.venue.truth()["balances"].items()}

    def settle(self) -> None:
        """Let every frame arrive and two rounds pass: from here on there is nothing left to learn."""
        self.venue.wait_idle()
        for _ in range(2):
            self.broker.reconcile()
        self.bus.deliver()
        self.ear.wait(lambda: self.bus.queue_depth == 0, 1_000)

    def views(self) -> dict[str, OrderView]:
        """Broker order id -> view, of every order the venue ever had and the bot knows."""
        found: dict[str, OrderView] = {}
        for row in self.venue.truth()["orders"]:
            try:
                found[row["orderId"]] = self.broker.order(broker_order_id=row["orderId"])
            except InvalidRequestError:
                continue
        return found

    def judged(self) -> Verdict:
        """Compare everything heard and believed with the venue's record."""
        return judge(
            self.venue.truth(),
            list(self.ear.events),
            views=self.views(),
            wallet=self.client.wallet,
            unresolved=self.broker.health.unresolved,
        )
