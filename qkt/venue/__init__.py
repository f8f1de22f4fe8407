"""A simulated Bybit V5: spot and perpetual contracts, with faults on command, for any client.

    from qkt.venue import SimulatedBybit

    with SimulatedBybit(seed=1) as venue:
        ...  # point a client at venue.rest_url and venue.ws_url, account "key" / "secret"
        venue.faults.add("reply_lost", path="/v5/order/create", count=1)
        venue.truth()

Needs the extra ``qkt[venue]``. Nothing here imports the SDK, and the SDK imports nothing from here: they check each
other.
"""

from .clock import RealClock, VirtualClock
from .exchange.retcodes import Refusal
from .faults import KINDS, Fault, Faults
from .venue import DEFAULT_BALANCES, SimulatedBybit

SimulatedVenue = SimulatedBybit  # the same class, by the name of what it is

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
