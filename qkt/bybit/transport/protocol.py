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
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Protocol, runtime_checkable

from qkt.bybit.codec.envelope import Envelope
from qkt.model.balances import Wallet

FrameListener = Callable[[Envelope], None]


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
        """Hear a topic, e.g. ``order.spot``: sent at once on a live socket, and again after every re-auth."""
        ...

    def on_disconnect(self, handler: Callable[[str], None]) -> None:
        """Call ``handler(reason)`` when the stream is lost."""
        ...

    def on_reconnect(self, handler: Callable[[], None]) -> None:
        """Call ``handler()`` when the stream is back and every subscription is acknowledged."""
        ...
