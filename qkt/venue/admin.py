"""The controls of the venue over HTTP, under ``/_venue``: faults, truth, and the commands of `SimulatedBybit`.

Every command is a method of `SimulatedBybit`; its parameters are the keys of a JSON object. Answers are plain JSON:
the result, or ``{"error": "..."}`` with status 400. Requests are not signed, because the venue listens on loopback
only. So that no web page can reach the controls through a browser, a request must name a loopback host, must not come
from another origin, and a POST must be declared as ``application/json``.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from .exchange.retcodes import Refusal
from .faults import KINDS, Faults

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_ORDER_NAMES = ("order", "orderId", "orderLinkId")


class Admin:
    """Answers requests to ``/_venue``.

    Args:
        faults: the registry behind ``/_venue/faults``.
        commands: name -> function; ``POST /_venue/<name>`` calls it with the keys of the body.
        reads: name -> function; ``GET /_venue/<name>`` calls it with the parameters of the query.
    """

    def __init__(
        self, faults: Faults, commands: Mapping[str, Callable[..., Any]], reads: Mapping[str, Callable[..., Any]]
    ) -> None:
        self._faults = faults
        self._commands = {**commands, "faults": self._add_fault}
        self._reads = {**reads, "faults": self._list_faults}

    def handle(
        self, method: str, path: str, query: Mapping[str, Any], body: bytes, headers: Mapping[str, str]
    ) -> web.Response:
        """Answer one request; never raises for anything a client can send."""
        refused = _refuse_foreign(method, headers)
        if refused is not None:
            return refused
        name = path.removeprefix("/_venue").strip("/")
        try:
            if method == "POST" and name in self._commands:
                return _json(_call(self._commands[name], _arguments(body)))
            if method == "GET" and name in self._reads:
                return _json(self._reads[name](**query))
            if method == "DELETE" and name.startswith("faults"):
                return _json(self._remove_fault(name, query))
        except Refusal as refusal:
            return _json({"error": str(refusal), "retCode": refusal.code}, status=400)
        except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
            return _json({"error": f"{type(error).__name__}: {error}"}, status=400)
        return _json({"error": "not found", "see": "/_venue"}, status=404)

    def index(self) -> dict[str, list[str]]:
        """The paths there are, by verb."""
        return {
            "posts": sorted(f"/_venue/{name}" for name in self._commands),
            "gets": sorted(f"/_venue/{name}".rstrip("/") for name in self._reads),
            "deletes": ["/_venue/faults", "/_venue/faults/{id}"],
        }

    def _list_faults(self) -> dict[str, Any]:
        return {"faults": [fault.as_dict() for fault in self._faults.active], "kinds": sorted(KINDS)}

    def _add_fault(self, name: str = "", **options: Any) -> dict[str, Any]:
        return self._faults.add(name, **options).as_dict()

    def _remove_fault(self, name: str, query: Mapping[str, Any]) -> dict[str, Any]:
        number = name.removeprefix("faults").strip("/") or query.get("id")
        if not number:
            self._faults.clear()
            return {"removed": "all"}
        if not self._faults.remove(int(number)):
            raise LookupError(f"no fault {number}")
        return {"removed": int(number)}


def _refuse_foreign(method: str, headers: Mapping[str, str]) -> web.Response | None:
    """The refusal of a request that a foreign web page may have sent; None when it may pass."""
    host, origin = headers.get("Host", ""), headers.get("Origin")
    if urlsplit(f"//{host}").hostname not in _LOOPBACK:
        return _json({"error": f"the controls answer to localhost only, not to the host {host!r}"}, status=403)
    if origin is not None and urlsplit(origin).hostname not in _LOOPBACK:
        return _json({"error": f"the controls do not answer to pages of {origin!r}"}, status=403)
    if method == "POST" and headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
        return _json({"error": "send the header Content-Type: application/json"}, status=415)
    return None


def _arguments(body: bytes) -> dict[str, Any]:
    arguments = json.loads(body or b"{}")
    if not isinstance(arguments, dict):
        raise ValueError("the body must be a JSON object")
    return arguments


def _call(command: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Call a command; one that takes an ``order`` also takes it as ``orderId`` or ``orderLinkId``."""
    if "order" in inspect.signature(command).parameters:
        names = [arguments.pop(name) for name in _ORDER_NAMES if name in arguments]
        if not any(names):
            raise ValueError("name the order: orderId or orderLinkId")
        arguments["order"] = str(next(filter(None, names)))
    result = command(**arguments)
    return {"ok": True} if result is None else result


def _json(answer: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, text=json.dumps(answer), content_type="application/json")
