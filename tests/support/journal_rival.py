"""A process that takes an account over again and again and asks for permits under each of its epochs.

python -m tests.support.journal_rival sqlite|postgres ADDRESS SCHEMA TAKEOVERS

Prints one JSON line for each of its epochs: the permits it saw when it took over, and those that it was granted.
"""

from __future__ import annotations

import json
import sys

from qkt.errors import NotOwnerError
from qkt.journal.store import JournalStore
from tests.support.journal_stores import ACCOUNT, TTL_MS, a_draft, open_at

PERMITS_PER_EPOCH = 4


def main(kind: str, address: str, schema: str, takeovers: int) -> int:
    """0 once the takeovers are done."""
    with open_at(kind, address, **({"schema": schema} if schema else {})) as journal:
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(takeovers):
            epoch = take_over(journal)
            seen = [permit.seq for permit in journal.open_permits(ACCOUNT, before_epoch=epoch)]
            print(json.dumps({"epoch": epoch, "seen": seen, "granted": ask(journal, epoch, number)}), flush=True)
    return 0


def take_over(journal: JournalStore) -> int:
    """The epoch of a takeover that succeeded."""
    for _ in range(10_000):
        lease = journal.lease(ACCOUNT)
        assert lease is not None
        result = journal.take_over(ACCOUNT, ttl_ms=TTL_MS, from_epoch=lease.epoch)
        if result.granted:
            return result.lease.epoch
    raise AssertionError("no takeover succeeded")


def ask(journal: JournalStore, epoch: int, number: int) -> list[int]:
    """The permits granted before another process took over."""
    granted: list[int] = []
    for item in range(PERMITS_PER_EPOCH):
        try:
            permits = journal.append(ACCOUNT, epoch, [a_draft(f"{journal.owner}:{number}:{item}")])
        except NotOwnerError:
            break
        granted += [permit.seq for permit in permits]
    return granted


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
