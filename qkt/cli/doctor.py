"""``qkt doctor``: checks of this machine, the key, the connections and the account, each with its remedy.

Exit codes: 0 no check is red, 1 at least one is, 130 Ctrl-C. A yellow check is a warning and leaves the code at 0.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from qkt.bus import EventBus
from qkt.bybit.spot import BybitSpotBroker
from qkt.bybit.transport.client import BybitClient
from qkt.bybit.transport.stream_session import Timing
from qkt.cli import exit_codes
from qkt.cli.doctor_checks import (
    Colour,
    Light,
    account_type,
    clock_skew,
    expiry,
    ip_binding,
    key_is_valid,
    latency,
    permissions,
    rate_limits,
    withdrawal,
)
from qkt.cli.output import Line, Screen, wrapped
from qkt.cli.progress import progress
from qkt.cli.runner import command_parser, run_command
from qkt.cli.session import KEYS_HELP, add_account_options, new_client, place_of
from qkt.cli.version import versions
from qkt.errors import BybitApiError, BybitConnectError, InvalidRequestError, QktError

_SAMPLES = 12
_PING_EVERY_MS = 120
_STYLES = {Colour.GREEN: "green", Colour.YELLOW: "bold yellow", Colour.RED: "bold red"}
_WORDS = {Colour.GREEN: "ok", Colour.YELLOW: "warn", Colour.RED: "BAD"}
_INDENT = 22


def run(argv: Sequence[str]) -> int:
    """``qkt doctor``."""
    parser = command_parser(
        "doctor", "Check the key, the clock, the connections and the account; change nothing.", epilog=KEYS_HELP
    )
    add_account_options(parser)
    return run_command(parser, argv, _doctor)


def _doctor(options: argparse.Namespace, screen: Screen) -> int:
    place = place_of(options)
    screen.line([(f"qkt doctor, {place}", "bold")])
    lights: list[Light] = []

    def show(light: Light) -> None:
        lights.append(light)
        screen.lines(_lines(light))

    for light in _examined(options, screen):
        show(light)
    worst = max((light.colour for light in lights), key=list(Colour).index)
    code = exit_codes.NO if worst is Colour.RED else exit_codes.OK
    screen.result({"place": place, "ok": code == exit_codes.OK, "lights": [light.as_dict() for light in lights]})
    counts = {colour: sum(light.colour is colour for light in lights) for colour in Colour}
    screen.line(
        [(f"{counts[Colour.RED]} red, {counts[Colour.YELLOW]} yellow, {counts[Colour.GREEN]} green", _STYLES[worst])]
    )
    return code


def _examined(options: argparse.Namespace, screen: Screen) -> Iterator[Light]:
    found = versions()
    yield Light(
        name="versions",
        value=f"qkt {found['qkt']}, Python {found['python']}, requests {found['requests']}, "
        f"websocket-client {found['websocket-client']}",
    )
    try:
        client = new_client(options, timing=Timing(ping_interval_ms=_PING_EVERY_MS))
    except InvalidRequestError as error:
        yield Light(name="keys", colour=Colour.RED, value="not usable", remedy=str(error))
        return
    yield Light(name="keys", value="taken from the environment")
    try:
        begun = time.monotonic()
        with progress(screen, "connecting"):
            client.connect()
        yield Light(name="connection", value=f"REST and private stream open in {_ms_since(begun)} ms")
        yield from _connected(client, screen)
    except BybitConnectError as error:
        yield Light(name="connection", colour=Colour.RED, value=str(error), remedy=_remedy(error))
    finally:
        client.close()


def _connected(client: BybitClient, screen: Screen) -> Iterator[Light]:
    with progress(screen, "measuring", expected_s=_SAMPLES * _PING_EVERY_MS / 1000):
        offsets, round_trips = _rest_samples(client)
        pings = _stream_samples(client)
    yield clock_skew(offsets, round_trips, recv_window_ms=client.recv_window_ms)
    yield latency("REST latency", round_trips, "a nearer host, or another network: orders will be this late")
    yield latency("stream latency", pings, "a nearer host, or another network: news will be this late")
    with _asking() as ask:
        key = ask(lambda: client.get_signed("/v5/user/query-api", {}))
    if isinstance(key, Light):
        yield key
    else:
        described = key.get("result") or {}
        for look in (key_is_valid, permissions, withdrawal, ip_binding, expiry):
            yield look(described)
    with _asking() as ask:
        account = ask(lambda: client.get_signed("/v5/account/info", {}))
    yield account if isinstance(account, Light) else account_type(account.get("result") or {}, client.account_type)
    yield from _state(client)
    yield rate_limits(client.stats)


def _state(client: BybitClient) -> Iterator[Light]:
    """Checks of the account's state, by the first round that a broker makes."""
    try:
        with BybitSpotBroker(client, EventBus(), recovery_window_ms=0) as broker:
            orders, health, report = broker.open_orders(), broker.health, broker.reports[0]
    except QktError as error:
        remedy = "run it again; if it stays, the message names the read that fails"
        yield Light(name="state", colour=Colour.RED, value=str(error), remedy=remedy)
        return
    yield Light(name="state", value=f"orders, executions and balances read in full in {report.duration_ms} ms")
    oddly = [view for view in orders if view.is_unresolved]
    if oddly:
        names = ", ".join(view.client_order_id or view.broker_order_id for view in oddly)
        remedy = "run `qkt reconcile --report`; do not send these orders again"
        yield Light(name="open orders", colour=Colour.RED, value=f"{names} unresolved", remedy=remedy)
        return
    waiting = f", {health.lookups_waiting} questions waiting" if health.lookups_waiting else ""
    yield Light(name="open orders", value=f"{len(orders)} in spot{waiting}")


@contextmanager
def _asking() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Context in which a refusal by the venue becomes a red check instead of an exception."""

    def ask(question: Callable[[], Any]) -> Any:
        try:
            return question()
        except QktError as error:
            return Light(name="key", colour=Colour.RED, value=str(error), remedy=_remedy(error))

    yield ask


def _rest_samples(client: BybitClient) -> tuple[list[float], list[float]]:
    """Offsets of the venue's clock and round trips, in ms, of some calls to ``/v5/market/time``."""
    offsets, round_trips = [], []
    for _ in range(_SAMPLES):
        sent, begun = time.time() * 1000, time.monotonic()
        try:
            reply = client.get_signed("/v5/market/time", {})
            venue_ms = int(reply["result"]["timeNano"]) / 1e6
        except (QktError, KeyError, ValueError, TypeError):
            continue
        round_trip = (time.monotonic() - begun) * 1000
        round_trips.append(round_trip)
        offsets.append(venue_ms - (sent + round_trip / 2))
    return offsets, round_trips


def _stream_samples(client: BybitClient) -> list[float]:
    """Round trips of the private stream's pings, in ms."""
    pings: list[float] = []
    paused = threading.Event()
    for _ in range(_SAMPLES):
        paused.wait(_PING_EVERY_MS / 1000)
        last_ms = client.stats.ping_round_trip_ms
        if last_ms is not None:
            pings.append(last_ms)
    return pings


def _lines(light: Light) -> list[Line]:
    first, *rest = wrapped(light.value, width=80 - _INDENT) or [""]
    head = f"  {_WORDS[light.colour]:<5}"
    lines: list[Line] = [[(head, _STYLES[light.colour]), (f"{light.name:<{_INDENT - len(head)}}", "bold"), (first, "")]]
    lines += [" " * _INDENT + text for text in rest]
    if light.remedy:
        lines += [[(text, _STYLES[light.colour])] for text in wrapped(f"-> {light.remedy}", " " * _INDENT)]
    return lines


def _remedy(error: QktError) -> str:
    cause = error.__cause__ if isinstance(error.__cause__, QktError) else error
    if isinstance(cause, BybitApiError):
        return {
            10003: "the key does not exist at this venue: testnet and live have keys of their own (--live?)",
            10004: "the secret does not belong to the key: check BYBIT_API_SECRET",
            10005: "the key lacks a permission: give it Spot trading, and read of the wallet",
            10010: "the key is bound to other IP addresses: add this machine's",
            33004: "the key has expired: make a new one",
        }.get(cause.ret_code, "see the code in the venue's documentation (docs v5/error)")
    return "check the network, the host in BYBIT_REST_URL, and the venue's status page; nothing was changed"


def _ms_since(begun: float) -> int:
    return round((time.monotonic() - begun) * 1000)
