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

from qkt.orders.order import Order, TrailEntry

_TRAIL_LENGTH = 200
_SETTLED_AT_HAND = 5_000
_MARK_BYTES = 12  # no two of a quintillion executions share one


class Shelf:
    """Key -> order, and its trail. Not thread-safe: its owner guards it.

    ``settled_at_hand``: so many of the orders settled last stay unpacked, since frames and rounds still repeat them.
    """

    def __init__(self, settled_at_hand: int = _SETTLED_AT_HAND) -> None:
        self._at_hand: dict[int, Order] = {}
        self._trails: dict[int, deque[TrailEntry]] = {}
        self._packed: dict[int, bytes] = {}
        self._marks: dict[int, bytes] = {}  # of a packed order's executions, so that a repeated one unpacks nothing
        self._settled: deque[int] = deque()
        self._settled_at_hand = settled_at_hand
        self._pattern = b""  # the first order put away: the others differ from it in little

    def __getitem__(self, key: int) -> Order:
        order = self._at_hand.get(key)
        return self._unpacked(key)[0] if order is None else order

    def get(self, key: int) -> Order | None:
        """The order, or None."""
        try:
            return self[key]
        except KeyError:
            return None

    def __setitem__(self, key: int, order: Order) -> None:
        if key in self._packed:
            self._trails[key] = deque(self._unpacked(key)[1], maxlen=_TRAIL_LENGTH)
            del self._packed[key], self._marks[key]
        self._at_hand[key] = order

    def note(self, key: int, entry: TrailEntry) -> None:
        """One more line in the trail of an order that was just set."""
        self._trails.setdefault(key, deque(maxlen=_TRAIL_LENGTH)).append(entry)

    def settled(self, key: int) -> None:
        """This order is over; the one that has been over for longest may be put away. Call it last: see `note`."""
        self._settled.append(key)
        while len(self._settled) > self._settled_at_hand:
            self._put_away(self._settled.popleft())

    def trail(self, key: int) -> tuple[TrailEntry, ...]:
        """What changed the order, oldest first."""
        return self._unpacked(key)[1] if key in self._packed else tuple(self._trails.get(key, ()))

    def pop(self, key: int) -> Order:
        """Forget an order and its trail."""
        order = self[key]
        self._at_hand.pop(key, None)
        self._trails.pop(key, None)
        self._packed.pop(key, None)
        self._marks.pop(key, None)
        return order

    def is_packed_with(self, key: int, exec_id: str) -> bool:
        """True when a packed order has this execution. A round lists those of the whole recovery window again."""
        marks = self._marks.get(key, b"")
        mark = _mark(exec_id)
        return any(marks[at : at + _MARK_BYTES] == mark for at in range(0, len(marks), _MARK_BYTES))

    def _put_away(self, key: int) -> None:
        order = self._at_hand.get(key)
        if order is None or not order.is_settled:
            return  # forgotten, put away before, or alive again
        del self._at_hand[key]
        plain = attrs.evolve(order, fills=dict(order.fills))
        content = pickle.dumps((plain, tuple(self._trails.pop(key, ()))), pickle.HIGHEST_PROTOCOL)
        self._pattern = self._pattern or content
        packer = zlib.compressobj(zdict=self._pattern)
        self._packed[key] = packer.compress(content) + packer.flush()
        self._marks[key] = b"".join(_mark(exec_id) for exec_id in order.fills)

    def _unpacked(self, key: int) -> tuple[Order, tuple[TrailEntry, ...]]:
        content = zlib.decompressobj(zdict=self._pattern).decompress(self._packed[key])
        unpacked: tuple[Order, tuple[TrailEntry, ...]] = pickle.loads(content)
        return unpacked

    def __contains__(self, key: object) -> bool:
        return key in self._at_hand or key in self._packed

    def __len__(self) -> int:
        return len(self._at_hand) + len(self._packed)

    def __iter__(self) -> Iterator[int]:
        return itertools.chain(tuple(self._at_hand), tuple(self._packed))

    def items(self) -> Iterator[tuple[int, Order]]:
        """Every key and order."""
        return ((key, self[key]) for key in self)

    def values(self) -> Iterator[Order]:
        """Every order."""
        return (self[key] for key in self)


def _mark(exec_id: str) -> bytes:
    return hashlib.blake2b(exec_id.encode(), digest_size=_MARK_BYTES).digest()
