"""What a `BrokerState` tells an observer: each of its inputs, in order, with everything they caused.

The inputs are enough to compute the same state and the same events again: the facts, the readings of the clock, and the
few answers that came from outside. A flight recorder writes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol

import attrs

from qkt.events import BrokerEvent
from qkt.orders.ledger import Change

StateOperation = Literal["absorb", "recall", "submit", "publish", "degrade", "restore", "started", "forget", "close"]


@attrs.frozen(kw_only=True)
class Observation:
    """One call of a `BrokerState`.

    ``inputs`` are its arguments: facts for ``absorb``, ``recall`` and ``submit``, events for
    ``publish``, values for the others.
    ``readings`` are the answers from outside that it used, in order: times of the clock in ms, depths of the event
    queue, and whether an id with this run's nonce was issued here (1) or not (0). ``changes`` and ``events`` are what
    it caused; the events are stamped.
    """

    operation: StateOperation
    inputs: tuple[object, ...]
    readings: tuple[int, ...]
    changes: tuple[Change, ...]
    events: tuple[BrokerEvent, ...]


class StateObserver(Protocol):
    """Called under the lock of the state, in the order of its operations: it must only put away what it is given."""

    def observe(self, observation: Observation) -> None:
        """Take one operation. ``Change`` and event values never change, so they can be kept."""
        ...


class ObservedOperation:
    """Collects what one operation of a `BrokerState` reads and causes, until it is handed to the observer."""

    __slots__ = ("_events", "_observer", "_readings")

    def __init__(self, observer: StateObserver) -> None:
        self._observer = observer
        self._readings: list[int] = []
        self._events: list[BrokerEvent] = []

    def read(self, reading: int) -> int:
        """Note an answer from outside and return it."""
        self._readings.append(reading)
        return reading

    def caused(self, events: Iterable[BrokerEvent]) -> None:
        """Note events that were queued."""
        self._events.extend(events)

    def end(self, operation: StateOperation, inputs: Iterable[object], changes: Iterable[Change] = ()) -> None:
        """Hand over the operation and begin the next."""
        observation = Observation(
            operation=operation,
            inputs=tuple(inputs),
            readings=tuple(self._readings),
            changes=tuple(changes),
            events=tuple(self._events),
        )
        self._readings, self._events = [], []
        self._observer.observe(observation)
