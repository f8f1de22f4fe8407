"""The venue's own controls over HTTP: faults, truth, and the hand of God, for clients in any language.

Everything here is also a method of `SimulatedBybit`; requests are not signed, because the venue listens on loopback
only. Answers are plain JSON: the result, or ``{"error": "..."}`` with status 400.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .exchange.retcodes import Refusal
from .faults import KINDS

if TYPE_CHECKING:
    from .venue import SimulatedBybit


class Admin:
    """``/_venue/...``."""

    def __init__(self, venue: SimulatedBybit) -> None:
        self._venue = venue
        self._posts: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "/_venue/faults": self._add_fault,
            "/_venue/price": self._price,
            "/_venue/fill": self._fill,
            "/_venue/cancel": self._cancel,
            "/_venue/place": self._place,
            "/_venue/trade": self._trade,
            "/_venue/deposit": self._deposit,
            "/_venue/account": self._account,
            "/_venue/restart": self._restart,
            "/_venue/cut": self._cut,
        }

    def handle(self, method: str, path: str, query: Mapping[str, Any], body: bytes) -> web.Response:
        try:
            if method == "POST" and path in self._posts:
                arguments = json.loads(body or b"{}")
                if not isinstance(arguments, dict):
                    raise ValueError("the body must be a JSON object")
                return _json(self._posts[path](arguments))
            if method == "GET" and path == "/_venue":
                return _json(self._index())
            if method == "GET" and path == "/_venue/faults":
                return _json(
                    {"faults": [fault.as_dict() for fault in self._venue.faults.active], "kinds": sorted(KINDS)}
                )
            if method == "GET" and path == "/_venue/truth":
                return _json(self._venue.truth(query.get("account", "key")))
            if method == "DELETE" and path.startswith("/_venue/faults"):
                return _json(self._remove_fault(path, query))
        except Refusal as refusal:
            return _json({"error": str(refusal), "retCode": refusal.code}, status=400)
        except (LookupError, TypeError, ValueError, ArithmeticError) as error:
            return _json({"error": f"{type(error).__name__}: {error}"}, status=400)
        return _json({"error": "not found", "see": "/_venue"}, status=404)

    def _index(self) -> dict[str, Any]:
        venue = self._venue
        return {
            "rest_url": venue.rest_url,
            "ws_url": venue.ws_url,
            "accounts": venue.accounts,
            "symbols": list(venue.symbols),
            "posts": sorted(self._posts),
            "gets": ["/_venue", "/_venue/faults", "/_venue/truth?account=key"],
            "deletes": ["/_venue/faults", "/_venue/faults/{id}"],
        }

    def _add_fault(self, arguments: Mapping[str, Any]) -> Any:
        options = dict(arguments)
        return self._venue.faults.add(str(options.pop("name", "")), **options).as_dict()

    def _remove_fault(self, path: str, query: Mapping[str, Any]) -> Any:
        number = path.removeprefix("/_venue/faults").strip("/") or query.get("id")
        if not number:
            self._venue.faults.clear()
            return {"removed": "all"}
        if not self._venue.faults.remove(int(number)):
            raise LookupError(f"no fault {number}")
        return {"removed": int(number)}

    def _price(self, arguments: Mapping[str, Any]) -> Any:
        self._venue.set_price(arguments["symbol"], arguments["price"])
        return {"ok": True}

    def _fill(self, arguments: Mapping[str, Any]) -> Any:
        return self._venue.fill(_order(arguments), arguments.get("quantity"), arguments.get("price"))

    def _cancel(self, arguments: Mapping[str, Any]) -> Any:
        return self._venue.cancel(_order(arguments), arguments.get("cancel_type", "CancelByUser"))

    def _place(self, arguments: Mapping[str, Any]) -> Any:
        return self._venue.place(**arguments)

    def _trade(self, arguments: Mapping[str, Any]) -> Any:
        return self._venue.trade(**arguments)

    def _deposit(self, arguments: Mapping[str, Any]) -> Any:
        self._venue.deposit(arguments["coin"], arguments["amount"], account=arguments.get("account", "key"))
        return {"ok": True}

    def _account(self, arguments: Mapping[str, Any]) -> Any:
        options = dict(arguments)
        self._venue.add_account(str(options.pop("key")), str(options.pop("secret")), **options)
        return {"ok": True}

    def _restart(self, arguments: Mapping[str, Any]) -> Any:
        self._venue.restart(cut_streams=bool(arguments.get("cut_streams", False)))
        return {"ok": True}

    def _cut(self, arguments: Mapping[str, Any]) -> Any:
        return {"cut": self._venue.cut_streams(arguments.get("account"))}


def _order(arguments: Mapping[str, Any]) -> str:
    name = arguments.get("order") or arguments.get("orderId") or arguments.get("orderLinkId")
    if not name:
        raise ValueError("name the order: orderId or orderLinkId")
    return str(name)


def _json(answer: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, text=json.dumps(answer), content_type="application/json")
