"""Hostile variations of what the venue sends: values, shapes and bytes."""

from __future__ import annotations

import json
from decimal import Decimal
from random import Random
from typing import Any

from qkt.testing.builders import envelope, execution_row, order_row, wallet_envelope

Json = Any

NOW_MS = 1_700_000_000_000
NOW = str(NOW_MS)

POSITION_ROW = {
    "category": "linear",
    "symbol": "BTCUSDT",
    "positionIdx": 0,
    "side": "Buy",
    "size": "1",
    "avgPrice": "100",
    "seq": 5,
    "updatedTime": NOW,
}
INSTRUMENT_ROW = {
    "symbol": "BTCUSDT",
    "baseCoin": "BTC",
    "quoteCoin": "USDT",
    "status": "Trading",
    "lotSizeFilter": {"basePrecision": "0.000001", "minOrderQty": "0.00001", "minOrderAmt": "1", "qtyStep": "0.001"},
    "priceFilter": {"tickSize": "0.01"},
}

# What has broken parsers before: exponents, signs, digits of other scripts, lengths, types, control characters.
VALUES: tuple[Json, ...] = (
    "",
    "0",
    "-1",
    "1e999999999",
    "-1e999999999",
    "1e-999999999",
    "9" * 400,
    "1_000",
    " 1 ",
    "٣",
    "NaN",
    "Infinity",
    "0x10",
    "1,5",
    "null",
    None,
    True,
    False,
    0,
    -1,
    2**63,
    -(2**63),
    10**30,
    Decimal("1e400"),
    Decimal("0.1"),
    [],
    {},
    [[]],
    {"": {}},
    "x" * 70_000,
    "origin_string[" * 400,
    "\x1b[31m\n\r\x00",
    "\ud800",
    "BTC/USDT",
    "btcusdt",
    "Filled",
    "Cancelled",
    "Untriggered",
    "Rejected",
    "SomethingNew",
    "Funding",
    "option",
    "99999999999999999999",
    "1700000000000",
    "1000",
    "-100000000000000",
    "c1",
    "b1",
)
KEYS = ("orderId", "orderLinkId", "execId", "coin", "category", "list", "data", "result", "retCode", "topic", "", "new")

TOPICS = ("order", "execution", "wallet", "position")
PATHS = (
    "/v5/order/realtime",
    "/v5/order/history",
    "/v5/execution/list",
    "/v5/account/wallet-balance",
    "/v5/position/list",
    "/v5/market/instruments-info",
    "/v5/market/tickers",
)


class Mutator:
    """Draws hostile inputs; the same seed draws the same ones."""

    def __init__(self, seed: int, category: str) -> None:
        self._rng = Random(seed)
        self._category = category

    def frame(self) -> tuple[str, Json]:
        """A stream frame with its topic."""
        topic = self._pick(TOPICS)
        rows = [self._row(topic) for _ in range(1 + self._below(3))]
        made = {"topic": topic, "id": "f", "creationTime": NOW_MS, "data": rows}
        return topic, self._mutated(made, 1 + self._below(4))

    def body(self) -> tuple[str, str]:
        """A reply to a read, as text, with its path."""
        path = self._pick(PATHS)
        made = self._mutated(self._reply(path), self._below(4))
        text = json.dumps(made, default=str)
        return path, text if self._below(3) else self._damaged(text)

    def write_reply(self) -> str:
        """A reply to a write, as text."""
        result = {"orderId": f"b{self._below(50)}", "orderLinkId": "c1"}
        made = self._mutated({"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": 0}, 1)
        text = json.dumps(made, default=str)
        return text if self._below(3) else self._damaged(text)

    def _reply(self, path: str) -> Json:
        match path.rsplit("/", 1)[1]:
            case "wallet-balance":
                return wallet_envelope(USDT="1000.5", BTC="1")
            case "list" if "position" in path:
                return envelope([self._row("position")])
            case "list":
                return envelope([self._row("execution") for _ in range(2)])
            case "instruments-info":
                return envelope([INSTRUMENT_ROW])
            case "tickers":
                return envelope([{"symbol": "BTCUSDT", "lastPrice": "100"}])
        return envelope([self._row("order") for _ in range(2)], cursor=self._pick(("", "", "again")))

    def _row(self, topic: str) -> Json:
        number = self._below(40)
        match topic:
            case "order":
                status = self._pick(("New", "PartiallyFilled", "Filled", "Cancelled", "Untriggered"))
                link_id = self._pick(("", f"c{number}"))
                ids = {"category": self._category, "orderId": f"b{number}", "orderLinkId": link_id}
                return order_row(**ids, orderStatus=status, createdTime=NOW, updatedTime=NOW)
            case "execution":
                ids = {"category": self._category, "orderId": f"b{number}", "orderLinkId": ""}
                return execution_row(**ids, execId=f"e{self._below(400)}", execTime=NOW)
            case "wallet":
                return wallet_envelope(USDT="1", BTC="2")["result"]["list"][0]
        return dict(POSITION_ROW)

    def _mutated(self, made: Json, times: int) -> Json:
        for _ in range(times):
            made = self._changed(made)
        return made

    def _changed(self, made: Json) -> Json:
        """One change somewhere in the tree."""
        if isinstance(made, dict) and made and self._below(12):
            key = self._pick(tuple(made))
            changed = dict(made)
            changed[key] = self._changed(made[key])
            if not self._below(10):
                del changed[key]
            if not self._below(20):
                changed[self._pick(KEYS)] = self._pick(VALUES)
            return changed
        if isinstance(made, list) and made and self._below(12):
            place = self._below(len(made))
            return [*made[:place], self._changed(made[place]), *made[place + 1 :]] * self._pick((1, 1, 1, 2))
        if not self._below(200):
            return self._deep()
        return self._pick(VALUES)

    def _deep(self) -> Json:
        nested: Json = "deep"
        for _ in range(400):
            nested = [nested] if self._below(2) else {"a": nested}
        return nested

    def _damaged(self, text: str) -> str:
        """The text with bytes changed, removed or doubled."""
        for _ in range(1 + self._below(4)):
            if not text:
                return text
            place = self._below(len(text))
            match self._below(4):
                case 0:
                    text = text[:place] + self._pick(tuple('e0129-+.{}[]",:nt\\ \x00é')) + text[place + 1 :]
                case 1:
                    text = text[:place] + text[place + 1 + self._below(8) :]
                case 2:
                    text = text[:place] + text[max(0, place - self._below(40)) :]
                case _:
                    text = text[:place]
        return text

    def _pick(self, choices: Any) -> Any:
        return choices[self._below(len(choices))]

    def _below(self, limit: int) -> int:
        return int(self._rng.random() * limit)
