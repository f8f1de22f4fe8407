"""How much the simulated venue bears: signed requests and stream frames per second, on one core.

    python tests/benchmarks/venue.py

The venue runs as a process of its own, pinned to one core where the system allows it; the load comes from another
process over loopback, signed and parsed for real. Requests: create and cancel of a limit order, twenty connections.
Frames: what one private connection receives while a burst of orders is placed and cancelled. Two numbers
each: per second of the clock, which other programs on the machine lower, and per second of processor time that the
venue itself used, which is what one core gives. The targets (1,000 requests, 10,000 frames) are for the latter.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import multiprocessing
import os
import sys
import time
from multiprocessing.connection import Connection

import aiohttp

REQUESTS_TARGET, FRAMES_TARGET = 1_000, 10_000
_CONNECTIONS = 20


def serve(pipe: Connection, core: int | None) -> None:
    """The venue's process."""
    from qkt.venue import SimulatedBybit

    if core is not None:
        os.sched_setaffinity(0, {core})
    with SimulatedBybit(rate_limits=False, balances={"USDT": 10**9, "BTC": 10**6}, frame_latency_ms=0) as venue:
        pipe.send((venue.rest_url, venue.ws_url))
        while (command := pipe.recv()) != "stop":
            if command == "cpu":
                pipe.send(time.process_time())
                continue
            for number in range(int(command)):
                row = venue.place(symbol="BTCUSDT", side="Buy", orderType="Limit", qty="0.01", price="59000")
                venue.cancel(row["orderId"])
                if number % 100 == 0:
                    venue.wait_idle(30)
            venue.wait_idle(60)
            pipe.send("done")


def signed(text: str) -> dict[str, str]:
    stamp = str(time.time_ns() // 1_000_000)
    signature = hmac.digest(b"secret", f"{stamp}key60000{text}".encode(), hashlib.sha256).hex()
    return {
        "X-BAPI-API-KEY": "key",
        "X-BAPI-TIMESTAMP": stamp,
        "X-BAPI-RECV-WINDOW": "60000",
        "X-BAPI-SIGN": signature,
        "Content-Type": "application/json",
    }


async def count_requests(rest_url: str, seconds: float) -> tuple[int, float]:
    """Create, cancel, create, cancel ... over several connections, every reply parsed and checked."""
    done = 0
    deadline = time.perf_counter() + seconds

    async def trader(session: aiohttp.ClientSession, name: int) -> None:
        nonlocal done
        number = 0
        while time.perf_counter() < deadline:
            number += 1
            link = f"b{name}-{number}"
            order = {"category": "spot", "symbol": "BTCUSDT", "orderLinkId": link}
            create = {**order, "side": "Buy", "orderType": "Limit", "qty": "0.01", "price": "59000"}
            for path, body in (("/v5/order/create", create), ("/v5/order/cancel", order)):
                text = json.dumps(body)
                async with session.post(rest_url + path, data=text, headers=signed(text)) as reply:
                    assert json.loads(await reply.read())["retCode"] == 0
                done += 1

    began = time.perf_counter()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=_CONNECTIONS)) as session:
        await asyncio.gather(*(trader(session, name) for name in range(_CONNECTIONS)))
    return done, time.perf_counter() - began


async def count_frames(ws_url: str, pipe: Connection, orders: int) -> tuple[int, float]:
    """Frames that one logged-in connection receives while the venue places and cancels orders as fast as it can."""
    frames = 0
    async with aiohttp.ClientSession() as session, session.ws_connect(ws_url, max_msg_size=0, autoping=True) as ws:
        expires = time.time_ns() // 1_000_000 + 10_000
        signature = hmac.digest(b"secret", f"GET/realtime{expires}".encode(), hashlib.sha256).hex()
        await ws.send_str(json.dumps({"op": "auth", "args": ["key", expires, signature]}))
        assert (await ws.receive_json())["success"]
        await ws.send_str(json.dumps({"op": "subscribe", "args": ["order", "wallet"]}))
        assert (await ws.receive_json())["success"]
        expected = orders * 4  # New and Cancelled, a wallet frame for each
        pipe.send(str(orders))
        began = time.perf_counter()
        while frames < expected:
            await ws.receive()
            frames += 1
        return frames, time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--orders", type=int, default=5_000)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    process = context.Process(target=serve, args=(theirs, cores[-1] if len(cores) > 1 else None), daemon=True)
    process.start()
    rest_url, ws_url = ours.recv()
    if len(cores) > 1:
        os.sched_setaffinity(0, set(cores[:-1]))

    def cpu_seconds() -> float:
        ours.send("cpu")
        return float(ours.recv())

    before = cpu_seconds()
    done, took = asyncio.run(count_requests(rest_url, options.seconds))
    requests = (done / took, done / (cpu_seconds() - before))
    before = cpu_seconds()
    frames_done, took = asyncio.run(count_frames(ws_url, ours, options.orders))
    ours.recv()
    frames = (frames_done / took, frames_done / (cpu_seconds() - before))
    ours.send("stop")
    process.join(10)
    print(f"{'':<18}{'per second':>12}{'per core-second':>18}{'target':>10}")
    print(f"{'signed requests':<18}{requests[0]:>12,.0f}{requests[1]:>18,.0f}{REQUESTS_TARGET:>10,}")
    print(f"{'frames':<18}{frames[0]:>12,.0f}{frames[1]:>18,.0f}{FRAMES_TARGET:>10,}")
    return 0 if requests[1] >= REQUESTS_TARGET and frames[1] >= FRAMES_TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
