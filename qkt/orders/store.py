"""Where orders lie: those at work at hand, those that are over packed small, and unpacked whenever somebody looks.

A ledger remembers every order for a day, and a busy day has a hundred thousand of them; their fills must be known to
the last one, or a repeated execution would be told twice. An order that is settled changes hardly ever, so after a
while it is packed (to about a tenth), with its trail. Nobody notices but the memory: what comes back is equal to what
was put away.
"""

from __future__ import annotations

import hashlib
import itertools
import pickle
import zlib
from collections import deque
from collections.abc import Iterator

import attrs

from qkt.orders.order import AuditEntry, Order

_AUDIT_LENGTH = 200
_SETTLED_KEPT_ACTIVE = 5_000
_MARK_BYTES = 12  # no two of a quintillion executions share one


class OrderStore:
    """Key -> order, and its trail. Not thread-safe: its owner guards it.

    ``settled_at_hand``: so many of the orders settled last stay unpacked, since frames and rounds still repeat them.
    """

    def __init__(self, settled_kept_active: int = _SETTLED_KEPT_ACTIVE) -> None:
        self._active: dict[int, Order] = {}
        self._audits: dict[int, deque[AuditEntry]] = {}
        self._compressed: dict[int, bytes] = {}
        self._marks: dict[int, bytes] = {}  # of a packed order's executions, so that a repeated one unpacks nothing
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
        if key in self._compressed:
            self._audits[key] = deque(self._decompressed(key)[1], maxlen=_AUDIT_LENGTH)
            del self._compressed[key], self._marks[key]
        self._active[key] = order

    def note(self, key: int, entry: AuditEntry) -> None:
        """One more line in the trail of an order that was just set."""
        self._audits.setdefault(key, deque(maxlen=_AUDIT_LENGTH)).append(entry)

    def settled(self, key: int) -> None:
        """This order is over; the one that has been over for longest may be put away. Call it last: see `note`."""
        self._settled.append(key)
        while len(self._settled) > self._settled_kept_active:
            self._compress(self._settled.popleft())

    def audit(self, key: int) -> tuple[AuditEntry, ...]:
        """What changed the order, oldest first."""
        return self._decompressed(key)[1] if key in self._compressed else tuple(self._audits.get(key, ()))

    def pop(self, key: int) -> Order:
        """Forget an order and its trail."""
        order = self[key]
        self._active.pop(key, None)
        self._audits.pop(key, None)
        self._compressed.pop(key, None)
        self._marks.pop(key, None)
        return order

    def is_compressed_with(self, key: int, exec_id: str) -> bool:
        """True when a packed order has this execution. A round lists those of the whole recovery window again."""
        marks = self._marks.get(key, b"")
        mark = _mark(exec_id)
        return any(marks[at : at + _MARK_BYTES] == mark for at in range(0, len(marks), _MARK_BYTES))

    def _compress(self, key: int) -> None:
        order = self._active.get(key)
        if order is None or not order.is_settled:
            return  # forgotten, put away before, or alive again
        del self._active[key]
        plain = attrs.evolve(order, fills=dict(order.fills))
        content = pickle.dumps((plain, tuple(self._audits.pop(key, ()))), pickle.HIGHEST_PROTOCOL)
        self._pattern = self._pattern or content
        packer = zlib.compressobj(zdict=self._pattern)
        self._compressed[key] = packer.compress(content) + packer.flush()
        self._marks[key] = b"".join(_mark(exec_id) for exec_id in order.fills)

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
