"""Connections of a `PostgresJournal`: pool, deadlines, errors and the listener. Imports psycopg (extra ``postgres``).

Nothing here depends on a session: no advisory lock, no prepared statement, no setting that outlives its transaction.
So a pooler in transaction mode may stand between. Every statement is sent with its settings as one message, which the
server runs as one transaction.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeVar

import psycopg
from psycopg import conninfo
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, PoolTimeout

from qkt.errors import InvalidRequestError, JournalError, JournalUnavailableError
from qkt.journal.store import DuplicateError
from qkt.threads import library_thread

log: logging.Logger = logging.getLogger(__name__)

_MAX_CONNECTIONS = 4
_LISTEN_TRIAL_S = 1.0
_LISTEN_STEP_S = 0.2
_CONFLICTS_RETRIED = 5

RV = TypeVar("RV")


class StatementTimeoutError(Exception):
    """The server did not answer in time; the connection is closed and the statement may have been committed."""


class DeadlineConnection(psycopg.Connection[Any]):
    """A connection whose waits end at ``deadline_s`` (monotonic), also when the server is alive and silent."""

    deadline_s: float | None = None
    last_failure: ClassVar[psycopg.Error | None] = None

    @classmethod
    def connect(cls, *args: Any, **options: Any) -> Any:
        """Connect; a failure is kept for the error that a caller of the pool gets."""
        try:
            connection = super().connect(*args, **options)
        except psycopg.Error as error:
            cls.last_failure = error
            raise
        cls.last_failure = None
        return connection

    def wait(self, gen: Generator[Any, Any, RV], *args: Any, **options: Any) -> RV:
        """Run one of psycopg's generators, until the deadline."""
        return super().wait(_until(gen, self.deadline_s), *args, **options)


def _until(gen: Generator[Any, Any, RV], deadline_s: float | None) -> Generator[Any, Any, RV]:
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and deadline_s is not None and time.monotonic() > deadline_s:
                raise StatementTimeoutError
            wanted = gen.send(ready)
    except StopIteration as stop:
        result: RV = stop.value
        return result


class PostgresSession:
    """Runs statements on pooled connections, each within ``timeout_ms``, and reconnects by itself."""

    def __init__(self, dsn: str, *, timeout_ms: int) -> None:
        self._parameters = _parameters(dsn, timeout_ms)
        self._timeout_ms = timeout_ms
        self._settings = f"SET LOCAL statement_timeout = {timeout_ms};"

        class OwnConnection(DeadlineConnection):
            """Keeps the last failure of this session alone."""

        self._connections = OwnConnection
        self._try_to_connect()
        self._pool = ConnectionPool(
            kwargs=self._parameters,
            connection_class=self._connections,
            min_size=1,
            max_size=_MAX_CONNECTIONS,
            timeout=timeout_ms / 1_000,
            reconnect_timeout=timeout_ms / 2_000,
            num_workers=1,
            name="qkt-journal",
            open=False,
        )
        self._pool.open()

    def _try_to_connect(self) -> None:
        """Fail at once, and with the cause, for a server or a DSN that will not do."""
        try:
            self._connections.connect(**self._parameters).close()
        except psycopg.Error as error:
            raise self._unavailable(error) from error

    @property
    def where(self) -> str:
        """Host, port and database, without user and password."""
        return " ".join(
            f"{key}={self._parameters[key]}" for key in ("host", "port", "dbname") if key in self._parameters
        )

    def run(self, statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """All rows of one statement, in a transaction of its own."""
        return self._run(self._settings + statement, values)

    def script(self, statements: Sequence[str]) -> list[tuple[Any, ...]]:
        """Several statements as one message and one transaction; the rows of the last."""
        return self._run(self._settings + ";".join(statements), None)

    def _run(self, message: str, values: Mapping[str, Any] | None) -> list[tuple[Any, ...]]:
        """Run a message. A lost connection or a conflict is tried again: no statement changes anything twice."""
        has_reconnected = False
        for _ in range(_CONFLICTS_RETRIED):
            try:
                return self._run_once(message, values)
            except psycopg.errors.UniqueViolation as error:
                raise DuplicateError(str(error)) from error
            except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected) as error:
                conflict = error
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                if has_reconnected or isinstance(error, PoolTimeout | psycopg.errors.QueryCanceled):
                    raise self._unavailable(error) from error
                has_reconnected = True
                self._pool.check()
            except (psycopg.Error, StatementTimeoutError) as error:
                raise self._unavailable(error) from error
        raise self._unavailable(conflict) from conflict

    def _run_once(self, message: str, values: Mapping[str, Any] | None) -> list[tuple[Any, ...]]:
        with self._pool.connection() as connection:
            # The server ends a slow statement itself; this ends the wait for a server that is silent.
            connection.deadline_s = time.monotonic() + self._timeout_ms / 1_000 + 0.5
            try:
                cursor = connection.execute(message, values)
                while cursor.nextset():
                    pass
                return cursor.fetchall() if cursor.description else []
            except StatementTimeoutError:
                connection.close()
                raise
            finally:
                connection.deadline_s = None
                if connection.pgconn.transaction_status == TransactionStatus.ACTIVE:
                    connection.close()

    def _unavailable(self, error: Exception) -> JournalUnavailableError:
        if isinstance(error, PoolTimeout) and self._connections.last_failure is not None:
            error = self._connections.last_failure
        cause = str(error).strip().splitlines()[0] if str(error).strip() else "no answer in time"
        return JournalUnavailableError(
            f"journal at {self.where} cannot be used now ({type(error).__name__}: {cause}): "
            "no permit was given and nothing was sent; qkt reconnects by itself"
        )

    def connect_for_listening(self) -> psycopg.Connection[Any]:
        """A connection of its own, outside the pool."""
        return psycopg.connect(**self._parameters)

    def close(self) -> None:
        """Close all connections."""
        self._pool.close(timeout=2)


class Listener:
    """Calls ``on_news`` for each notification on a channel, for as long as the server delivers them to us.

    Behind a pooler in transaction mode LISTEN succeeds and nothing ever arrives. So the listener first sends itself a
    notification through the pool; when it does not come back, it stops and the journal's polling is all there is.
    """

    def __init__(self, session: PostgresSession, channel: str, on_news: Callable[[], None]) -> None:
        self._session = session
        self._channel = channel
        self._on_news = on_news
        self._stopping = threading.Event()
        self.state: Literal["connecting", "listening", "polling"] = "connecting"
        self._thread = library_thread("qkt-journal-listen", self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set() and self.state != "polling":
            try:
                with self._session.connect_for_listening() as connection:
                    self._listen(connection)
            except (psycopg.Error, JournalError) as error:
                log.debug("journal listener reconnects error=%s", type(error).__name__)
                self._stopping.wait(_LISTEN_TRIAL_S)

    def _listen(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(f'LISTEN "{self._channel}"')
        token = secrets.token_hex(8)
        self._session.run("SELECT pg_notify(%(channel)s, %(token)s)", {"channel": self._channel, "token": token})
        until = time.monotonic() + _LISTEN_TRIAL_S
        while not self._stopping.is_set():
            for notice in connection.notifies(timeout=_LISTEN_STEP_S):
                if notice.payload == token:
                    self.state = "listening"
                self._on_news()
            if self.state == "connecting" and time.monotonic() > until:
                self.state = "polling"
                log.info("journal polls for events reason=%s", "notifications do not arrive, as behind a pooler")
                return

    def close(self) -> None:
        """Stop listening; returns once the thread has ended."""
        self._stopping.set()
        self._thread.join(timeout=2)


def _parameters(dsn: str, timeout_ms: int) -> dict[str, Any]:
    try:
        given = conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # libpq's message may quote the text, password included.
        raise InvalidRequestError(
            "the DSN of the journal cannot be read; it looks like postgresql://user:password@host:5432/dbname?sslmode=require"
        ) from None
    defaults: dict[str, Any] = {
        "connect_timeout": max(2, timeout_ms // 1_000),
        "target_session_attrs": "read-write",  # never a replica: it may lag behind a takeover
        "application_name": "qkt-journal",
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": timeout_ms,
    }
    fixed: dict[str, Any] = {"autocommit": True, "cursor_factory": psycopg.ClientCursor, "prepare_threshold": None}
    return {**defaults, **given, **fixed}
