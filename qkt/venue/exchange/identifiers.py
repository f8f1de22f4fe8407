"""Ids and sequence numbers of a venue, all decided by the seed.

Spot ids are 19-digit numbers, ids of contracts UUIDs (captured).
"""

from __future__ import annotations

from random import Random
from uuid import UUID

_ID_STEP = 256  # a generated spot link id is orderId + 1, so neighbours must keep their distance


class Identifiers:
    """Hands out ids; the same seed and the same commands give the same ids."""

    def __init__(self, random: Random, seed: int) -> None:
        self._order_number = 2_000_000_000_000_000_000 + random.randrange(10**9) * _ID_STEP
        self._exec_number = 2_290_000_000_000_000_000 + random.randrange(10**9)
        self.seq: int = 118_000_000_000 + random.randrange(10**6)
        """The cross sequence of the last match."""
        self._uuids = Random(f"contracts {seed}")
        self._orders = 0
        self._executions = 0

    def next_order(self) -> int:
        """The position of a new order in the order of arrival."""
        self._orders += 1
        return self._orders

    def next_execution(self) -> int:
        """The position of a new execution in the order of events."""
        self._executions += 1
        return self._executions

    def next_seq(self) -> int:
        self.seq += 1
        return self.seq

    def spot_order(self) -> int:
        self._order_number += _ID_STEP
        return self._order_number

    def spot_execution(self) -> int:
        self._exec_number += 1
        return self._exec_number

    def uuid(self) -> str:
        return str(UUID(int=self._uuids.getrandbits(128), version=4))
