"""Executions of one order: an immutable collection that grows in constant time and carries its own sums.

All versions of an order share one growing list, and a version is a length of it. Adding to the newest version appends;
a version that is not the newest and learns something gets a list of its own, so no version ever changes. The sums, the
fees, the newest moment and the order sizes that the newest executions call complete are kept as rows come, so nothing
walks the rows to find them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Self

from qkt.model.executions import Execution
from qkt.money import ZERO, exact_product, exact_sum
from qkt.readonly import ReadOnlyDict

_NO_FEES: Mapping[str, Decimal] = ReadOnlyDict()


class _Rows:
    """The list all versions share, and where each execution stands in it."""

    __slots__ = ("positions", "rows")

    def __init__(self, rows: Iterable[Execution] = ()) -> None:
        self.rows = list(rows)
        self.positions = {row.exec_id: position for position, row in enumerate(self.rows)}


class Fills(Mapping[str, Execution]):
    """Execution id -> execution, in the order they were learnt. Immutable; `plus` makes the next version.

    ``quantity`` is the sum in base coin, ``value`` the sum of price times quantity in quote coin, ``fees`` coin ->
    amount. ``newest`` is the latest execution by ``(exec_time_ms, seq)``. ``complete_sizes`` are the order sizes that
    executions of that moment print together with no leaves.
    """

    __slots__ = ("_length", "_rows", "complete_sizes", "fees", "newest", "quantity", "value")

    _rows: _Rows
    _length: int
    quantity: Decimal
    value: Decimal
    fees: Mapping[str, Decimal]
    newest: Execution | None
    complete_sizes: tuple[Decimal, ...]

    def __init__(self) -> None:
        self._rows = _Rows()
        self._length = 0
        self.quantity = self.value = ZERO
        self.fees = _NO_FEES
        self.newest = None
        self.complete_sizes = ()

    @classmethod
    def of(cls, executions: Iterable[Execution]) -> Self:
        """The collection of these executions; a repeated id counts once."""
        fills = cls()
        for execution in executions:
            fills = fills.plus(execution)
        return fills

    def plus(self, execution: Execution) -> Self:
        """The collection with one more execution; the same one when it has that id already."""
        shared = self._rows
        length = self._length
        if shared.positions.get(execution.exec_id, length) < length:
            return self
        if not length or len(shared.rows) != length:  # the empty one is shared by all orders: its list stays empty
            shared = _Rows(shared.rows[:length])
        more = type(self).__new__(type(self))
        more.quantity = exact_sum(self.quantity, execution.quantity)
        more.value = exact_sum(self.value, exact_product(execution.price, execution.quantity))
        more.fees = self._fees_with(execution)
        more.newest, more.complete_sizes = self._newest_with(execution)
        shared.rows.append(execution)
        shared.positions[execution.exec_id] = length
        more._rows = shared
        more._length = length + 1
        return more

    def _fees_with(self, execution: Execution) -> Mapping[str, Decimal]:
        coin, fee = execution.fee_currency, execution.fee
        if not coin and not fee:
            return self.fees
        known = self.fees.get(coin, ZERO)
        return {**self.fees, coin: exact_sum(known, fee)}

    def _newest_with(self, execution: Execution) -> tuple[Execution, tuple[Decimal, ...]]:
        newest = self.newest
        moment = (execution.exec_time_ms, execution.seq)
        size = execution.order_quantity
        sizes = () if size is None or execution.leaves_quantity else (size,)
        if newest is None or moment > (newest.exec_time_ms, newest.seq):
            return execution, sizes
        if moment < (newest.exec_time_ms, newest.seq):
            return newest, self.complete_sizes
        return newest, self.complete_sizes + sizes

    @property
    def newest_ms(self) -> int:
        """When the latest execution traded, venue time; 0 when there is none."""
        return 0 if self.newest is None else self.newest.exec_time_ms

    def __getitem__(self, exec_id: str) -> Execution:
        position = self._rows.positions[exec_id]
        if position >= self._length:
            raise KeyError(exec_id)
        return self._rows.rows[position]

    def __contains__(self, exec_id: object) -> bool:
        return self._rows.positions.get(exec_id, self._length) < self._length  # type: ignore[call-overload, no-any-return]

    def __iter__(self) -> Iterator[str]:
        return (row.exec_id for row in self._rows.rows[: self._length])

    def __len__(self) -> int:
        return self._length

    def __hash__(self) -> int:
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[object, ...]:
        return Fills.of, (tuple(self._rows.rows[: self._length]),)

    def __repr__(self) -> str:
        return f"<Fills n={self._length} quantity={self.quantity}>"


NO_FILLS = Fills()
