"""What a broker with a journal offers beside its orders: who owns the account, and what an order stands for."""

from __future__ import annotations

import threading
from collections.abc import Callable

from qkt.broker.state import BrokerState
from qkt.bus import EventBus
from qkt.bybit.journal_member import JournalMember
from qkt.bybit.outbox_bus import OutboxBus
from qkt.bybit.ownership_keeper import OwnershipKeeper, keeper_of
from qkt.bybit.recovery import BybitStateRecovery
from qkt.bybit.transport.protocol import CompleteTransport
from qkt.clock import Clock
from qkt.errors import InvalidRequestError
from qkt.journal.protocol import Journal
from qkt.model.ownership import Ownership
from qkt.net.scheduler import Scheduler


class BrokerJournal:
    """A broker's journal, its outbox and its part in the account's ownership, built and ended together."""

    def __init__(
        self,
        journal: Journal,
        client: CompleteTransport,
        bus: EventBus,
        clock: Clock,
        background: Scheduler,
        *,
        category: str,
        scheduler: Scheduler | None,
    ) -> None:
        if not isinstance(journal, Journal):
            raise InvalidRequestError(f"journal must be a SqliteJournal or a PostgresJournal; got {journal!r}")
        self.keeper: OwnershipKeeper = keeper_of(client)
        self.member: JournalMember = JournalMember(self.keeper, category, clock)
        self.bus: OutboxBus = OutboxBus(bus, self.member.record, self._flush_soon)
        self.member.flush_soon = self._flush_soon
        self._journal = journal
        self._clock = clock
        self._background = background
        self._scheduler = scheduler
        self._is_asked = threading.Event()

    def _flush_soon(self) -> None:
        if self._is_asked.is_set():
            return
        self._is_asked.set()

        def flush() -> None:
            self._is_asked.clear()
            self.bus.flush()

        try:
            self._background.schedule_once(flush, 0)
        except (InvalidRequestError, RuntimeError):  # the broker closes: `OutboxBus.detach` flushes
            self._is_asked.clear()

    def start(self, state: BrokerState, recovery: BybitStateRecovery, then: Callable[[], object]) -> None:
        """Recall earlier runs and ask for the lease. Before the first round."""
        self.member.attach(state, recovery.queries, recovery.lookups, self._background, recovery.limits, then)
        self.keeper.join(self.member, self._journal, self._clock, self._scheduler)
        read_to_ms = self.member.recall()
        if read_to_ms is not None:
            recovery.resume_from(read_to_ms)
        self.keeper.start()
        if self.keeper.ownership.state in ("owner", "quarantine"):
            self.member.question_open()

    def after_round(self, recovery: BybitStateRecovery) -> None:
        """Record what the round told, and only then how far it read."""
        self.bus.flush()
        if recovery.executions_read_to_ms is not None:
            self.member.note_executions_read(recovery.executions_read_to_ms)

    def close(self) -> None:
        """Leave the account; the last broker of a client gives the lease away."""
        self.keeper.leave(self.member)


class JournaledBroker:
    """Members of a broker that concern its journal; without one the ownership is ``none``."""

    _journal: BrokerJournal | None

    @property
    def ownership(self) -> Ownership:
        """How this broker stands to its account; state ``none`` without a journal."""
        return Ownership() if self._journal is None else self._journal.keeper.ownership

    def wait_for_ownership(self, timeout_ms: int = 30_000) -> Ownership:
        """Block until this process owns the account; raises WaitTimeoutError, with the ownership as its view."""
        return self._with_journal("wait_for_ownership").keeper.wait(timeout_ms)

    def hand_over(self) -> Ownership:
        """Give the account away: no write begins, those under way get their answers, and the lease is released.

        A standby takes over within a second. This process stands by from then on, and does not ask for the lease again
        for the time of a lease. Returns the ownership afterwards.
        """
        return self._with_journal("hand_over").keeper.hand_over()

    def intent_of(self, client_order_id: str) -> str | None:
        """The intent that an order of this journal stands for, of whichever run; None for any other order."""
        return self._with_journal("intent_of").member.intent_of(client_order_id)

    def _with_journal(self, what: str) -> BrokerJournal:
        if self._journal is None:
            raise InvalidRequestError(f"{what} needs a journal: build the broker with journal=SqliteJournal(...)")
        return self._journal
