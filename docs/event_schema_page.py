"""Writes `reference/event-schema.md`: the JSON form of every event, read from the classes.

    python docs/event_schema_page.py

A test compares the page with what this program would write.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs

import qkt.events
from qkt.events import BrokerEvent
from qkt.model.balances import AccountSummary, CoinBalance, Wallet
from qkt.model.maintenance import Maintenance
from qkt.model.ownership import Ownership
from qkt.model.protection import Protection

PAGE = Path(__file__).parent / "reference" / "event-schema.md"

_HEAD = """# Events as JSON

Every event has `to_dict()`, which returns plain JSON types, and `to_json()`, which returns them as one line. The form
is stable: fields may be added, none is renamed or removed without an entry in the changelog. Views have the same two
methods (`OrderView`, `Wallet`, `Health`, `Position`, `SubmitAck`, `ReconcileReport`), and like the events they can be
pickled and deep-copied, so that they pass through a `multiprocessing.Queue`.

- A *decimal* is a string with every digit, e.g. `"0.00100"`: read it with `Decimal(text)`, never as a float.
- Times are integers in milliseconds since 1970 (UTC).
- A set is a sorted list.
- `event` is the name of the class; every other field is an attribute of the event.

```python
from decimal import Decimal

from qkt import OrderFilled, Side

event = OrderFilled(
    client_order_id="bot-1",
    symbol="BYBIT_SPOT:BTCUSDT",
    side=Side.BUY,
    price=Decimal("60000.0"),
    quantity=Decimal("0.00100"),
)
assert event.to_dict()["event"] == "OrderFilled"
assert event.to_dict()["quantity"] == "0.00100"
print(event.to_json())
```
"""


def page() -> str:
    """The text of the page."""
    parts = [_HEAD]
    for cls in concrete(BrokerEvent):
        parts.append(f"\n## {cls.__name__}\n\n{_table(cls, first=('event', f'`{cls.__name__}`'))}")
    for nested in (Wallet, CoinBalance, AccountSummary, Protection, Maintenance, Ownership):
        parts.append(f"\n## {nested.__name__}\n\nAn object inside other forms.\n\n{_table(nested)}")
    return "".join(parts)


def concrete(cls: type[BrokerEvent]) -> Iterator[type[BrokerEvent]]:
    """The event classes that a bus can carry, in the order of their definition."""
    found = [value for value in vars(qkt.events).values() if isinstance(value, type) and issubclass(value, cls)]
    return (event for event in found if not any(issubclass(other, event) for other in found if other is not event))


def _table(cls: type[Any], first: tuple[str, str] | None = None) -> str:
    hints = typing.get_type_hints(cls)
    rows = [] if first is None else [f"| `{first[0]}` | {first[1]} |"]
    rows += [f"| `{field.name}` | {json_type(hints[field.name])} |" for field in attrs.fields(cls)]
    return "\n".join(["| Field | JSON |", "|---|---|", *rows]) + "\n"


def json_type(hint: Any) -> str:
    """The JSON form of a type, in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if part is type(None) else json_type(part) for part in arguments)
    if origin is typing.Literal:
        return ", ".join(f'`"{choice}"`' for choice in arguments)
    if origin is not None and issubclass(origin, Mapping):
        return f"object of {json_type(arguments[1])}s"
    if origin in (frozenset, tuple):
        return f"list of {json_type(arguments[0])}s"
    if issubclass(hint, enum.Enum):
        return ", ".join(f'`"{member.value}"`' for member in hint)
    if attrs.has(hint):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    return {str: "string", bool: "boolean", int: "integer", Decimal: "decimal"}[hint]


if __name__ == "__main__":
    PAGE.write_text(page())
