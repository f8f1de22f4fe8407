"""The answer to one request, before it is written as an HTTP response or as a WebSocket message."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..exchange.json_encoder import to_json

Envelope = dict[str, Any]


@dataclass(slots=True)
class Answer:
    """Status, headers and envelope; ``envelope`` is None when the answer is plain text."""

    status: int = 200
    envelope: Envelope | None = None
    text: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json; charset=utf-8"

    def body(self) -> bytes:
        """The bytes of an HTTP body."""
        if self.envelope is None:
            return self.text.encode()
        return to_json(self.envelope).encode()
