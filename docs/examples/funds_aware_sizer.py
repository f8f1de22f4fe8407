"""Size every order by what is really free, and know how old that number is.

Handlers keep the newest balances; the sizer refuses to size on stale ones. `wallet[coin].available` is what is free
after resting orders; it is None where the venue does not say, and then nothing is sized.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal

from blocking_script import BTC, venue_and_client

from qkt import BalancesUpdated, BybitSpotBroker, EventBus, LimitOrder, Side

STEP = Decimal("0.000001")


class FundsAwareSizer:
    """The largest order that a share of the free quote coin pays for."""

    def __init__(self, bus: EventBus, source: str, coin: str = "USDT") -> None:
        self._source, self._coin = source, coin
        self.free: Decimal | None = None
        bus.subscribe(BalancesUpdated, self._remember)

    def _remember(self, event: BalancesUpdated) -> None:
        held = event.wallet.get(self._coin)
        if event.source == self._source and held is not None:
            self.free = held.available

    def quantity(self, price: Decimal, share: Decimal) -> Decimal:
        """In base coin, rounded down to the step; zero when nothing is known to be free."""
        if self.free is None:
            return Decimal(0)
        return (self.free * share / price).quantize(STEP, rounding=ROUND_DOWN)


def main() -> None:
    with venue_and_client() as (_venue, client):
        bus = EventBus()
        sizer = FundsAwareSizer(bus, source="BYBIT_SPOT")
        with BybitSpotBroker(client, bus, poll_interval_ms=1_000, max_staleness_ms=10_000) as broker:
            for _ in range(3):
                price = Decimal(50_000)
                quantity = sizer.quantity(price, share=Decimal("0.5"))
                print(f"free {sizer.free} USDT: an order of {quantity} BTC")
                ack = broker.submit(LimitOrder(symbol=BTC, side=Side.BUY, quantity=quantity, limit_price=price))
                broker.wait(ack.client_order_id, until="accepted", timeout_ms=20_000)
                broker.reconcile()  # what the order locked is known before the next one is sized
            broker.cancel_all()


if __name__ == "__main__":
    main()
