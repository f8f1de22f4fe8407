"""How long to wait before trying again: pure functions of the attempt and of chance, which come in from outside."""

from __future__ import annotations

import math
from typing import Any, Protocol

import attrs

from qkt.errors import InvalidRequestError


class BackoffPolicy(Protocol):
    """A rule for the pause before an attempt."""

    def delay_ms(self, attempt: int, jitter: float = 0.5) -> int:
        """The pause before retry ``attempt`` (0 is the first); ``jitter`` is a number drawn from [0, 1)."""
        ...


def _positive(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:  # noqa: ARG001
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise InvalidRequestError(f"{attribute.name} must be above zero, got {value!r}")


def _share(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:  # noqa: ARG001
    if not 0 <= value <= 1:
        raise InvalidRequestError(f"{attribute.name} must lie between 0 and 1, got {value!r}")


@attrs.frozen
class ExponentialBackoff:
    """``initial_ms``, then ``multiplier`` times as long each time, never above ``max_ms``.

    ``jitter`` spreads each pause by up to that share of it either way, so that bots cut off together do not all come
    back together; a drawn 0.5 gives the bare pause.
    """

    initial_ms: int = attrs.field(default=500, validator=_positive)
    max_ms: int = attrs.field(default=30_000, validator=_positive)
    multiplier: float = attrs.field(default=2, validator=_positive)
    jitter: float = attrs.field(default=0.5, validator=_share)

    def delay_ms(self, attempt: int, jitter: float = 0.5) -> int:
        """The pause before retry ``attempt`` (0 is the first); ``jitter`` is a number drawn from [0, 1)."""
        try:
            pause_ms = min(float(self.max_ms), self.initial_ms * float(self.multiplier) ** max(0, attempt))
        except OverflowError:
            pause_ms = float(self.max_ms)
        spread = 1 + self.jitter * (2 * jitter - 1)
        return min(self.max_ms, round(pause_ms * spread))


@attrs.frozen
class FixedDelayBackoff:
    """The same pause every time."""

    fixed_ms: int = attrs.field(alias="delay_ms", validator=_positive)

    def delay_ms(self, attempt: int, jitter: float = 0.5) -> int:  # noqa: ARG002 - a constant function of both
        """The pause before any retry."""
        return self.fixed_ms
