"""Exact amounts.

The venue's books must balance to the last digit: no floats are used, and the decimal context has enough digits that a
product of price, quantity and fee rate is never rounded. Where Bybit rounds (a quantity to its step, an average price),
the code rounds at that place explicitly.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

ZERO = Decimal(0)
CONTEXT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_AVERAGE_STEP = Decimal("0.0000000001")
_LONGEST_NUMBER = 40


def wire(value: Decimal) -> str:
    """Write an amount the way the venue does: plain digits, no exponent, no trailing zeros."""
    if not value:
        return "0"
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def parse(text: object) -> Decimal | None:
    """Read a plain decimal number from a request; None when it is not one (``"1e3"``, ``"NaN"``, ``"1_0"`` are not)."""
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        return None
    digits = str(text).strip()
    unsigned = digits[1:] if digits[:1] in ("-", "+") else digits
    if not unsigned or len(unsigned) > _LONGEST_NUMBER or not all(c in "0123456789." for c in unsigned):
        return None
    try:
        return Decimal(digits)
    except InvalidOperation:
        return None


def floor_to_step(value: Decimal, step: Decimal) -> Decimal:
    """Round an amount down to a multiple of its step."""
    return (value / step).to_integral_value(rounding=ROUND_DOWN) * step


def is_multiple(value: Decimal, step: Decimal) -> bool:
    return value % step == 0


def average(value: Decimal, quantity: Decimal) -> Decimal:
    """The average price of a quantity; the only division whose result is rounded before it is shown."""
    return (value / quantity).quantize(_AVERAGE_STEP)
