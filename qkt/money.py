"""Exact decimals from wire to user and back: never a float, never an exponent.

The venue sends every price, quantity and amount as a string (docs v5/guide; `""` means none). This room turns them
into `Decimal` and back, and refuses at once what would silently lose a digit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, Inexact, InvalidOperation
from typing import Any

from qkt.errors import InvalidRequestError

ZERO = Decimal(0)

# Sums and products that lose no digit, whatever decimal context the calling thread has set: a result that does not fit
# 200 digits raises `decimal.Inexact` instead of being rounded.
EXACT = Context(
    prec=200, Emax=MAX_EMAX, Emin=MIN_EMIN, rounding=ROUND_HALF_EVEN, traps=[Inexact, InvalidOperation, DivisionByZero]
)
SHOWN = Context(prec=28, rounding=ROUND_HALF_EVEN)

exact_sum: Callable[[Decimal, Decimal], Decimal] = EXACT.add
exact_difference: Callable[[Decimal, Decimal], Decimal] = EXACT.subtract
exact_product: Callable[[Decimal, Decimal], Decimal] = EXACT.multiply


def quotient(dividend: Decimal, divisor: Decimal) -> Decimal:
    """``dividend / divisor`` to 28 digits, whatever decimal context the calling thread has set."""
    return SHOWN.divide(dividend, divisor)


# Limits of a number from the wire. Real ones stay far inside: tokens have 18 places, amounts about 16 digits before the
# point.
MAX_DIGITS = 60
MAX_PLACES = 40
MAX_WHOLE_DIGITS = 30
_ORDINARY = re.compile(r"-?[0-9]{1,24}(?:\.[0-9]{1,24})?").fullmatch
_NUMERIC = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?").fullmatch


def decimal_from_wire(value: Any) -> Decimal:
    """Read a number the venue sent as text, e.g. ``"0.00100"``, whatever decimal context the calling thread has set.

    Raises:
        ValueError: blank, NaN, a float, another notation (``1_000``, spaces, non-ASCII digits), or more than 60
            digits, 40 places or 30 digits before the point.
    """
    if isinstance(value, str):
        if _ORDINARY(value):
            return Decimal(value)
        if len(value) > MAX_DIGITS + MAX_PLACES or not _NUMERIC(value):
            raise ValueError(f"not a decimal: {value[:MAX_DIGITS]!r}")
        return _of_bounded_size(Decimal(value))
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**MAX_WHOLE_DIGITS:
        return Decimal(value)
    if isinstance(value, Decimal) and value.is_finite():
        return _of_bounded_size(value)
    raise ValueError(f"not a finite decimal of bounded size: {type(value).__name__}")


def _of_bounded_size(number: Decimal) -> Decimal:
    _sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int) or len(digits) > MAX_DIGITS or exponent < -MAX_PLACES:
        raise ValueError(f"a decimal of more than {MAX_DIGITS} digits or {MAX_PLACES} places")
    if number.adjusted() >= MAX_WHOLE_DIGITS:
        raise ValueError(f"a decimal of more than {MAX_WHOLE_DIGITS} digits before the point")
    return number


def optional_from_wire(value: Any) -> Decimal | None:
    """Like `decimal_from_wire`, with ``None`` and ``""`` (the venue's "none") as None."""
    if value is None or value == "":
        return None
    return decimal_from_wire(value)


def positive_from_wire(value: Any) -> Decimal | None:
    """Like `optional_from_wire`, with zero as None too: spot prints "unset" prices and sizes as ``"0.00"``."""
    number = optional_from_wire(value)
    return number if number is not None and number > 0 else None


def to_wire(number: Decimal) -> str:
    """Write a decimal in plain digits: ``Decimal("1E-8")`` becomes ``"0.00000001"``."""
    return format(number, "f")


def require_decimal(value: Any, name: str) -> Decimal:
    """Accept a user's `Decimal` or `int`; refuse floats and text before they can lose a digit."""
    if isinstance(value, Decimal):
        number = value
    elif isinstance(value, int) and not isinstance(value, bool):
        number = Decimal(value)
    else:
        raise InvalidRequestError(
            f"{name} must be a Decimal, not {type(value).__name__} {value!r}: binary floats cannot hold most prices "
            f'exactly; write Decimal("{value}")'
        )
    if not number.is_finite():
        raise InvalidRequestError(f"{name} must be a finite number, got {value!r}")
    return number


def require_positive(value: Any, name: str) -> Decimal:
    """`require_decimal`, and above zero."""
    number = require_decimal(value, name)
    if number <= 0:
        raise InvalidRequestError(f"{name} must be above zero, got {to_wire(number)}")
    return number
