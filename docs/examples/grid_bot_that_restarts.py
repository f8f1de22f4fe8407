"""A grid bot that is killed and started again, and neither loses a fill nor doubles an order.

It names its orders itself, one name per level and generation, so a restart recognises them: what is open was adopted,
and of every order of an earlier generation that is not open the venue is asked by its name, however long the bot was
down.
"""

from __future__ import annotations

from decimal import Decimal

from blocking_script import BTC, venue_and_client

from qkt import BybitClient, BybitSpotBroker, EventBus, LimitOrder, Side

LEVELS = [Decimal(59_900), Decimal(59_800), Decimal(59_700), Decimal(59_600)]
SIZE = Decimal("0.001")


class GridBot:
    """Rests a buy at every level; when one fills, its level stays empty."""

    def __init__(self, client: BybitClient, generation: int) -> None:
        self.generation = generation
        self.broker = BybitSpotBroker(client, EventBus(), poll_interval_ms=1_000, recovery_window_ms=0)

    def name(self, level: Decimal, generation: int) -> str:
        return f"grid-{level}-{generation}"

    def has_filled(self, level: Decimal) -> bool:
        """True when an order of this or an earlier run has traded at the level, today or a month ago."""
        for generation in range(1, self.generation + 1):
            order = self.broker.lookup(client_order_id=self.name(level, generation))
            if order is not None and order.cum_quantity:
                return True
        return False

    def fill_the_grid(self) -> int:
        """Place what is missing; returns how many orders were sent."""
        standing = {view.client_order_id.rpartition("-")[0] for view in self.broker.open_orders()}
        empty = [level for level in LEVELS if f"grid-{level}" not in standing]
        missing = [level for level in empty if not self.has_filled(level)]
        for level in missing:
            ack = self.broker.submit(
                LimitOrder(
                    symbol=BTC,
                    side=Side.BUY,
                    quantity=SIZE,
                    limit_price=level,
                    client_order_id=self.name(level, self.generation),
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
        filled = [str(level) for level in LEVELS if second.has_filled(level)]
        print("second run finds", len(second.broker.open_orders()), "open and", filled, "filled")
        print("second run sends", second.fill_the_grid())
        second.broker.close()
        print("orders at the venue:", len(venue.truth()["orders"]))


if __name__ == "__main__":
    main()
