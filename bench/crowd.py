"""Do slow and hostile clients keep a trader waiting? `candletune serve` with a crowd of them, against the same without.

    python bench/crowd.py --config CANDLETUNE.toml [--clients 64] [--slow 200] [--seconds 60]

The configuration is a finished run's (the demo's will do). The program starts the real server over the real model. So
many clients ask for signals one after the other, first alone, then beside connections that send a byte a second of a
request that never ends, and begin again when they are closed. Prints how many signals were answered, the median and the
99th percentile of both, their ratio, and how long the server took to end on SIGTERM in the middle of it.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CONTEXT = {
    "ticker": "BTC",
    "price_usd": 97_000,
    "rsi": 28.3,
    "change_24h": -1.2,
    "macd_hist": 4.5,
    "ema_bullish": True,
    "ema_gap_pct": 0.3,
    "bb_position": "inside bands",
    "timeframe_summary": "4h bullish RSI 61 (+0.8%)",
}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def asking(port: int, until: float, number: int, times: list[float], said: Counter[str]) -> None:
    """One client: a signal after the other, each of another price."""
    count = 0
    while time.monotonic() < until:
        count += 1
        body = json.dumps(CONTEXT | {"price_usd": 90_000 + 100 * number + count})
        began = time.monotonic()
        try:
            connection = HTTPConnection("127.0.0.1", port, timeout=120)
            connection.request("POST", "/signal", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            said[str(answer.status)] += 1
            if answer.status == 200:
                times.append(time.monotonic() - began)
            connection.close()
        except OSError as error:
            said[type(error).__name__] += 1


def dripping(port: int, ended: threading.Event) -> None:
    """One slow client: a byte a second, and a new connection whenever it is closed."""
    while not ended.is_set():
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
                sock.sendall(
                    f"POST /signal HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 4000\r\n\r\n".encode()
                )
                while not ended.wait(1):
                    sock.sendall(b"{")
        except OSError:
            ended.wait(0.2)


def measure(port: int, clients: int, seconds: float) -> tuple[NDArray[np.float64], Counter[str]]:
    """Answered signals' seconds, and the answers by status."""
    times: list[float] = []
    said: Counter[str] = Counter()
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=asking, args=(port, until, n, times, said)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return np.array(times), said


def main() -> None:
    """Measure both, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--slow", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    given = parser.parse_args()
    port = free_port()
    command = [sys.executable, "-m", "candletune", "serve", "--config", str(given.config), "--set", f"live.port={port}"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ended = threading.Event()
    try:
        while measure(port, 1, 0.5)[1]["200"] == 0:
            if server.poll() is not None:
                raise SystemExit(f"the server ended with exit code {server.returncode}; try it by hand: {command}")
        p99 = []
        for name, slow in (("quiet", 0), (f"{given.slow} slow", given.slow)):
            for _ in range(slow):
                threading.Thread(target=dripping, args=(port, ended), daemon=True).start()
            times, said = measure(port, given.clients, given.seconds)
            p99.append(float(np.quantile(times, 0.99)))
            print(
                f"{name}: {given.clients} clients, answers {dict(said)}, median {np.median(times):.2f} s, "
                f"99 % within {p99[-1]:.2f} s",
                flush=True,
            )
        print(f"ratio of the 99th percentiles: {p99[1] / p99[0]:.2f}")
        began = time.monotonic()
        os.kill(server.pid, signal.SIGTERM)
        code = server.wait(60)
        print(f"SIGTERM beside {given.slow} slow connections: exit code {code} after {time.monotonic() - began:.2f} s")
    finally:
        ended.set()
        server.kill()


if __name__ == "__main__":
    main()
