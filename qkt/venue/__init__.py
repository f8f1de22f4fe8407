"""A simulated Bybit V5: spot and perpetual contracts, with faults on command, for any client.

    from qkt.venue import SimulatedBybit

    with SimulatedBybit(seed=1) as venue:
        ...  # point a client at venue.rest_url and venue.ws_url, account "key" / "secret"
        venue.faults.add("reply_lost", path="/v5/order/create", count=1)
        venue.truth()

Needs the extra ``qkt[venue]``. It does not import the SDK and the SDK does not import it, so that a mistake of one is
not repeated by the other.
"""

from .clock import RealClock, VirtualClock
from .exchange.retcodes import Refusal
from .faults import KINDS, Fault, Faults
from .venue import DEFAULT_BALANCES, SimulatedBybit

SimulatedVenue = SimulatedBybit  # a second name of the same class

__all__ = [
    "DEFAULT_BALANCES",
    "KINDS",
    "Fault",
    "Faults",
    "RealClock",
    "Refusal",
    "SimulatedBybit",
    "SimulatedVenue",
    "VirtualClock",
]
