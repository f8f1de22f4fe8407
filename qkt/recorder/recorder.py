"""`FlightRecorder`: writes what a process hears and sends on the wire, and every input and output of its brokers.

Recording costs the threads of trading one call that appends to a queue. A thread of the recorder's own,
``qkt-recorder``, turns what is queued into text, removes secrets, chains the lines by hashes (`qkt.recorder.chain`) and
writes them. The queue is bounded: what does not fit is dropped and counted in a line of kind ``gap``, and a disk that
fails stops the recording and nothing else.

A run is a folder, ``<folder>/<start>-<nonce>/``, with files ``0001.jsonl``, ``0002.jsonl`` and so on. Kinds of lines:
``run`` (first in each file), ``transport``, ``broker``, ``frame``, ``request``, ``reply``, ``failure``, ``link``,
``op`` (an operation of a broker's state), ``event`` (of other publishers), ``gap`` and ``end``.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import itertools
import json
import logging
import os
import platform
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import attrs

from qkt._version import __version__
from qkt.broker.state_observer import Observation, StateObserver
from qkt.bus import EventBus
from qkt.bybit.transport.adapter import as_transport
from qkt.bybit.transport.observer import LinkNews, Route
from qkt.clock import Clock, SystemClock
from qkt.errors import InvalidRequestError
from qkt.events import BrokerEvent
from qkt.ids import run_nonce
from qkt.net.fork import generation
from qkt.orders.ledger import Change
from qkt.orders.order import Order
from qkt.recorder.chain import START, ChainWriter
from qkt.recorder.coding import encode
from qkt.secret import Secret, hide_secrets
from qkt.threads import library_thread

log: logging.Logger = logging.getLogger(__name__)

FORMAT = 1

_GATHER_S = 0.05  # one wake-up of the writer takes what came within this time
_CLOSE_S = 5.0
_BATCH = 200
_FACT_BYTES = 1_000
_WIRE_TEXTS = ("payload", "text", "what", "detail")
_EVENTS_REMEMBERED = 20_000

_ENTRY_BYTES = 500  # about what an entry takes besides its text

Entry = tuple[int, str, Any, int]


@attrs.frozen(kw_only=True)
class RecorderStats:
    """What a recorder has done: lines and bytes written, entries dropped for want of room, entries waiting now."""

    lines: int
    bytes_written: int
    dropped: int
    waiting: int
    is_recording: bool


class FlightRecorder:
    """Records clients, the brokers built on them, and buses, from `attach` to `close`.

    Args:
        folder: where runs are kept; made when it does not exist.
        max_file_bytes: a file that has grown to this is followed by the next.
        keep_files: how many files of this run are kept; all by default. A run that lost its first file cannot be
            replayed, but still be verified and searched.
        max_waiting_bytes: about how much may wait for the writer.
        clock: dates the lines.

    Attach a client before brokers are built on it: a broker built earlier is not recorded. Safe from any thread.
    Raises InvalidRequestError for a senseless option, OSError when the folder cannot be written.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] = "runs",
        *,
        max_file_bytes: int = 64 * 1024 * 1024,
        keep_files: int | None = None,
        max_waiting_bytes: int = 64 * 1024 * 1024,
        clock: Clock | None = None,
    ) -> None:
        limits = {"max_file_bytes": max_file_bytes, "max_waiting_bytes": max_waiting_bytes, "keep_files": keep_files}
        for name, value in limits.items():
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise InvalidRequestError(f"{name} must be a whole number above zero, got {value!r}")
        self._clock = clock or SystemClock()
        self._generation = generation()
        started = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        name = f"{started:%Y-%m-%dT%H-%M-%SZ}-{run_nonce()[:4]}"
        self._path = _new_folder(Path(folder), name)
        self._files = _Files(self._path, max_file_bytes, keep_files, self._head)
        self._max_waiting_bytes = max_waiting_bytes
        self._started_ms = self._clock.now_ms()

        self._lock = threading.Lock()
        self._queue: deque[Entry] = deque()
        self._waiting_bytes = 0
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._dropped = 0
        self._dropped_told = 0
        self._is_open = True
        self._is_released = False
        self._numbers = itertools.count(1)
        self._clients = itertools.count()
        self._brokers = itertools.count()
        self._secrets: tuple[Secret, ...] = ()
        self._adapters: list[object] = []
        self._subscriptions: list[Any] = []
        self._told_events: deque[BrokerEvent] = deque()  # kept, so that the ids below are not used again
        self._told_ids: set[int] = set()
        self._writer = library_thread("qkt-recorder", self._write)
        self._writer.start()
        reference = weakref.ref(self)
        self._at_exit: Callable[[], None] = lambda: _close_if_alive(reference)
        atexit.register(self._at_exit)

    def attach(self, *sources: object) -> Self:
        """Record these clients and buses from now on; returns the recorder."""
        for source in sources:
            if isinstance(source, EventBus):
                self._subscriptions.append(source.subscribe(BrokerEvent, self._event_came))
            else:
                transport = as_transport(source)
                self._adapters.append(transport)  # an adapter lives as long as a reference to it
                transport.observe(_ClientTap(self, next(self._clients)))
        return self

    @property
    def path(self) -> Path:
        """The folder of this run."""
        return self._path

    @property
    def stats(self) -> RecorderStats:
        """What was written so far."""
        return RecorderStats(
            lines=self._files.lines,
            bytes_written=self._files.total_bytes,
            dropped=self._dropped,
            waiting=len(self._queue),
            is_recording=self._is_open and not self._files.has_failed,
        )

    def close(self) -> None:
        """Write what waits and a last line; idempotent. Close brokers and clients first: what comes later is lost."""
        if self._generation != generation():
            return  # a forked child: file and thread are the parent's
        with self._lock:
            was_open, self._is_open = self._is_open, False
            was_released, self._is_released = self._is_released, True
        self._closing.set()
        self._wake.set()
        if self._writer is not threading.current_thread():
            self._writer.join(_CLOSE_S)
        if not was_released:  # also when a failed writer ended the recording before
            for subscription in self._subscriptions:
                subscription.cancel()
            atexit.unregister(self._at_exit)
        if was_open:
            log.info("recording closed path=%s lines=%d last_hash=%s", self._path, self._files.lines, self._files.last)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        stats = self.stats
        state = "recording" if stats.is_recording else "closed"
        return (
            f"<FlightRecorder {state} {self._path} lines={stats.lines} bytes={stats.bytes_written} "
            f"dropped={stats.dropped} waiting={stats.waiting}>"
        )

    def _event_came(self, event: BrokerEvent) -> None:
        self._put("event", event)

    def _put(self, kind: str, content: Any, size: int = 0) -> None:
        """Queue an entry; the only thing that threads of trading do here."""
        size += _ENTRY_BYTES
        entry = (self._clock.now_ms(), kind, content, size)
        with self._lock:
            if not self._is_open:
                return
            if self._waiting_bytes + size > self._max_waiting_bytes:
                self._dropped += 1
                return
            self._waiting_bytes += size
            self._queue.append(entry)
            is_first = len(self._queue) == 1
        if is_first:
            self._wake.set()

    def _protect(self, secrets: tuple[Secret, ...]) -> None:
        self._secrets = (*self._secrets, *secrets)

    def _write(self) -> None:
        """The body of ``qkt-recorder``."""
        try:
            while not self._closing.is_set():
                self._wake.wait()
                self._closing.wait(_GATHER_S)
                self._wake.clear()
                self._write_waiting()
            self._write_waiting()
            self._files.write(self._line("end", self._clock.now_ms(), {"lines": self._files.lines + 1}))
            self._files.close()
        except Exception as error:  # whatever fails here, trading goes on
            self._files.has_failed = True
            log.exception("recording stopped path=%s error=%s", self._path, error)
            with self._lock:
                self._is_open = False
                self._queue.clear()
            with contextlib.suppress(OSError):  # what is buffered may fail as the write did; the file closes anyway
                self._files.close()

    def _write_waiting(self) -> None:
        while True:
            with self._lock:
                waiting = [self._queue.popleft() for _ in range(min(len(self._queue), _BATCH))]
                self._waiting_bytes -= sum(size for *_, size in waiting)
                dropped = self._dropped
            if dropped > self._dropped_told:
                lost, self._dropped_told = dropped - self._dropped_told, dropped
                log.warning("recording has a gap path=%s dropped=%d", self._path, lost)
                self._files.write(self._line("gap", self._clock.now_ms(), {"dropped": lost}))
            if not waiting:
                break
            for at_ms, kind, content, _ in waiting:
                for fields in self._fields(kind, content):
                    self._files.write(self._line(kind, at_ms, fields))
        self._files.flush()

    def _line(self, kind: str, at_ms: int, fields: Mapping[str, Any]) -> dict[str, Any]:
        return {"kind": kind, "at_ms": at_ms, **fields}

    def _fields(self, kind: str, content: Any) -> Iterator[dict[str, Any]]:
        """The lines of an entry: none for an event that an operation of a recorded broker told already."""
        if kind == "frame":
            client, messages = content
            for data in messages:
                yield {"client": client, "text": self._clean(data)}
        elif kind == "op":
            broker, observation = content
            yield {"broker": broker, **self._operation(observation)}
        elif kind == "event":
            if id(content) not in self._told_ids:
                yield {"event": encode(content)}
        else:
            cleaned = {name: self._clean(content[name]) for name in _WIRE_TEXTS if name in content}
            yield {**content, **cleaned}

    def _operation(self, observation: Observation) -> dict[str, Any]:
        told: dict[str, Any] = {"op": observation.operation}
        if observation.operation != "publish":
            told["inputs"] = [encode(value) for value in observation.inputs]
        told["readings"] = list(observation.readings)
        if observation.events:
            told["events"] = [encode(event) for event in observation.events]
            for event in observation.events:
                self._remember(event)
        after = after_of(observation.changes)
        if after:
            told["after"] = after
        return told

    def _remember(self, event: BrokerEvent) -> None:
        self._told_events.append(event)
        self._told_ids.add(id(event))
        if len(self._told_events) > _EVENTS_REMEMBERED:
            self._told_ids.discard(id(self._told_events.popleft()))

    def _clean(self, text: bytes | str | Mapping[str, object]) -> str:
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        elif not isinstance(text, str):
            text = json.dumps(text, default=str, separators=(",", ":"), ensure_ascii=False)
        return hide_secrets(text, self._secrets)

    def _head(self, part: int, previous: str) -> dict[str, Any]:
        """The first line of a file: what made it."""
        return {
            "kind": "run",
            "at_ms": self._clock.now_ms(),
            "format": FORMAT,
            "run": self._path.name,
            "part": part,
            "prev": previous,
            "started_ms": self._started_ms,
            "qkt": __version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "nonce": run_nonce(),
        }


class _ClientTap:
    """The observer of one client; it outlives the client's sessions."""

    def __init__(self, recorder: FlightRecorder, number: int) -> None:
        self._recorder = recorder
        self._number = number

    def attached(self, settings: Mapping[str, object], secrets: tuple[Secret, ...]) -> None:
        self._recorder._protect(secrets)
        self._put("transport", {"settings": dict(settings)})

    def requested(self, verb: str, path: str, payload: str, *, route: Route) -> int:
        number = next(self._recorder._numbers)
        self._put("request", {"id": number, "verb": verb, "path": path, "payload": payload, "route": route})
        return number

    def answered(self, number: int, status: int, body: bytes | Mapping[str, object]) -> None:
        size = len(body) if isinstance(body, bytes) else 0
        self._put("reply", {"id": number, "status": status, "text": body}, size)

    def failed(self, number: int, what: str, *, has_left: bool) -> None:
        self._put("failure", {"id": number, "what": what, "has_left": has_left})

    def frames_read(self, frames: Sequence[bytes]) -> None:
        self._recorder._put("frame", (self._number, tuple(frames)), sum(map(len, frames)))

    def link_changed(self, news: LinkNews, detail: str) -> None:
        self._put("link", {"news": news, "detail": detail})

    def state_observer(self, source: str, settings: Mapping[str, object]) -> StateObserver:
        number = next(self._recorder._brokers)
        self._put("broker", {"broker": number, "source": source, "settings": dict(settings)})
        return _StateTap(self._recorder, number)

    def _put(self, kind: str, fields: dict[str, Any], size: int = 0) -> None:
        self._recorder._put(kind, {"client": self._number, **fields}, size)


class _StateTap:
    """The observer of one broker's state."""

    def __init__(self, recorder: FlightRecorder, number: int) -> None:
        self._recorder = recorder
        self._number = number

    def observe(self, observation: Observation) -> None:
        if observation.inputs or observation.events or observation.operation == "close":
            self._recorder._put("op", (self._number, observation), _FACT_BYTES * len(observation.inputs))


class _Files:
    """The files of a run: the next one is begun when the present one is full. Used by one thread."""

    def __init__(
        self, folder: Path, max_bytes: int, keep: int | None, head: Callable[[int, str], dict[str, Any]]
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._keep = keep
        self._head = head
        self._chain = ChainWriter(START)
        self._file: IO[bytes] | None = None
        self._size = 0
        self._part = 0
        self.lines = 0
        self.total_bytes = 0
        self.has_failed = False

    @property
    def last(self) -> str:
        """The hash of the last line."""
        return self._chain.last

    def write(self, fields: dict[str, Any]) -> None:
        """Append a line."""
        if self._file is None or self._size >= self._max_bytes:
            self._begin()
        self._append(fields)

    def _begin(self) -> None:
        self.close()
        self._part += 1
        self._file = (self._folder / f"{self._part:04}.jsonl").open("xb")
        self._size = 0
        self._append(self._head(self._part, self._chain.last))
        if self._keep is not None and self._part > self._keep:
            (self._folder / f"{self._part - self._keep:04}.jsonl").unlink(missing_ok=True)

    def _append(self, fields: dict[str, Any]) -> None:
        assert self._file is not None
        data = self._chain.line(fields).encode("utf-8", "surrogatepass")
        self._file.write(data)
        self._size += len(data)
        self.total_bytes += len(data)
        self.lines += 1

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Close the present file."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


def after_of(changes: Sequence[Change]) -> list[list[str]]:
    """Each order that changed, once, by its ids and a digest of what is believed of it."""
    last: dict[tuple[str, str], Order] = {}
    for change in changes:
        if not change.is_news:
            continue
        last[(change.after.client_order_id, change.after.broker_order_id)] = change.after
    return [[*names, digest_of(order)] for names, order in last.items()]


def digest_of(order: Order) -> str:
    """A short hash of an order's view: equal views have equal digests."""
    return hashlib.sha256(order.view().to_json().encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _new_folder(parent: Path, name: str) -> Path:
    """A folder that did not exist; runs of one second get a number."""
    parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return path
    raise AssertionError  # the count has no end


def _close_if_alive(reference: weakref.ref[FlightRecorder]) -> None:
    recorder = reference()
    if recorder is not None:
        recorder.close()
