"""``qkt submit``: sends one order and prints its outcome.

ACCEPTED: the venue has it, with its state. REJECTED: proved. UNKNOWN: it may be live; look it up, never resend.
Exit codes: 0 accepted, 1 rejected or declined, 2 invalid (nothing was sent), 3 the venue could not be reached (nothing
was sent), 4 unknown, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import attrs

from qkt.broker.protocol import SubmitOutcome, WaitGoal
from qkt.bybit.codec.orders import BybitOrderTranslator
from qkt.cli import exit_codes
from qkt.cli.confirm import add_sending_options, is_confirmed
from qkt.cli.formatting import number, plain, terms
from qkt.cli.output import Screen
from qkt.cli.progress import progress
from qkt.cli.runner import command_parser, run_command
from qkt.cli.session import KEYS_HELP, Session, add_account_options, bare_symbol, full_symbol, session, span_ms
from qkt.errors import InvalidRequestError, WaitTimeoutError
from qkt.ids import new_client_order_id
from qkt.model.orders import (
    IfTouchedOrder,
    LimitOrder,
    MarketOrder,
    OrderRequest,
    OrderStatus,
    OrderView,
    Side,
    StopLimitOrder,
    StopOrder,
    TimeInForce,
)
from qkt.orders.order import NEVER_ARRIVED

_EXAMPLES = """examples:
  qkt submit buy 0.01 BTCUSDT --limit 60000
  qkt submit sell 0.01 BTCUSDT --market
  qkt submit buy 250 BTCUSDT --market --quote
  qkt submit sell 0.01 BTCUSDT --stop 55000 --limit 54900

"""
_EXPLAINED = {
    NEVER_ARRIVED: "never_arrived: no answer came, it can no longer arrive, and the venue knows no such order",
}
_ENDS_AT_ONCE = (TimeInForce.IOC, TimeInForce.FOK)


def run(argv: Sequence[str]) -> int:
    """``qkt submit``."""
    parser = command_parser("submit", "Send one order, wait, and say what became of it.", epilog=_EXAMPLES + KEYS_HELP)
    parser.add_argument("side", choices=("buy", "sell"))
    parser.add_argument("quantity", help="in base coin, e.g. 0.01; in quote coin with --quote")
    parser.add_argument("symbol", help="BTCUSDT, or with its prefix BYBIT_SPOT:BTCUSDT")
    parser.add_argument("--market", action="store_true", help="trade now, at what the book gives")
    parser.add_argument("--limit", metavar="PRICE", help="trade at this price or better")
    parser.add_argument("--stop", metavar="PRICE", help="only once the price trades through this one")
    parser.add_argument("--touch", metavar="PRICE", help="only once the price comes to this one")
    parser.add_argument("--quote", action="store_true", help="the quantity is in quote coin (market orders)")
    parser.add_argument(
        "--tif", choices=[tif.name for tif in TimeInForce if tif is not TimeInForce.DAY], help="default: GTC"
    )
    parser.add_argument("--id", help="your own client order id; generated otherwise")
    add_account_options(parser, categories="spot")
    add_sending_options(parser)
    return run_command(parser, argv, _submit)


def _submit(options: argparse.Namespace, screen: Screen) -> int:
    request = request_of(options)
    if request.symbol.startswith("BYBIT_LINEAR:"):
        options.category = "linear"
    with session(options, screen) as account:
        account.broker.check(request)
        what = f"{_described(request)} at {account.place}"
        if options.dry_run:
            return _show(request, what, screen)
        if not is_confirmed(options, screen, f"{what}: send it?"):
            return exit_codes.NO
        try:
            return _send(account, request, options, screen)
        except KeyboardInterrupt:
            print(
                f"\ninterrupted: {request.client_order_id} may be live at {account.place}; "
                f"look it up with `qkt orders` before you send anything again",
                file=sys.stderr,
            )
            raise


def request_of(options: argparse.Namespace) -> OrderRequest:
    """The order described by the arguments; raises InvalidRequestError for an invalid one."""
    common: dict[str, Any] = {
        "symbol": full_symbol(options.symbol, options.category),
        "side": Side[options.side.upper()],
        "quantity": decimal_of(options.quantity, "quantity"),
        "client_order_id": options.id or new_client_order_id(),
    }
    if options.tif:
        common["time_in_force"] = TimeInForce[options.tif]
    limit, stop, touch = (
        None if text is None else decimal_of(text, name)
        for name, text in (("--limit", options.limit), ("--stop", options.stop), ("--touch", options.touch))
    )
    if stop is not None and touch is not None:
        raise InvalidRequestError("an order has a --stop or a --touch price, not both")
    if options.market and limit is not None:
        raise InvalidRequestError("an order is at --market or at a --limit, not both")
    if options.quote and (limit is not None or stop is not None or touch is not None):
        raise InvalidRequestError("--quote is for plain market orders: others are sized in base coin")
    if touch is not None:
        return IfTouchedOrder(**common, trigger_price=touch, limit_price=limit)
    if stop is not None:
        if limit is None:
            return StopOrder(**common, stop_price=stop)
        return StopLimitOrder(**common, stop_price=stop, limit_price=limit)
    if limit is not None:
        return LimitOrder(**common, limit_price=limit)
    if not options.market:
        raise InvalidRequestError("at which price? say --limit PRICE, or --market to take what the book gives")
    return MarketOrder(**common, quote_sized=options.quote)


def decimal_of(text: str, name: str) -> Decimal:
    """A number as typed, exact; raises InvalidRequestError for other text."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise InvalidRequestError(f"{name} must be a number such as 0.01, got {text!r}") from None
    if not value.is_finite():
        raise InvalidRequestError(f"{name} must be a finite number, got {text!r}")
    return value


def _show(request: OrderRequest, what: str, screen: Screen) -> int:
    body = BybitOrderTranslator.to_create_body(request, request.client_order_id)
    screen.result({"dry_run": True, "would_send": {"path": "/v5/order/create", "body": body}})
    screen.line(f"{what}: checked, not sent (--dry-run). POST /v5/order/create would carry")
    screen.lines(f"  {name}: {value}" for name, value in body.items())
    return exit_codes.OK


def _send(account: Session, request: OrderRequest, options: argparse.Namespace, screen: Screen) -> int:
    with progress(screen, "waiting for the outcome", expected_s=span_ms(options.wait) / 1000):
        ack = account.broker.submit(request)
        outcome, view = _outcome(account, request, span_ms(options.wait))
    reason = ack.reject_reason if outcome is SubmitOutcome.UNKNOWN else view.reason or ack.reject_reason
    screen.result(
        {
            "outcome": outcome.value,
            "client_order_id": view.client_order_id,
            "broker_order_id": view.broker_order_id,
            "reason": reason,
            "order": plain(view),
            "fills": plain(account.broker.fills(view.client_order_id)),
        }
    )
    screen.lines(_told(outcome, view, reason, account.place))
    codes = {
        SubmitOutcome.ACCEPTED: exit_codes.OK,
        SubmitOutcome.REJECTED: exit_codes.NO,
        SubmitOutcome.UNKNOWN: exit_codes.UNKNOWN,
    }
    return codes[outcome]


def _outcome(account: Session, request: OrderRequest, wait_ms: int) -> tuple[SubmitOutcome, OrderView]:
    """Wait for the outcome, and for the end of an order that cannot rest."""
    client_order_id = str(request.client_order_id)
    ends_at_once = isinstance(request, MarketOrder) or (
        isinstance(request, LimitOrder) and request.time_in_force in _ENDS_AT_ONCE
    )
    view = _waited(account, client_order_id, "accepted", wait_ms)
    if ends_at_once and view.is_open and not view.is_unresolved:
        view = _waited(account, client_order_id, "closed", wait_ms)
    if view.is_unresolved or view.status is OrderStatus.SUBMITTING:
        return SubmitOutcome.UNKNOWN, view
    if view.status is OrderStatus.REJECTED:
        return SubmitOutcome.REJECTED, view
    return SubmitOutcome.ACCEPTED, view


def _waited(account: Session, client_order_id: str, until: WaitGoal, wait_ms: int) -> OrderView:
    try:
        return account.broker.wait(client_order_id, until=until, timeout_ms=wait_ms)
    except WaitTimeoutError:
        return account.broker.order(client_order_id)


def _told(outcome: SubmitOutcome, view: OrderView, reason: str, place: str) -> list[Any]:
    styles = {SubmitOutcome.ACCEPTED: "green", SubmitOutcome.REJECTED: "red", SubmitOutcome.UNKNOWN: "bold yellow"}
    head: list[Any] = [[(outcome.value, styles[outcome]), (f"  {view.client_order_id} {view.broker_order_id}", "")]]
    match outcome:
        case SubmitOutcome.ACCEPTED:
            average = "" if view.avg_price is None else f" at {number(view.avg_price)} on average"
            filled = f"{number(view.cum_quantity)} filled{average}"
            why = f", {reason}" if reason else ""
            head.append(f"  {view.status.value.lower()}{why}: {filled}")
            head += [f"  fee {number(fee)} {coin}" for coin, fee in view.fees.items()]
        case SubmitOutcome.REJECTED:
            head.append(f"  {_EXPLAINED.get(reason, reason)}")
        case SubmitOutcome.UNKNOWN:
            head.append(f"  it may be live at {place}. Do not send it again; look it up with `qkt orders`.")
            head.append(f"  {reason}")
    return head


def _described(request: OrderRequest) -> str:
    quote = " (quote coin)" if getattr(request, "quote_sized", False) else ""
    prices = attrs.asdict(request)
    at = " ".join(
        f"{name.removesuffix('_price')} {number(prices[name])}"
        for name in ("stop_price", "trigger_price", "limit_price")
        if prices.get(name) is not None
    )
    side = request.side.value.lower()
    return f"{side} {number(request.quantity)}{quote} {bare_symbol(request.symbol)} {at or 'at market'}"


__all__ = ["decimal_of", "request_of", "run", "terms"]
