"""What a Bybit broker needs of its connection: signed REST, one private stream, a balance cache.

`BybitClient` is the real one, `qkt.testing.FakeBybitClient` the one for tests; a custom transport implements the same
members. The contract of every implementation:

- `get_signed` and `post_signed` return the decoded envelope (JSON numbers with a fraction as Decimal); ``retCode != 0``
  raises `BybitApiError`; a write without a definite answer raises `OutcomeUnknownError`; a read that failed raises
  `VenueUnavailableError` (`VenueProtocolError` when the reply is not the documented shape).
- Listeners get the decoded frame (a dict with ``topic``, ``creationTime``, ``data``), in order of arrival, on the
  thread that reads. A subscription to ``order.spot`` hears frames whose topic is ``order.spot`` and ``order``.
- `on_disconnect` handlers hear the reason once per lost session; `on_reconnect` handlers run once per session after
  *all* its subscriptions are acknowledged, the first session included only if they were registered before it.

`BybitTransport` lists what every transport must have. `BaseBybitTransport` adds the optional members with defaults:
inherit from it to get them, and override those that the transport can do better. A transport that does not inherit is
completed once, when a broker is built (`qkt.bybit.transport.adapter`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import attrs

from qkt.bybit.codec.envelope import Envelope
from qkt.bybit.transport.observer import TransportObserver
from qkt.bybit.transport.permitted import PermittedRequest
from qkt.bybit.transport.read_scope import ReadScope
from qkt.errors import InvalidRequestError, VenueUnavailableError
from qkt.model.balances import Wallet
from qkt.model.maintenance import Maintenance

FrameListener = Callable[[Envelope], None]
"""Called with one frame, on the thread that reads."""

BatchListener = Callable[[Sequence[Envelope]], None]
"""Called with all frames that one read of the socket brought, oldest first, on the thread that reads."""


@attrs.frozen(kw_only=True)
class StreamFault:
    """A refusal of something the stream needs. ``kind`` is ``auth`` or ``topic``; ``fatal``: retrying cannot help."""

    kind: str
    topic: str = ""
    reason: str
    fatal: bool = False


@runtime_checkable
class BybitTransport(Protocol):
    """One account's connection to the venue."""

    @property
    def is_connected(self) -> bool:
        """True while the private stream is authenticated and subscribed."""
        ...

    @property
    def balances(self) -> Mapping[str, Decimal]:
        """Coin -> wallet balance as last written by `update_balances`; read-only."""
        ...

    @property
    def wallet(self) -> Wallet:
        """Per coin total, locked and available, with its age."""
        ...

    def connect(self) -> None:
        """Open the session; raises BybitConnectError within 10 s when it cannot be had."""
        ...

    def close(self) -> None:
        """End the session; idempotent, from any thread."""
        ...

    def update_balances(self, snapshot: Mapping[str, Decimal], wallet: Wallet | None = None) -> None:
        """Replace the cached balances (and the wallet, when given) by a newer snapshot."""
        ...

    def get_signed(self, path: str, query: Mapping[str, Any]) -> Envelope:
        """Read. The query's values are sent as text."""
        ...

    def post_signed(self, path: str, body: Mapping[str, Any]) -> Envelope:
        """Write. Never resent by the transport unless the venue proved that it did nothing."""
        ...

    def subscribe(self, topic: str, listener: FrameListener) -> None:
        """Subscribe to a topic, e.g. ``order.spot``: sent at once on a live socket, and again after every re-auth."""
        ...

    def on_disconnect(self, handler: Callable[[str], None]) -> None:
        """Call ``handler(reason)`` when the stream is lost."""
        ...

    def on_reconnect(self, handler: Callable[[], None]) -> None:
        """Call ``handler()`` when the stream is back and every subscription is acknowledged."""
        ...


class BaseBybitTransport:
    """Defaults for the optional members of a transport.

    Brokers use these members of every transport. Each default is the plain answer of a transport that does not
    measure, cut or report: override a member to do better.
    """

    name: str = ""
    """The account's name in events, logs and thread names; "" where the user gave none."""

    maintenances: tuple[Maintenance, ...] = ()
    """Announced by the venue and not over, as a `MaintenanceWatch` keeps it; empty without one."""

    observer: TransportObserver | None = None
    """Told of the brokers that are built on the transport, and of its traffic where the transport tells it."""

    def observe(self, observer: TransportObserver) -> None:
        """Tell an observer from now on; call it before a broker is built. The default tells of brokers only."""
        self.observer = observer
        observer.attached({"transport": type(self).__name__}, ())

    @property
    def account_type(self) -> str:
        """The venue's account type, as the wallet read names it."""
        return "UNIFIED"

    @property
    def recv_window_ms(self) -> int:
        """How long the venue honours a request after its signed timestamp."""
        return 5_000

    @property
    def clock_offset_ms(self) -> int:
        """Venue time minus local wall time, as last measured."""
        return 0

    @property
    def stream_state(self) -> str:
        """``closed``, ``connecting``, ``live``, ``degraded`` (a topic is refused), ``down`` or ``auth_refused``."""
        return "live" if self.is_connected else "down"

    @property
    def topic_faults(self) -> Mapping[str, StreamFault]:
        """Topic -> fault, for each topic that the venue refuses now."""
        return MappingProxyType({})

    @property
    def is_connected(self) -> bool:
        """True while the private stream is authenticated and subscribed."""
        raise NotImplementedError

    def get_signed(self, path: str, query: Mapping[str, Any]) -> Envelope:
        """Read; see `BybitTransport.get_signed`."""
        raise NotImplementedError

    def venue_ms(self) -> int | None:
        """Venue time now, by a clock that a step of the host's wall clock cannot move; None where it is not known."""
        return None

    def read_once(
        self,
        path: str,
        query: Mapping[str, Any],
        *,
        timeout_ms: int,  # noqa: ARG002
        scope: ReadScope | None = None,
    ) -> Envelope:
        """`get_signed` in one try of at most ``timeout_ms``; cutting ``scope`` ends it with VenueUnavailableError.

        The default is a plain `get_signed`, with whatever patience that has, refused when the scope is cut already.
        """
        if scope is not None and scope.is_cut:
            raise VenueUnavailableError(f"GET {path}: the broker was closed", path=path)
        return self.get_signed(path, query)

    def post_permitted(self, request: PermittedRequest) -> Envelope:
        """Write exactly ``request``, once: its time stamp, receive window and body as they are, and no retry.

        Raises what `BybitTransport.post_signed` raises. The default refuses: a transport that stamps or repeats by
        itself must not send what a journal permitted.
        """
        raise InvalidRequestError(
            f"{type(self).__name__} cannot send {request.path} with a given time stamp: implement post_permitted to "
            "use a journal with it"
        )

    def subscribe(self, topic: str, listener: FrameListener) -> None:
        """Subscribe to a topic; see `BybitTransport.subscribe`."""
        raise NotImplementedError

    def subscribe_batch(self, topics: Iterable[str], listener: BatchListener) -> None:
        """Subscribe one listener to several topics, in order of arrival. By default it gets one frame at a time."""

        def hear(frame: Envelope) -> None:
            listener((frame,))

        for topic in topics:
            self.subscribe(topic, hear)

    def forget(self, listener: Callable[..., object]) -> None:
        """Remove a listener or handler wherever it is registered. The default keeps it: silence it on your side."""

    def on_fault(self, handler: Callable[[StreamFault], None]) -> None:
        """Call ``handler(fault)`` when the venue refuses the login or a topic. The default never does."""

    def on_gap(self, handler: Callable[[str], None]) -> None:
        """Call ``handler(reason)`` when frames may be missing: a suspend, a clock jump, an unreadable frame."""


class CompleteTransport(BybitTransport, Protocol):
    """A `BybitTransport` with the optional members of `BaseBybitTransport`: what the parts of a broker work with."""

    name: str
    maintenances: tuple[Maintenance, ...]
    observer: TransportObserver | None

    def observe(self, observer: TransportObserver) -> None: ...

    @property
    def account_type(self) -> str: ...

    @property
    def recv_window_ms(self) -> int: ...

    @property
    def clock_offset_ms(self) -> int: ...

    @property
    def stream_state(self) -> str: ...

    @property
    def topic_faults(self) -> Mapping[str, StreamFault]: ...

    def venue_ms(self) -> int | None: ...

    def read_once(
        self, path: str, query: Mapping[str, Any], *, timeout_ms: int, scope: ReadScope | None = None
    ) -> Envelope: ...

    def post_permitted(self, request: PermittedRequest) -> Envelope: ...

    def subscribe_batch(self, topics: Iterable[str], listener: BatchListener) -> None: ...

    def forget(self, listener: Callable[..., object]) -> None: ...

    def on_fault(self, handler: Callable[[StreamFault], None]) -> None: ...

    def on_gap(self, handler: Callable[[str], None]) -> None: ...
