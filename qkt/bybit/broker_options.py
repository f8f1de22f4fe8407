"""Checks of a broker's constructor arguments: each mistake is refused with what it is and what belongs there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qkt.bus import EventBus
from qkt.clock import Clock
from qkt.errors import InvalidRequestError


def check_client_and_bus(client: object, bus: object) -> None:
    """Raise InvalidRequestError if ``bus`` is not an EventBus, or if client and bus are swapped."""
    if isinstance(client, EventBus):
        raise InvalidRequestError("the client comes first and the bus second: Broker(client, bus)")
    if not isinstance(bus, EventBus):
        raise InvalidRequestError(f"bus must be an EventBus, e.g. EventBus(); got {bus!r}")


def check_clock(clock: object) -> None:
    """Refuse a clock without `now_ms` and `monotonic_ms`."""
    if clock is not None and (isinstance(clock, type) or not isinstance(clock, Clock)):
        raise InvalidRequestError(f"clock must have now_ms() and monotonic_ms(), as SystemClock() has; got {clock!r}")


def require_ms(value: object, name: str, *, at_least: int = 0) -> int:
    """A whole number of milliseconds; raises InvalidRequestError for anything else."""
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        what = "above zero" if at_least else "not below zero"
        raise InvalidRequestError(f"{name} must be a whole number of milliseconds, {what}; got {value!r}")
    return value


def intervals_from(
    poll_interval_ms: object, poll_intervals_ms: Mapping[str, int] | None, paths: Sequence[str]
) -> dict[str, int]:
    """Path -> time between two timed reads of it."""
    interval_ms = require_ms(poll_interval_ms, "poll_interval_ms", at_least=1)
    given = {} if poll_intervals_ms is None else poll_intervals_ms
    if not isinstance(given, Mapping):
        raise InvalidRequestError(f'poll_intervals_ms is a mapping such as {{"orders": 5_000}}; got {given!r}')
    unknown = sorted(map(str, given.keys() - set(paths)))
    if unknown:
        raise InvalidRequestError(f"poll_intervals_ms names {', '.join(unknown)}; the paths are {', '.join(paths)}")
    single = {path: require_ms(value, f"poll_intervals_ms[{path!r}]", at_least=1) for path, value in given.items()}
    return {path: single.get(path, interval_ms) for path in paths}
