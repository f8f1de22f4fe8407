"""Order store. Active orders stay as objects; settled ones are compressed and decompressed on access.

A ledger remembers every order for a day, and a busy day has a hundred thousand of them; their fills must be known to
the last one, or a repeated execution would be published twice. A settled order hardly ever changes, so after a while it
is compressed together with its audit, to about a tenth. What comes back is equal to what was put away.
"""

from __future__ import annotations

import hashlib
import itertools
import pickle
import zlib
from collections import deque
from collections.abc import Iterator

from qkt.model.executions import Execution
from qkt.orders.audit import AuditRecord, rendered
from qkt.orders.order import AuditEntry, CancelIntent, ModifyIntent, Order, Terminal, Terms, UnansweredSubmit
from qkt.slots import pickle_by_position

for _kind in (Execution, Order, Terms, Terminal, CancelIntent, ModifyIntent, UnansweredSubmit):
    pickle_by_position(_kind)

_AUDIT_LENGTH = 200
_SETTLED_KEPT_ACTIVE = 5_000
_MARK_BYTES = 12  # no two of a quintillion executions share one


class OrderStore:
    """Key -> order, and its audit. Not thread-safe: its owner guards it.

    ``settled_kept_active``: so many of the orders settled last stay objects, since frames and rounds still repeat them.
    Every change may be repeated with the same effect, so that an interrupted one can be completed.
    """

    def __init__(self, settled_kept_active: int = _SETTLED_KEPT_ACTIVE) -> None:
        self._active: dict[int, Order] = {}
        self._audits: dict[int, deque[AuditRecord | AuditEntry]] = {}
        self._compressed: dict[int, bytes] = {}
        self._marks: dict[int, bytes] = {}  # of a compressed order's executions, to know a repeated one without opening
        self._settled: deque[int] = deque()
        self._settled_kept_active = settled_kept_active
        self._pattern = b""  # the first order put away: the others differ from it in little

    def __getitem__(self, key: int) -> Order:
        order = self._active.get(key)
        return self._decompressed(key)[0] if order is None else order

    def get(self, key: int) -> Order | None:
        """The order, or None."""
        try:
            return self[key]
        except KeyError:
            return None

    def __setitem__(self, key: int, order: Order) -> None:
        if key in self._compressed and key not in self._active:
            self._audits[key] = deque(self._decompressed(key)[1], maxlen=_AUDIT_LENGTH)
            self._active[key] = order
            del self._compressed[key], self._marks[key]
        self._active[key] = order

    def note(self, key: int, record: AuditRecord) -> None:
        """One more record in the audit of an order that was just set."""
        audit = self._audits.get(key)
        if audit is None:
            audit = self._audits[key] = deque(maxlen=_AUDIT_LENGTH)
        if not audit or getattr(audit[-1], "revision", -1) < record.revision:
            audit.append(record)

    def settled(self, key: int) -> None:
        """This order is settled; `compress_settled` may put it away once enough others are."""
        self._settled.append(key)

    def compress_settled(self) -> None:
        """Put away the orders that have been settled for longest, beyond those kept active."""
        while len(self._settled) > self._settled_kept_active:
            self._compress(self._settled.popleft())

    def audit(self, key: int) -> tuple[AuditEntry, ...]:
        """What changed the order, oldest first."""
        if key in self._compressed and key not in self._active:
            return self._decompressed(key)[1]
        return tuple(map(rendered, self._audits.get(key, ())))

    def pop(self, key: int) -> None:
        """Forget an order and its audit, if it is there."""
        self._active.pop(key, None)
        self._audits.pop(key, None)
        self._compressed.pop(key, None)
        self._marks.pop(key, None)

    def is_compressed_with(self, key: int, exec_id: str) -> bool:
        """True when a compressed order has this execution. A round lists those of the whole recovery window again."""
        marks = self._marks.get(key)
        if not marks:
            return False
        mark = _mark(exec_id)
        low, high = 0, len(marks) // _MARK_BYTES
        while low < high:
            middle = (low + high) // 2
            found = marks[middle * _MARK_BYTES : (middle + 1) * _MARK_BYTES]
            if found == mark:
                return True
            low, high = (middle + 1, high) if found < mark else (low, middle)
        return False

    def _compress(self, key: int) -> None:
        order = self._active.get(key)
        if order is None or not order.is_settled:
            return  # forgotten, put away before, or active again
        content = pickle.dumps((order, tuple(map(rendered, self._audits.get(key, ())))), pickle.HIGHEST_PROTOCOL)
        pattern = self._pattern or content
        packer = zlib.compressobj(level=1, zdict=pattern)
        packed = packer.compress(content) + packer.flush()
        marks = b"".join(sorted(map(_mark, order.fills)))
        self._pattern = pattern
        self._marks[key] = marks
        self._compressed[key] = packed
        del self._active[key]
        self._audits.pop(key, None)

    def _decompressed(self, key: int) -> tuple[Order, tuple[AuditEntry, ...]]:
        content = zlib.decompressobj(zdict=self._pattern).decompress(self._compressed[key])
        unpacked: tuple[Order, tuple[AuditEntry, ...]] = pickle.loads(content)
        return unpacked

    def __contains__(self, key: object) -> bool:
        return key in self._active or key in self._compressed

    def __len__(self) -> int:
        return len(self._active) + len(self._compressed)

    def __iter__(self) -> Iterator[int]:
        return itertools.chain(tuple(self._active), tuple(self._compressed))

    def items(self) -> Iterator[tuple[int, Order]]:
        """Every key and order."""
        return ((key, self[key]) for key in self)

    def values(self) -> Iterator[Order]:
        """Every order."""
        return (self[key] for key in self)


def _mark(exec_id: str) -> bytes:
    return hashlib.blake2b(exec_id.encode(), digest_size=_MARK_BYTES).digest()
