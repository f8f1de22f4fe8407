"""``qkt venue`` and ``python -m qkt.venue``: the simulated Bybit as a program of its own.

Prints where it listens, then one line per event; ends cleanly on Ctrl-C. A story file (TOML) arms faults and makes
events happen at given times, so that the same sequence can be repeated for a bot in any language.
"""

# ruff: noqa: T201 - a program for the terminal prints

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from .exchange.journal import Entry
from .venue import SimulatedBybit

_HIGHEST_PORT = 65_535
_EVENTS = ("price", "mark-price", "fund", "liquidate", "adl", "cut", "restart", "deposit")
_QUIET = frozenset({"n", "t", "event", "account"})
_DULL = ("", "False", "UNKNOWN", "EC_NoError")


def main(argv: Sequence[str] | None = None) -> int:
    """Run until Ctrl-C; returns the exit status."""
    options = _parser().parse_args(argv)
    try:
        story = _story(options.faults)
        venue = SimulatedBybit(
            seed=options.seed,
            symbols=tuple(options.symbols.split(",")),
            linear_symbols=tuple(name for name in options.linear_symbols.split(",") if name),
            port=options.port,
            market=options.market,
            market_speed=options.speed,
            rate_limits=not options.no_rate_limits,
        )
        _arm(venue, story)
        journal = Path(options.journal).open("a", encoding="utf-8") if options.journal else None  # noqa: SIM115
    except (OSError, ValueError) as error:
        print(f"qkt venue: {error}", file=sys.stderr)
        return 2
    return _run(venue, options, story, journal)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="qkt venue", description="A simulated Bybit V5 with perpetuals, on loopback.")
    parser.add_argument("--port", type=_port, default=8765, help="port to listen on; 0 picks a free one (default 8765)")
    parser.add_argument("--seed", type=int, default=1, help="decides everything left to chance (default 1)")
    parser.add_argument("--symbols", default="BTCUSDT,ETHUSDT,SOLUSDT", help="spot pairs, separated by commas")
    parser.add_argument(
        "--linear-symbols",
        default="BTCUSDT,ETHUSDT,SOLUSDT,BTCPERP",
        help="perpetual contracts, separated by commas; empty for none",
    )
    parser.add_argument("--market", choices=("live", "still"), default="live", help="default: live")
    parser.add_argument("--speed", type=float, default=1.0, help="market time per real time in a live market")
    parser.add_argument("--faults", metavar="STORY.toml", help="faults to arm and events to come")
    parser.add_argument("--journal", metavar="FILE", help="append everything that happens as JSON lines")
    parser.add_argument("--no-rate-limits", action="store_true", help="grant every request")
    parser.add_argument("--quiet", action="store_true", help="do not print events")
    parser.add_argument("--json", action="store_true", help="a JSON line per event on stdout and nothing else")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > _HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; ports are 0 to {_HIGHEST_PORT}")
    return int(text)


def _story(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        story = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: {error}") from error
    unknown = set(story) - {"fault", "event"}
    if unknown:
        raise ValueError(f"{path}: only [[fault]] and [[event]] tables are known, not {', '.join(sorted(unknown))}")
    return story


def _arm(venue: SimulatedBybit, story: Mapping[str, Any]) -> None:
    for table in story.get("fault", []):
        options = dict(table)
        venue.faults.add(str(options.pop("name", "")), **options)
    for event in story.get("event", []):
        if event.get("do") not in _EVENTS:
            raise ValueError(f"an event does one of {', '.join(_EVENTS)}, not {event.get('do')!r}")


def _run(venue: SimulatedBybit, options: argparse.Namespace, story: Mapping[str, Any], journal: TextIO | None) -> int:
    finished = threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: finished.set())
    timers = [_timer(venue, event) for event in story.get("event", [])]
    try:
        if journal is not None:
            venue.journal.listen(lambda entry: print(json.dumps(entry), file=journal, flush=True))
        if not options.quiet:
            told = json.dumps if options.json else describe
            venue.journal.listen(lambda entry: print(told(entry), flush=True))
        with venue:
            if options.json:
                urls = {"rest_url": venue.rest_url, "ws_url": venue.ws_url, "trade_ws_url": venue.trade_ws_url}
                _say_json("listening", **urls, api_key="key", api_secret="secret")
            else:
                print(f"simulated Bybit V5: REST {venue.rest_url}  private stream {venue.ws_url}", flush=True)
                print("account key=key secret=secret; controls at /_venue; Ctrl-C ends it", flush=True)
            for timer in timers:
                timer.start()
            while not finished.wait(1.0):
                pass
    except OSError as error:
        print(f"qkt venue: cannot listen on port {options.port}: {error}", file=sys.stderr)
        return 1
    finally:
        for timer in timers:
            timer.cancel()
        if journal is not None:
            journal.close()
    if options.json:
        _say_json("stopped")
    else:
        print("stopped", flush=True)
    return 0


def _say_json(event: str, **more: str) -> None:
    print(json.dumps({"event": event, **more}), flush=True)


def _timer(venue: SimulatedBybit, event: Mapping[str, Any]) -> threading.Timer:
    def happen() -> None:
        match event["do"]:
            case "price":
                venue.set_price(str(event["symbol"]), str(event["price"]), event.get("category"))
            case "mark-price":
                venue.set_mark_price(str(event["symbol"]), str(event["price"]))
            case "fund":
                venue.fund(str(event["symbol"]), event.get("rate"))
            case "liquidate":
                venue.liquidate(str(event["symbol"]), str(event.get("account", "key")))
            case "adl":
                venue.adl(str(event["symbol"]), event.get("quantity"), str(event.get("account", "key")))
            case "cut":
                venue.cut_streams()
            case "restart":
                venue.restart(cut_streams=bool(event.get("cut_streams", False)))
            case "deposit":
                venue.deposit(str(event["coin"]), str(event["amount"]))

    timer = threading.Timer(float(event.get("at_ms", 0)) / 1000, happen)
    timer.daemon = True
    timer.name = f"qkt-venue-story-{event['do']}"
    return timer


def describe(entry: Entry) -> str:
    """A journal entry as one readable line."""
    stamp = datetime.fromtimestamp(entry["t"] / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
    told = {name: value for name, value in entry.items() if name not in _QUIET and str(value) not in _DULL}
    details = " ".join(f"{name}={value}" for name, value in told.items())
    who = f" [{entry['account']}]" if "account" in entry else ""
    return f"{stamp} {entry['event']:<17}{who} {details}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
