"""One account's wallet, shared by every broker on the same client: fetched once, told to each (S81)."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from typing import Any

import attrs

from qkt.bybit.account.registry import PerClient
from qkt.bybit.codec.balances import BybitBalanceTranslator, account_of
from qkt.bybit.codec.frames import created_ms_of
from qkt.bybit.queries import BybitQueries, WalletRead
from qkt.bybit.transport.protocol import CompleteTransport
from qkt.errors import QktError, VenueProtocolError, VenueUnavailableError
from qkt.model.balances import CoinBalance, Wallet
from qkt.reconcile.snapshot import Completeness, Read
from qkt.reconcile.wallet import WalletBook

_SHARED_FOR_MS = 1_000

# The venue's clocks and our measurement of them differ by less; a date further ahead is a mistake.
_AHEAD_AT_MOST_MS = 2_000


class WalletCache:
    """Reads the wallet, joins frames into it, and writes what is known into the transport. Safe from any thread."""

    def __init__(self, client: CompleteTransport) -> None:
        self._client = weakref.proxy(client)
        self._one_at_a_time = threading.Lock()
        self._lock = threading.Lock()
        self._book = WalletBook()
        self._brokers = 0
        self._last: tuple[int, Read[tuple[str, CoinBalance]]] | None = None

    def read(self, queries: BybitQueries, account_type: str, *, monotonic_ms: int) -> Read[tuple[str, CoinBalance]]:
        """Fetch and join; a read another broker made within the last second serves as well."""
        with self._one_at_a_time:
            if self._last is not None and 0 <= monotonic_ms - self._last[0] < _SHARED_FOR_MS and self._brokers > 1:
                return self._last[1]
            read = queries.wallet(account_type)
            if read.is_complete:
                try:
                    with self._lock:
                        book = self._book.after_read(dict(read.rows), read.begun_ms)
                        self._book = book.with_account(read.account) if isinstance(read, WalletRead) else book
                        self._write()
                except QktError as error:
                    return attrs.evolve(read, completeness=Completeness.FAILED, problems=(str(error),))
                self._last = (monotonic_ms, read)
            return read

    def absorb_frame(self, frame: Mapping[str, Any], account_type: str, *, received_ms: int) -> None:
        """Join a wallet frame; one without a date, or dated ahead of venue time, is as old as its arrival.

        Raises VenueProtocolError when it cannot be read.
        """
        created_ms = created_ms_of(frame) or received_ms
        if created_ms > received_ms + _AHEAD_AT_MOST_MS:
            created_ms = received_ms
        data = frame.get("data")
        for account in data if isinstance(data, list) else [data]:
            if not isinstance(account, dict):
                raise VenueProtocolError("the account row is no object", path="wallet frame")
            if account.get("accountType", account_type) != account_type:
                continue  # another of the user's accounts
            coins = BybitBalanceTranslator.coins_of(account)
            summary = account_of(account, as_of_ms=created_ms)
            with self._lock:
                book = self._book.after_frame(coins, created_ms)
                self._book = book.with_account(summary)
                self._write()

    @property
    def book(self) -> WalletBook:
        """What is known now."""
        with self._lock:
            return self._book

    def _write(self) -> None:
        wallet: Wallet = self._book.wallet
        try:
            self._client.update_balances(wallet.totals, wallet)
        except QktError:
            raise
        except Exception as error:
            raise VenueUnavailableError(f"update_balances failed in the transport: {error!r}") from error

    def join(self) -> WalletCache:
        """One more broker reads here."""
        with self._lock:
            self._brokers += 1
        return self

    def leave(self) -> None:
        """One broker fewer."""
        with self._lock:
            self._brokers -= 1


_caches = PerClient(WalletCache)


def wallet_cache(client: CompleteTransport) -> WalletCache:
    """The one cache of this client."""
    return _caches.of(client).join()
