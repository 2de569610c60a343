"""`kill -9` at random moments while four writers append and a reader reads: what was acknowledged is there, once."""

import multiprocessing
import os
import random
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from candletune.journal import Journal, Row, Side, format_time, read_frame, read_rows

KILLS = 200
WRITERS = 4
START = datetime(2025, 1, 1, tzinfo=UTC)


def write_forever(path: Path, acknowledged: Path, ticker: str, slow: bool) -> None:
    """Append row after row; note each one that was acknowledged. A slow writer's bytes reach the file in pieces."""
    write = os.write
    if slow:

        def pieces(handle: int, data: bytes) -> int:
            for start in range(0, len(data), 150):
                write(handle, data[start : start + 150])
                time.sleep(0.0005)
            return len(data)

        os.write = pieces  # type: ignore[assignment]
    journal = Journal(path)
    notes = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    side = Side("ok", "HOLD", "quiet", {"BUY": 0.1, "SELL": 0.2, "HOLD": 0.7}, 1.0)
    for hour in range(1_000_000):
        moment = START + timedelta(hours=hour)
        journal.append(Row(moment, ticker, 1.0, "p" * 64, "t" * 64, "b" * 64, side, side))
        write(notes, f"{ticker} {format_time(moment)}\n".encode())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs the forkserver start method and SIGKILL")
def test_every_acknowledged_row_is_there_once_whatever_is_killed(tmp_path: Path) -> None:
    path, acknowledged = tmp_path / "log.jsonl", tmp_path / "acknowledged"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["candletune.journal"])
    rng = random.Random(17)  # noqa: S311
    started = iter(range(10_000))
    writers = [start(context, path, acknowledged, next(started)) for _ in range(WRITERS)]
    stop, seen, failures = threading.Event(), [0], []

    def read_on() -> None:
        while not stop.is_set():
            try:
                if path.exists():
                    seen[0] = max(seen[0], sum(1 for _ in read_rows(path)))
            except Exception as error:
                failures.append(error)
            time.sleep(0.002)

    reader = threading.Thread(target=read_on)
    reader.start()
    for _ in range(KILLS):
        grown(acknowledged)
        time.sleep(rng.uniform(0.0, 0.03))
        victim = rng.randrange(WRITERS)
        writers[victim].kill()
        writers[victim].join()
        writers[victim] = start(context, path, acknowledged, next(started))
    time.sleep(0.5)
    for writer in writers:
        writer.kill()
        writer.join()
    stop.set()
    reader.join()

    assert not failures
    journal = Journal(path)
    assert journal.problems.broken == 0
    written = Counter(f"{row['ticker']} {row['timestamp']}" for row in read_rows(path))
    notes = acknowledged.read_text().splitlines()
    assert set(written.values()) == {1}
    assert set(notes) <= set(written)
    # A row may be on disk without its note (killed between the two), at most one a writer.
    assert len(written) - len(notes) <= KILLS + WRITERS
    assert len(notes) > KILLS
    assert seen[0] > 0
    assert journal.torn_path.exists(), "no kill tore a line: the test lost its teeth"
    assert len(read_frame(path)) == len(written)


def grown(acknowledged: Path) -> None:
    """Wait until another row was acknowledged: on a busy machine writers would else die before they wrote."""
    size = acknowledged.stat().st_size if acknowledged.exists() else 0
    for _ in range(10_000):
        if acknowledged.exists() and acknowledged.stat().st_size > size:
            return
        time.sleep(0.001)
    pytest.fail("no writer has written a row for ten seconds")


def start(context: ForkServerContext, path: Path, acknowledged: Path, number: int) -> BaseProcess:
    process = context.Process(
        target=write_forever, args=(path, acknowledged, f"W{number}", number % 2 == 0), daemon=True
    )
    process.start()
    return process
