"""What a transport tells an observer: every request, reply and frame as text, and what happens to the connection.

`FlightRecorder` is one. Text comes as it stood on the wire, without headers: no key and no signature is among them, but
a reply may echo the key, so an observer that writes must redact with the secrets it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from qkt.broker.state_observer import StateObserver
from qkt.secret import Secret

Route = Literal["rest", "websocket"]
LinkNews = Literal["ready", "lost", "fault", "gap"]


class TransportObserver(Protocol):
    """Called on the threads of the transport, which read sockets and send orders: it must only put away."""

    def attached(self, settings: Mapping[str, object], secrets: tuple[Secret, ...]) -> None:
        """A transport begins to tell; ``settings`` hold no secret, ``secrets`` must not be written."""
        ...

    def requested(self, verb: str, path: str, payload: str, *, route: Route) -> int:
        """A request is about to be sent. Returns a number that names it in `answered` and `failed`."""
        ...

    def answered(self, number: int, status: int, body: bytes | Mapping[str, object]) -> None:
        """Its reply: the HTTP status and the body; the decoded message where it came by WebSocket."""
        ...

    def failed(self, number: int, what: str, *, has_left: bool) -> None:
        """It got no reply; ``has_left`` says whether the venue may have it."""
        ...

    def frames_read(self, frames: Sequence[bytes]) -> None:
        """The messages of the private stream that one read of the socket brought, before they are handled."""
        ...

    def link_changed(self, news: LinkNews, detail: str) -> None:
        """The stream is ready or lost, the venue refuses something, or frames may be missing."""
        ...

    def state_observer(self, source: str, settings: Mapping[str, object]) -> StateObserver:
        """A broker was built on the transport: the observer of its state."""
        ...
