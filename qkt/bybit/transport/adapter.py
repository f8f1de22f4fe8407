"""Completes a transport that has only the required members, once, when a broker is built on it."""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, cast

from qkt.bybit.codec.envelope import Envelope
from qkt.bybit.transport.permitted import PermittedRequest
from qkt.bybit.transport.protocol import (
    BaseBybitTransport,
    BatchListener,
    BybitTransport,
    CompleteTransport,
    FrameListener,
    StreamFault,
)
from qkt.bybit.transport.read_scope import ReadScope
from qkt.errors import InvalidRequestError
from qkt.model.balances import Wallet

_REQUIRED_METHODS = (
    "get_signed",
    "post_signed",
    "subscribe",
    "update_balances",
    "on_disconnect",
    "on_reconnect",
)


class TransportAdapter(BaseBybitTransport):
    """A transport with the optional members filled in: its own where it has them, the defaults elsewhere."""

    def __init__(self, client: BybitTransport) -> None:
        self._client = client
        name = getattr(client, "name", "")
        self.name: str = name if isinstance(name, str) else ""
        self._own = {name: getattr(client, name) for name in _OPTIONAL_METHODS if hasattr(client, name)}
        self._takes_wallet = len(inspect.signature(client.update_balances).parameters) > 1

    @property
    def is_connected(self) -> bool:
        """See `BybitTransport`."""
        return self._client.is_connected

    @property
    def balances(self) -> Mapping[str, Decimal]:
        """See `BybitTransport`."""
        return self._client.balances

    @property
    def wallet(self) -> Wallet:
        """See `BybitTransport`."""
        return self._client.wallet

    def connect(self) -> None:
        """See `BybitTransport`; nothing for a transport that has no such step."""
        self._call("connect")

    def close(self) -> None:
        """See `BybitTransport`; nothing for a transport that has no such step."""
        self._call("close")

    def update_balances(self, snapshot: Mapping[str, Decimal], wallet: Wallet | None = None) -> None:
        """See `BybitTransport`; the wallet is left out where the transport takes the balances alone."""
        if self._takes_wallet:
            self._client.update_balances(snapshot, wallet)
        else:
            self._client.update_balances(snapshot)

    def get_signed(self, path: str, query: Mapping[str, Any]) -> Envelope:
        """See `BybitTransport`."""
        return self._client.get_signed(path, query)

    def post_signed(self, path: str, body: Mapping[str, Any]) -> Envelope:
        """See `BybitTransport`."""
        return self._client.post_signed(path, body)

    def subscribe(self, topic: str, listener: FrameListener) -> None:
        """See `BybitTransport`."""
        self._client.subscribe(topic, listener)

    def on_disconnect(self, handler: Callable[[str], None]) -> None:
        """See `BybitTransport`."""
        self._client.on_disconnect(handler)

    def on_reconnect(self, handler: Callable[[], None]) -> None:
        """See `BybitTransport`."""
        self._client.on_reconnect(handler)

    @property
    def account_type(self) -> str:
        """See `BaseBybitTransport`."""
        return str(self._value("account_type", super().account_type) or super().account_type)

    @property
    def recv_window_ms(self) -> int:
        """See `BaseBybitTransport`."""
        return int(self._value("recv_window_ms", super().recv_window_ms) or super().recv_window_ms)

    @property
    def clock_offset_ms(self) -> int:
        """See `BaseBybitTransport`."""
        return int(self._value("clock_offset_ms", 0) or 0)

    @property
    def stream_state(self) -> str:
        """See `BaseBybitTransport`."""
        return str(self._value("stream_state", super().stream_state))

    @property
    def topic_faults(self) -> Mapping[str, StreamFault]:
        """See `BaseBybitTransport`."""
        return cast(Mapping[str, StreamFault], self._value("topic_faults", super().topic_faults))

    def venue_ms(self) -> int | None:
        """See `BaseBybitTransport`."""
        return cast("int | None", self._call("venue_ms"))

    def read_once(
        self, path: str, query: Mapping[str, Any], *, timeout_ms: int, scope: ReadScope | None = None
    ) -> Envelope:
        """See `BaseBybitTransport`."""
        own = self._own.get("read_once")
        if own is None:
            return super().read_once(path, query, timeout_ms=timeout_ms, scope=scope)
        return cast(Envelope, own(path, query, timeout_ms=timeout_ms, scope=scope))

    def post_permitted(self, request: PermittedRequest) -> Envelope:
        """See `BaseBybitTransport`."""
        own = self._own.get("post_permitted")
        return super().post_permitted(request) if own is None else cast(Envelope, own(request))

    def subscribe_batch(self, topics: Iterable[str], listener: BatchListener) -> None:
        """See `BaseBybitTransport`."""
        own = self._own.get("subscribe_batch")
        if own is None:
            super().subscribe_batch(topics, listener)
        else:
            own(topics, listener)

    def forget(self, listener: Callable[..., object]) -> None:
        """See `BaseBybitTransport`."""
        self._call("forget", listener)

    def on_fault(self, handler: Callable[[StreamFault], None]) -> None:
        """See `BaseBybitTransport`."""
        self._call("on_fault", handler)

    def on_gap(self, handler: Callable[[str], None]) -> None:
        """See `BaseBybitTransport`."""
        self._call("on_gap", handler)

    def _call(self, name: str, *arguments: object) -> object:
        own = self._own.get(name)
        return None if own is None else own(*arguments)

    def _value(self, name: str, default: object) -> Any:
        return getattr(self._client, name, default)

    def __repr__(self) -> str:
        return repr(self._client)


_OPTIONAL_METHODS = (
    "connect",
    "close",
    "venue_ms",
    "read_once",
    "post_permitted",
    "subscribe_batch",
    "forget",
    "on_fault",
    "on_gap",
)

_adapters: weakref.WeakValueDictionary[int, TransportAdapter] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def as_transport(client: object) -> CompleteTransport:
    """The transport itself when it is complete, else its one adapter, shared by all brokers that are alive on it.

    Raises InvalidRequestError for an object that is no transport.
    """
    if isinstance(client, BaseBybitTransport):
        return cast(CompleteTransport, client)
    missing = [name for name in _REQUIRED_METHODS if not callable(getattr(client, name, None))]
    missing += [] if hasattr(client, "is_connected") else ["is_connected"]
    if isinstance(client, type) or missing:
        lacks = "an instance is needed, not the class" if isinstance(client, type) else f"it lacks {', '.join(missing)}"
        raise InvalidRequestError(
            f"client must be a BybitTransport, e.g. BybitClient(...); got {type(client).__name__}: {lacks}"
        )
    with _lock:
        adapter = _adapters.get(id(client))
        if adapter is None:
            adapter = _adapters[id(client)] = TransportAdapter(cast(BybitTransport, client))
        return adapter
