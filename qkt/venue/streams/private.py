"""A connection to ``/v5/private``: login, subscriptions, pings (docs websocket/wss-authentication).

Subscribing sends no snapshot: the venue has none on private topics. One unknown topic fails the whole request, and so
does an all-in-one topic (``order``) beside its categorised form (``order.spot``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from ..exchange.accounts import Account
from ..exchange.json_encoder import to_json
from ..faults import Fault
from .hub import StreamHub
from .session import Session, decode

_BASES = ("order", "execution", "execution.fast", "position", "greeks")
_CATEGORIES = ("spot", "linear", "inverse", "option")
TOPICS = frozenset(
    [*_BASES, "wallet", "dcp", "dcp.spot", "dcp.future", "dcp.option"]
    + [f"{base}.{category}" for base in _BASES for category in _CATEGORIES]
)
_MOST_ARGUMENTS = 10


class PrivateSession(Session):
    """One private connection; receives frames after login and subscription."""

    def __init__(
        self, hub: StreamHub, ws: web.WebSocketResponse, request: web.BaseRequest, conn_id: str, idle_limit_s: float
    ) -> None:
        super().__init__(ws, request, conn_id, idle_limit_s)
        self._hub = hub

    def on_text(self, text: str) -> None:
        if self._hub.faults.armed("control") and self._struck("control"):
            self.go_half_open()
            return
        message = decode(text)
        if message is None:
            self._answer({"success": False, "ret_msg": "Invalid JSON", "op": ""}, {})
            return
        operation = message.get("op")
        handler = self._handlers().get(operation) if isinstance(operation, str) else None
        if handler is None:
            self._answer({"success": False, "ret_msg": f"unknown op:{operation}", "op": str(operation)}, message)
        else:
            handler(message)

    def _handlers(self) -> dict[str, Callable[[dict[str, Any]], None]]:
        return {
            "auth": self._auth,
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "ping": self._ping,
        }

    def _auth(self, message: dict[str, Any]) -> None:
        struck = self._struck("auth")
        verdict = str(struck[0]["text"]) if struck else self._hub.authenticate(message.get("args"))
        success = isinstance(verdict, Account)
        if isinstance(verdict, Account):
            if self.account is None:
                self._log_in(verdict)
                with self._hub.exclusive():
                    verdict.listeners += 1
                self._hub.note("stream opened", self, conn_id=self.conn_id)
            verdict = ""
        self._answer({"success": success, "ret_msg": verdict, "op": "auth"}, message)
        if not success and (not struck or struck[0]["close"]):
            self._hub.close_soon(self)

    def _subscribe(self, message: dict[str, Any]) -> None:
        topics, problem = _topics(message.get("args"))
        if self.account is None:
            problem = "Request not authorized"
        if not problem and self._hub.faults.armed("subscribe"):
            for fault in self._struck("subscribe", topic=",".join(topics)):
                if fault.name == "subscribe_ack_lost":
                    return
                problem = f"error:handler not found,topic:{fault.filters.get('topic', topics[0])}"
        if not problem:
            self.topics.update(dict.fromkeys(topics))
            self._hub.note("stream subscribed", self, topics=",".join(topics))
        self._answer({"success": not problem, "ret_msg": problem, "op": "subscribe"}, message)

    def on_close(self) -> None:
        if self.account is not None:
            with self._hub.exclusive():
                self.account.listeners -= 1
            self._hub.note("stream closed", self, conn_id=self.conn_id)

    def _unsubscribe(self, message: dict[str, Any]) -> None:
        topics, problem = _topics(message.get("args"))
        for topic in topics:
            self.topics.pop(topic, None)
        self._answer({"success": not problem, "ret_msg": problem, "op": "unsubscribe"}, message)

    def _ping(self, message: dict[str, Any]) -> None:
        self.has_pinged = True
        if self._struck("ping"):
            return
        pong: dict[str, Any] = {"op": "pong", "args": [str(self._hub.now_ms())]}
        self._answer(pong, message)

    def _answer(self, answer: dict[str, Any], message: dict[str, Any]) -> None:
        request_id = message.get("req_id")
        if request_id:
            answer = {"req_id": request_id, **answer}
        answer["conn_id"] = self.conn_id
        delays = [int(fault["delay_ms"]) for fault in self._struck("answer")]
        if delays:
            self.push_later(to_json(answer), max(delays))
        else:
            self.push(to_json(answer))

    def _struck(self, where: str, **context: str) -> list[Fault]:
        if not self._hub.faults.armed(where):
            return []
        key = self.account.key if self.account else ""
        return self._hub.faults.take(where, path="/v5/private", account=key, **context)


def _topics(arguments: object) -> tuple[list[str], str]:
    """The topics of a request, and the error text when they are not accepted."""
    if not isinstance(arguments, list) or not arguments or not all(isinstance(topic, str) for topic in arguments):
        return [], "Params Error"
    if len(arguments) > _MOST_ARGUMENTS:
        return [], f"args size >{_MOST_ARGUMENTS}"
    for topic in arguments:
        if topic not in TOPICS:
            return [], f"error:handler not found,topic:{topic}"
        base = topic.rpartition(".")[0]
        if base in arguments and base in _BASES and topic.rpartition(".")[2] in _CATEGORIES:
            return [], f"error:{base} and {topic} cannot be subscribed in one request"
    return arguments, ""
