"""A grid bot that is killed and started again, and neither loses a fill nor doubles an order.

It names its orders itself, one name per level and generation, so a restart recognises them: what is open was adopted,
what filled while it was dead is in the recovery window.
"""

from __future__ import annotations

from decimal import Decimal

from blocking_script import BTC, venue_and_client

from qkt import BybitSpotBroker, EventBus, FillEvent, LimitOrder, Side

LEVELS = [Decimal(59_900), Decimal(59_800), Decimal(59_700), Decimal(59_600)]
SIZE = Decimal("0.001")


class GridBot:
    """Rests a buy at every level; when one fills, its level stays empty."""

    def __init__(self, client, generation: int) -> None:
        self.filled: dict[str, Decimal] = {}
        bus = EventBus()
        bus.subscribe(FillEvent, self.count)
        self.broker = BybitSpotBroker(client, bus, poll_interval_ms=1_000)
        self.generation = generation

    def count(self, fill: FillEvent) -> None:
        """Fills of earlier runs come too, once, with ``external=True``: deduplicated by their own order's name."""
        level = fill.client_order_id.rpartition("-")[0]
        self.filled[level] = self.filled.get(level, Decimal(0)) + fill.quantity

    def fill_the_grid(self) -> int:
        """Place what is missing; returns how many orders were sent."""
        standing = {view.client_order_id.rpartition("-")[0] for view in self.broker.open_orders()}
        missing = [level for level in LEVELS if f"grid-{level}" not in standing | set(self.filled)]
        for level in missing:
            ack = self.broker.submit(
                LimitOrder(
                    symbol=BTC,
                    side=Side.BUY,
                    quantity=SIZE,
                    limit_price=level,
                    client_order_id=f"grid-{level}-{self.generation}",
                )
            )
            self.broker.wait(ack.client_order_id, until="accepted", timeout_ms=20_000)
        return len(missing)


def main() -> None:
    with venue_and_client() as (venue, client):
        first = GridBot(client, generation=1)
        print("first run sends", first.fill_the_grid())
        first.broker.close()  # killed

        venue.set_price("BTCUSDT", "59750")  # two levels fill while nobody looks

        second = GridBot(client, generation=2)
        second.broker.reconcile()
        print("second run finds", len(second.broker.open_orders()), "open and", sorted(second.filled), "filled")
        print("second run sends", second.fill_the_grid())
        second.broker.close()
        print("orders at the venue:", len(venue.truth()["orders"]))


if __name__ == "__main__":
    main()
