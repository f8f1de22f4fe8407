"""A blocking script: buy a little, protect it with a stop, and leave nothing behind.

Runs on the simulated venue; for a real account replace `venue_and_client` by ``BybitClient()`` and its keys by the
environment's. No handler, no thread of your own: submit, wait, look.
"""

from __future__ import annotations

from contextlib import contextmanager
from decimal import Decimal

from qkt import (
    BybitClient,
    BybitSpotBroker,
    EventBus,
    LimitOrder,
    MarketOrder,
    OrderStatus,
    Side,
    StopOrder,
    SubmitOutcome,
)
from qkt.venue import SimulatedBybit

BTC = "BYBIT_SPOT:BTCUSDT"


@contextmanager
def venue_and_client():
    """A venue on loopback, and a client for its account."""
    with SimulatedBybit(seed=1) as venue:
        with BybitClient("key", "secret", rest_url=venue.rest_url, ws_url=venue.ws_url) as client:
            yield venue, client


def buy(broker: BybitSpotBroker, money: Decimal) -> Decimal:
    """Buy for an amount of quote coin; returns what the wallet gained, after fees."""
    ack = broker.submit(MarketOrder(symbol=BTC, side=Side.BUY, quantity=money, quote_sized=True))
    if ack.outcome is SubmitOutcome.REJECTED:
        raise SystemExit(f"refused: {ack.reject_reason}")
    view = broker.wait(ack.client_order_id, timeout_ms=60_000)  # also when the outcome was UNKNOWN
    if view.status is not OrderStatus.FILLED:
        raise SystemExit(f"not bought: {view.status.value} {view.reason}")
    print(f"bought {view.cum_quantity} BTC at {view.avg_price}, fees {dict(view.fees)}")
    return view.cum_quantity - view.fees.get("BTC", Decimal(0))


def main() -> None:
    with venue_and_client() as (venue, client), BybitSpotBroker(client, EventBus()) as broker:
        held = buy(broker, Decimal("300"))

        quantity = held.quantize(Decimal("0.000001"), rounding="ROUND_DOWN")
        stop = broker.submit(StopOrder(symbol=BTC, side=Side.SELL, quantity=quantity, stop_price=Decimal("57000")))
        print("stop:", broker.wait(stop.client_order_id, until="accepted").status.value)

        offer = broker.submit(
            LimitOrder(symbol=BTC, side=Side.BUY, quantity=Decimal("0.001"), limit_price=Decimal("50000"))
        )
        broker.wait(offer.client_order_id, until="accepted")

        venue.set_price("BTCUSDT", "56900")  # the market falls, and the stop fires
        print("stop:", broker.wait(stop.client_order_id).status.value)

        for ack in broker.cancel_all():
            print("cancelled:", broker.wait(ack.client_order_id).status.value)
        print("open orders:", len(broker.open_orders()), "unresolved:", len(broker.health.unresolved))


if __name__ == "__main__":
    main()
