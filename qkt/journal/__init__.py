"""Intents that survive a crash and a hand-over: the journal of an account, and who owns the account.

`qkt.journal.protocol` says what a journal is. `SqliteJournal` keeps it in a file for bots on one machine,
`PostgresJournal` (extra ``qkt[postgres]``) in a database for bots on several.
"""

from __future__ import annotations

from qkt.journal.postgres import PostgresJournal
from qkt.journal.sqlite import SqliteJournal

__all__ = ["PostgresJournal", "SqliteJournal"]
