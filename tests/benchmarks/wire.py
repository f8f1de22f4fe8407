"""What the benchmark server sends: rows with every field of Bybit's documentation, rendered to bytes once.

An order of number ``n`` has the client order id ``bench00000n`` and the venue id ``19...n``, so the server needs no
memory of what was sent to it. Source: docs v5/websocket/private/execution, v5/websocket/private/order,
v5/order/open-order, v5/order/execution, v5/account/wallet-balance.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

SYMBOL = "BTCUSDT"
ORDER_QUANTITY = 1_000_000
ORDER_PAGE, EXECUTION_PAGE = 50, 100


def client_order_id(number: int) -> str:
    """The client order id of an order."""
    return f"bench{number:010d}"


def order_id(number: int) -> str:
    """The venue's id of an order; spot ids are digits."""
    return f"19{number:017d}"


def order_number(link_id: str) -> int:
    """The number in a client order id; 0 for a foreign one."""
    digits = link_id[-10:]
    return int(digits) if digits.isdigit() else 0


_EXECUTION: dict[str, Any] = {
    "category": "spot",
    "symbol": SYMBOL,
    "closedSize": "",
    "execFee": "0.001",
    "execId": "%(exec_id)s",
    "execPrice": "59000.1",
    "execQty": "%(quantity)s",
    "execType": "Trade",
    "execValue": "59000.1",
    "feeRate": "0.001",
    "tradeIv": "",
    "markIv": "",
    "blockTradeId": "",
    "markPrice": "59001.48",
    "indexPrice": "",
    "underlyingPrice": "",
    "leavesQty": "%(leaves)s",
    "orderId": "%(order_id)s",
    "orderLinkId": "%(link_id)s",
    "orderPrice": "59000.1",
    "orderQty": "%(order_quantity)s",
    "orderType": "Limit",
    "stopOrderType": "",
    "side": "Buy",
    "execTime": "%(time_ms)s",
    "isLeverage": "0",
    "isMaker": True,
    "seq": "%(seq)s",
    "marketUnit": "",
    "execPnl": "0",
    "createType": "CreateByUser",
    "extraFees": "",
    "feeCurrency": "BTC",
}
_ORDER: dict[str, Any] = {
    "category": "spot",
    "symbol": SYMBOL,
    "orderId": "%(order_id)s",
    "orderLinkId": "%(link_id)s",
    "blockTradeId": "",
    "side": "Buy",
    "positionIdx": 0,
    "orderStatus": "%(status)s",
    "cancelType": "UNKNOWN",
    "rejectReason": "EC_NoError",
    "timeInForce": "GTC",
    "isLeverage": "0",
    "price": "%(price)s",
    "qty": "%(order_quantity)s",
    "avgPrice": "%(avg_price)s",
    "leavesQty": "%(leaves)s",
    "leavesValue": "0",
    "cumExecQty": "%(cum)s",
    "cumExecValue": "0",
    "cumExecFee": "0",
    "closedPnl": "0",
    "feeCurrency": "BTC",
    "orderType": "Limit",
    "stopOrderType": "",
    "orderIv": "",
    "triggerPrice": "0.0",
    "takeProfit": "",
    "stopLoss": "",
    "triggerBy": "",
    "tpTriggerBy": "",
    "slTriggerBy": "",
    "triggerDirection": 0,
    "placeType": "",
    "lastPriceOnCreated": "59100.2",
    "closeOnTrigger": False,
    "reduceOnly": False,
    "smpGroup": 0,
    "smpType": "None",
    "smpOrderId": "",
    "slLimitPrice": "0",
    "tpLimitPrice": "0",
    "tpslMode": "",
    "createType": "CreateByUser",
    "marketUnit": "",
    "createdTime": "%(time_ms)s",
    "updatedTime": "%(updated_ms)s",
    "cumFeeDetail": {"BTC": "0"},
}


def _template(row: dict[str, Any]) -> str:
    return json.dumps(row, separators=(",", ":")).replace('"%(seq)s"', "%(seq)s")


_EXECUTION_TEXT, _ORDER_TEXT = _template(_EXECUTION), _template(_ORDER)
_FRAME_TEXT = '{"topic":"%s","id":"%d_%s","creationTime":%d,"data":[%s]}'


def execution_row(
    number: int, fill: int, *, quantity: int = 1, order_quantity: int = ORDER_QUANTITY, leaves: int | None = None
) -> str:
    """Fill number ``fill`` (from 1) of an order, as JSON; by default one of many small fills of a big order."""
    return _EXECUTION_TEXT % {
        "exec_id": f"{number}-{fill}",
        "quantity": quantity,
        "leaves": order_quantity - fill * quantity if leaves is None else leaves,
        "order_id": order_id(number),
        "link_id": client_order_id(number),
        "order_quantity": order_quantity,
        "time_ms": _now_ms(),
        "seq": fill,
    }


def order_row(
    number: int,
    status: str = "New",
    *,
    price: str = "59000.1",
    cum: int = 0,
    order_quantity: int = ORDER_QUANTITY,
    updated_ms: int | None = None,
) -> str:
    """An order as JSON."""
    now_ms = _now_ms()
    return _ORDER_TEXT % {
        "order_id": order_id(number),
        "link_id": client_order_id(number),
        "status": status,
        "price": price,
        "order_quantity": order_quantity,
        "avg_price": "59000.1" if cum else "",
        "leaves": order_quantity - cum,
        "cum": cum,
        "time_ms": now_ms,
        "updated_ms": now_ms if updated_ms is None else updated_ms,
    }


def frame(topic: str, row: str, number: int) -> bytes:
    """A stream frame with one row."""
    return (_FRAME_TEXT % (topic, number, SYMBOL, _now_ms(), row)).encode()


def fills(topic: str, first_order: int, orders: int, first_fill: int, count: int) -> list[bytes]:
    """``count`` execution frames in turn over ``orders`` orders, each order's fills numbered from ``first_fill``."""
    return [
        frame(topic, execution_row(first_order + place % orders, first_fill + place // orders), place)
        for place in range(count)
    ]


def amends(topic: str, first_order: int, orders: int, first_step: int, count: int) -> list[bytes]:
    """``count`` order frames in turn over ``orders`` orders; each shows a price it did not have before."""
    begun_ms = _now_ms()
    return [
        frame(
            topic,
            order_row(
                first_order + place % orders,
                price=str(1_000 + first_step + place // orders),
                updated_ms=begun_ms + first_step + place // orders,
            ),
            place,
        )
        for place in range(count)
    ]


def lives(order_topic: str, execution_topic: str, first_order: int, orders: int) -> list[bytes]:
    """Three frames for each of ``orders`` orders: New, its one execution, Filled."""
    frames = []
    for number in range(first_order, first_order + orders):
        frames.append(frame(order_topic, order_row(number, order_quantity=1), number))
        frames.append(frame(execution_topic, execution_row(number, 1, order_quantity=1), number))
        frames.append(frame(order_topic, order_row(number, "Filled", cum=1, order_quantity=1), number))
    return frames


def envelope(result: str) -> bytes:
    """A successful REST reply around a result given as JSON, without its end; `stamped` completes it."""
    return f'{{"retCode":0,"retMsg":"OK","result":{result},"retExtInfo":{{}},"time":'.encode()


def stamped(reply: bytes) -> bytes:
    """The whole reply with the present time; a stamp that stands still makes a client measure its clock anew."""
    return b"%s%d}" % (reply, _now_ms())


def pages(rows: Sequence[str], size: int) -> list[bytes]:
    """Replies that page through ``rows``; the cursor of a page is its number."""
    starts = list(range(0, len(rows), size)) or [0]
    return [
        envelope(
            f'{{"category":"spot","nextPageCursor":"{page + 1 if page + 1 < len(starts) else ""}",'
            f'"list":[{",".join(rows[start : start + size])}]}}'
        )
        for page, start in enumerate(starts)
    ]


def open_order_pages(orders: int, fills_each: int) -> list[bytes]:
    """The first ``orders`` orders, each partly filled."""
    status = "PartiallyFilled" if fills_each else "New"
    return pages([order_row(number, status, cum=fills_each) for number in range(1, orders + 1)], ORDER_PAGE)


def execution_pages(orders: int, fills_each: int) -> list[bytes]:
    """Every execution of those orders, newest first."""
    rows = [execution_row(number, fill) for fill in range(fills_each, 0, -1) for number in range(orders, 0, -1)]
    return pages(rows, EXECUTION_PAGE)


def wallet(coins: Iterable[str] = ("BTC", "USDT", "ETH")) -> bytes:
    """A wallet reply."""
    held = [
        {
            "coin": coin,
            "equity": "100000.5",
            "usdValue": "100000.5",
            "walletBalance": "100000.5",
            "free": "",
            "locked": "0",
            "spotHedgingQty": "0",
            "borrowAmount": "0",
            "availableToWithdraw": "",
            "accruedInterest": "0",
            "totalOrderIM": "0",
            "totalPositionIM": "0",
            "totalPositionMM": "0",
            "unrealisedPnl": "0",
            "cumRealisedPnl": "0",
            "bonus": "0",
            "marginCollateral": True,
            "collateralSwitch": True,
            "spotBorrow": "0",
        }
        for coin in coins
    ]
    account = {
        "accountType": "UNIFIED",
        "accountLTV": "0",
        "accountIMRate": "0",
        "accountMMRate": "0",
        "totalEquity": "300000",
        "totalWalletBalance": "300000",
        "totalMarginBalance": "300000",
        "totalAvailableBalance": "300000",
        "totalPerpUPL": "0",
        "totalInitialMargin": "0",
        "totalMaintenanceMargin": "0",
        "coin": held,
    }
    return envelope(json.dumps({"list": [account]}))


INSTRUMENT = {
    "symbol": SYMBOL,
    "baseCoin": "BTC",
    "quoteCoin": "USDT",
    "innovation": "0",
    "status": "Trading",
    "marginTrading": "utaOnly",
    "lotSizeFilter": {
        "basePrecision": "0.000001",
        "quotePrecision": "0.0000001",
        "minOrderQty": "0.000001",
        "maxOrderQty": "100000000",
        "minOrderAmt": "5",
        "maxOrderAmt": "8000000000000",
        "maxLimitOrderQty": "100000000",
        "maxMarketOrderQty": "100000000",
    },
    "priceFilter": {"tickSize": "0.1"},
    "riskParameters": {"priceLimitRatioX": "0.5", "priceLimitRatioY": "0.5"},
}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
