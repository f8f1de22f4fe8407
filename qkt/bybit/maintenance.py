"""`MaintenanceWatch`: maintenances of the venue, planned and running, as events and in every broker's health.

It reads ``/v5/system/status`` at intervals, and whenever its stream has come back, and hears the topic
``system.status``. While a maintenance runs, brokers of the client judge no absence: an order that no list shows is not
looked up and concluded about, since a venue that is being worked on may show empty lists. Nothing else is held back,
unless brokers are named to be frozen.

Source: docs v5/system-status, v5/websocket/public/system-status.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Protocol, Self

from qkt.bus import EventBus
from qkt.bybit.codec.envelope import Envelope
from qkt.bybit.codec.maintenance import to_maintenance
from qkt.bybit.codec.rows import parse_rows
from qkt.bybit.transport.adapter import as_transport
from qkt.bybit.transport.client import BybitClient
from qkt.bybit.transport.protocol import BybitTransport
from qkt.bybit.transport.stream import PublicStream, StreamHooks
from qkt.clock import Clock, SystemClock
from qkt.errors import InvalidRequestError, QktError
from qkt.events import Origin, VenueMaintenance
from qkt.model.maintenance import Maintenance
from qkt.net.scheduler import ThreadScheduler

log: logging.Logger = logging.getLogger(__name__)

STATUS = "/v5/system/status"
_TOPIC = "system.status"


class Freezable(Protocol):
    """What can be told to send no orders: every broker."""

    def freeze(self, reason: str = "asked") -> None:
        """Send no orders until `unfreeze`."""
        ...

    def unfreeze(self) -> None:
        """Send orders again."""
        ...


class MaintenanceWatch:
    """Watches the venue's announcements from its construction to `close`.

    Args:
        client: the transport that is asked; its brokers learn of running maintenances.
        bus: where `VenueMaintenance` is published, once for each new announcement and each change of its state.
        freeze: brokers to freeze while a maintenance runs; none by default.
        interval_ms: between two reads.
        clock: tells whether the time of a planned maintenance has come, corrected by the venue's.

    The first read is made at once; one that fails is tried again at the next interval. Safe from any thread.
    """

    def __init__(
        self,
        client: BybitTransport,
        bus: EventBus,
        *,
        freeze: Iterable[Freezable] = (),
        interval_ms: int = 60_000,
        clock: Clock | None = None,
    ) -> None:
        if not isinstance(interval_ms, int) or isinstance(interval_ms, bool) or interval_ms <= 0:
            raise InvalidRequestError(f"interval_ms must be a whole number of ms above zero, got {interval_ms!r}")
        self._client = as_transport(client)
        self._bus = bus
        self._freeze = tuple(freeze)
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._known: dict[str, Maintenance] = {}
        self._is_frozen = False
        self._is_closed = False
        self._stream: PublicStream | None = None
        self._scheduler = ThreadScheduler(2, name="qkt-maintenance")
        bus.attach(self)
        try:
            self.refresh()
            self._scheduler.schedule_at_fixed_rate(self.refresh, interval_ms, interval_ms)
            if isinstance(client, BybitClient):
                self._scheduler.schedule_once(lambda: self._open_stream(client), 0)
        except BaseException:
            self.close()
            raise

    def refresh(self) -> None:
        """Read the announcements now; a read that fails changes nothing."""
        try:
            envelope = self._client.get_signed(STATUS, {})
        except QktError as error:
            log.warning("system status not read error=%s", error)
            self._apply()
            return
        result = envelope.get("result")
        self._learn(result.get("list") if isinstance(result, dict) else None, "reconcile")

    @property
    def maintenances(self) -> tuple[Maintenance, ...]:
        """Those that are planned or run."""
        with self._lock:
            return tuple(one for one in self._known.values() if not one.is_over)

    @property
    def is_running(self) -> bool:
        """True while a maintenance runs."""
        return any(one.is_running(self._venue_ms()) for one in self.maintenances)

    def close(self) -> None:
        """Stop watching; brokers that were frozen by it are let go. Idempotent, from any thread."""
        with self._lock:
            self._is_closed = True
            stream = self._stream
            self._known = {}
        if stream is not None:
            stream.close()
        self._scheduler.close()
        self._apply()
        self._bus.detach(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        told = "; ".join(map(str, self.maintenances)) or "none announced"
        return f"<MaintenanceWatch {told}>"

    def _open_stream(self, client: BybitClient) -> None:
        hooks = StreamHooks(
            on_frames=self._frames_came,
            on_ready=self._read_soon,
            on_lost=lambda _reason: None,
            on_fault=lambda fault: log.warning("system status topic refused reason=%s", fault.reason),
            on_malformed=lambda _reason: None,
            resynchronise=lambda: None,
        )
        stream = client.public_stream("misc/status", hooks, scheduler=self._scheduler, thread_name="qkt-status")
        with self._lock:
            if self._is_closed:
                return
            self._stream = stream
        stream.subscribe(_TOPIC)
        try:
            stream.open()
        except (OSError, QktError) as error:
            log.info("system status stream not open, it is read at intervals error=%s", error)
            stream.reconnect("system status stream not open")

    def _read_soon(self) -> None:
        """Read what no connected stream told: a frame that was sent before the subscription never comes again."""
        with contextlib.suppress(InvalidRequestError):  # the watch was closed meanwhile
            self._scheduler.schedule_once(self.refresh, 0)

    def _frames_came(self, frames: list[Envelope]) -> None:
        for frame in frames:
            self._learn(frame.get("data"), "stream")

    def _learn(self, rows: Any, origin: Origin) -> None:
        found, malformed = parse_rows(rows if isinstance(rows, list) else [], to_maintenance, STATUS)
        for bad in malformed:
            log.warning("malformed maintenance problem=%s row=%s", bad.problem, bad.excerpt)
        with self._lock:
            if self._is_closed:
                return
            news = [one for one in found if self._known.get(one.maintenance_id) != one]
            news = [one for one in news if not one.is_over or one.maintenance_id in self._known]
            self._known |= {one.maintenance_id: one for one in news}
        for one in news:
            log.warning("maintenance state=%s begin_ms=%d end_ms=%d title=%s", one.state, one.begin_ms, one.end_ms, one)
        self._apply()
        self._bus.enqueue([VenueMaintenance(maintenance=one, origin=origin) for one in news], source=self)
        self._bus.deliver()

    def _apply(self) -> None:
        """Tell the client what runs, and freeze or let go what was named."""
        venue_ms = self._venue_ms()
        with self._lock:
            self._client.maintenances = tuple(one for one in self._known.values() if not one.is_over)
            running = [one for one in self._client.maintenances if one.is_running(venue_ms)]
            changes, self._is_frozen = bool(running) is not self._is_frozen, bool(running)
        if not changes:
            return
        for broker in self._freeze:
            try:
                if running:
                    broker.freeze(f"the venue is under maintenance: {running[0].title}")
                else:
                    broker.unfreeze()
            except Exception:  # a broker of the user's own: the others are frozen or let go all the same
                log.exception("maintenance not passed on broker=%r is_running=%s", broker, bool(running))

    def _venue_ms(self) -> int:
        steady_ms = self._client.venue_ms()
        return self._clock.now_ms() + self._client.clock_offset_ms if steady_ms is None else steady_ms
