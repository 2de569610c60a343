"""A simulated year of hourly candles for ten pairs through the real shadow loop, with faults at random throughout.

    python bench/soak.py --out /dev/shm/soak
    python bench/soak.py --days 7 --pairs 2 --out /tmp/soak
    python bench/soak.py --minutes 9 --out /dev/shm/soak; python bench/soak.py --resume --minutes 9 --out /dev/shm/soak

Everything is real but the model (an engine that answers from a hash of the prompt: 175,000 questions to a language
model would take days), the clock, and the exchange, which writes each closed candle into the candle files. The loop
reads them, asks, journals, watches for drift, promotes and rolls back as `candletune shadow` does.

Faults: kill -9 (in the first half of the year, so that the second half is one process whose memory can be watched), a
full disk (`RLIMIT_FSIZE`: the kernel cuts the write short), another writer's half line or NULs in the journal, an
exchange that is gone for hours, a candle file cut short, a clock that jumps, and a candidate that raises, lacks its
file or answers nonsense. At the end every pair must have one row for every hour.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.decisions import DECISIONS, Decision
from candletune.engines import Generation, Stopped
from candletune.errors import InputError
from candletune.journal import Problems, read_frame
from candletune.live import promotion
from candletune.live.monitor import DriftMonitor
from candletune.live.shadow import ShadowLoop, open_loop
from candletune.live.signal import Trader
from candletune.live.watch import watch
from candletune.market.simulate import simulate, to_candles
from candletune.runs import RunFolder

START = datetime(2025, 1, 1, tzinfo=UTC)
HISTORY = 400
"""Candles in a file: enough for the indicators' warm-up, few enough to read ten files every hour."""
MONTH = 730
KINDS = {
    "kill -9": 30,
    "full disk": 120,
    "half line": 60,
    "exchange gone": 60,
    "broken candle file": 60,
    "clock jump": 60,
    "candidate raises": 200,
    "candidate missing": 100,
    "candidate nonsense": 100,
}
"""Faults a year."""


def plan(seed: int, hours: int) -> dict[int, str]:
    """Hour -> fault; kills in the first half only."""
    rng = np.random.default_rng(seed)
    found: dict[int, str] = {}
    for kind, count in KINDS.items():
        last = hours // 2 if kind == "kill -9" else hours - 6
        wanted = max(1, round(count * hours / (365 * 24)))
        for hour in rng.choice(np.arange(30, last), wanted, replace=False):
            found.setdefault(int(hour), kind)
    return found


class StandIn:
    """Answers from a hash of prompt and adapter; see `candletune.engines.Engine`."""

    def __init__(self) -> None:
        self.active: str | None = None
        self.fault = ""
        self.calls_to_live = -1
        self.stop: Callable[[], bool] | None = None

    def add_adapter(self, name: str, path: Path) -> None:
        """Nothing to load."""

    def use(self, name: str | None) -> None:
        """Switch."""
        self.active = name

    def prompt_ids(self, prompt: str) -> list[int]:
        """Bytes stand for tokens."""
        return list(prompt.encode())

    def score(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """Probabilities (n, 3)."""
        self._trip()
        if self.fault == "candidate nonsense" and self.stop is not None:
            return np.full((len(prompts), 3), np.nan)
        return np.array([self._chances(prompt) for prompt in prompts])

    def generate(self, prompt: str, *, action: Decision | None = None) -> Generation:
        """A sentence."""
        said = action or DECISIONS[int(self._chances(prompt).argmax())]
        return Generation(f"DECISION: {said} - as the hash says.", ended=True, tokens=9)

    def generate_all(self, prompts: Sequence[str], actions: Sequence[Decision | None]) -> list[Generation]:
        """One by one."""
        return [self.generate(prompt, action=action) for prompt, action in zip(prompts, actions, strict=True)]

    def stop_when(self, asked: Callable[[], bool] | None) -> None:
        """Asked before each answer."""
        self.stop = asked

    def close(self) -> None:
        """Nothing to free."""

    def _trip(self) -> None:
        if self.calls_to_live == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.calls_to_live -= 1
        if self.fault == "candidate raises" and self.stop is not None:
            raise RuntimeError("decode failed")
        if self.stop is not None and self.stop():
            raise Stopped

    def _chances(self, prompt: str) -> NDArray[np.float64]:
        digest = hashlib.sha256(f"{self.active}{prompt}".encode()).digest()
        weights = np.frombuffer(digest[:3], np.uint8).astype(np.float64) + 1
        found: NDArray[np.float64] = weights / weights.sum()
        return found


class World:
    """Clock, exchange and faults of one process; the hour outlives it on disk."""

    def __init__(self, config: Config, given: argparse.Namespace, engine: StandIn) -> None:
        self.config, self.folder, self.engine = config, given.out, engine
        self.hours = given.days * 24
        self.faults = plan(given.seed, self.hours)
        self.rng = np.random.default_rng(int(time.time_ns() % 2**32))
        names = pairs(config)
        self.candles = {pair: pl.read_ipc(self.folder / f"all-{number}.feather") for number, pair in names}
        self.hour = int((self.folder / "hour").read_text())
        self.skew = timedelta()
        self.gone = 0
        self.missing = False
        self.looks = 0

    def now(self) -> datetime:
        """Half a minute behind a candle's close, but for jumps."""
        return START + timedelta(hours=self.hour + 1, seconds=30) + self.skew

    def ended(self) -> bool:
        """Whether the year is over."""
        return bool(self.hour >= self.hours)

    def pause(self, _: float) -> None:
        """The next hour."""
        if self.hour % (MONTH // 4) == 0:
            self.note()
        self.hour += 1
        (self.folder / "hour").write_text(str(self.hour))

    def fetch(self) -> None:
        """The exchange gives every closed candle; then this hour's fault strikes."""
        unlimit()
        self.skew, self.engine.fault, self.missing = timedelta(), "", False
        fault = self.faults.get(self.hour, "")
        if fault == "exchange gone":
            self.gone = int(self.rng.integers(1, 6))
        if self.gone:
            self.gone -= 1
            raise InputError("the exchange is away")
        for number, pair in pairs(self.config):
            self._write(number, pair)
        self._strike(fault)

    def _write(self, number: int, pair: str) -> None:
        last = HISTORY + self.hour + 1
        path = self.config.data.folder / "futures" / f"P{number}_USDT_USDT-1h-futures.feather"
        part = path.with_suffix(".part")
        self.candles[pair][last - HISTORY : last].write_ipc(part)
        part.replace(path)
        at = (START + timedelta(hours=self.hour + 1)).timestamp()
        os.utime(path, (at, at))

    def _strike(self, fault: str) -> None:
        journal = self.config.live.journal
        if fault == "kill -9" and (marker := self.folder / f"killed-{self.hour}") and not marker.exists():
            marker.touch()
            self.engine.calls_to_live = int(self.rng.integers(0, 2 * len(self.config.data.pairs)))
        elif fault == "full disk":
            size = journal.stat().st_size + int(self.rng.integers(0, 4000))
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        elif fault == "half line":
            with journal.open("ab") as stream:
                stream.write(self.rng.choice([b'{"schema":1,"timesta', b"\0" * 100, b"\xff\xfe{", b"[" * 1000]))
        elif fault == "broken candle file":
            path = self.config.data.folder / "futures" / "P0_USDT_USDT-1h-futures.feather"
            path.write_bytes(path.read_bytes()[: int(self.rng.integers(0, 4000))])
        elif fault == "clock jump":
            self.skew = timedelta(hours=int(self.rng.choice([-30, -3, 3, 30])))
        elif fault == "candidate missing":
            self.missing = True
        else:
            self.engine.fault = fault

    def note(self) -> None:
        """Memory and descriptors of this process."""
        status = Path("/proc/self/status").read_text()
        rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        open_files = sum(1 for _ in Path("/proc/self/fd").iterdir())
        line = {"hour": self.hour, "pid": os.getpid(), "rss_mib": round(rss / 1024, 1), "descriptors": open_files}
        with (self.folder / "notes.jsonl").open("a") as stream:
            stream.write(json.dumps(line) + "\n")


def unlimit() -> None:
    """Room on the disk again."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def pairs(config: Config) -> list[tuple[int, str]]:
    """Numbered."""
    return list(enumerate(config.data.pairs))


def config_of(given: argparse.Namespace) -> Config:
    """Everything below the folder."""
    names = ",".join(f'"P{number}/USDT:USDT"' for number in range(given.pairs))
    return load_config(
        None,
        [
            f"run.folder={given.out / 'run'}",
            f"data.folder={given.out / 'data'}",
            f"data.pairs=[{names}]",
            f"live.state={given.out / 'live' / 'active.json'}",
            f"live.journal={given.out / 'live' / 'ab_test_log.jsonl'}",
        ],
    )


def prepare(given: argparse.Namespace) -> None:
    """Candles of the year, a stand-in base and an export."""
    config = config_of(given)
    shutil.rmtree(given.out, ignore_errors=True)
    (config.data.folder / "futures").mkdir(parents=True)
    hours = given.days * 24 + HISTORY + 8
    for number in range(given.pairs):
        seed = (given.seed, number)
        table = to_candles(simulate(seed, hours, 0.8), start=START - timedelta(hours=HISTORY), price=100.0, seed=seed)
        table.write_ipc(given.out / f"all-{number}.feather")
    (given.out / "hour").write_text("0")
    run = RunFolder(config.run.folder)
    run.gguf.mkdir(parents=True)
    run.base_gguf.write_bytes(b"the engine needs none")
    write_export(run.adapter_gguf)


def write_export(path: Path) -> None:
    """A LoRA GGUF of one matrix, for whoever reads its header."""
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 16.0)
    for part, shape in (("lora_a", (4, 64)), ("lora_b", (64, 4))):
        writer.add_tensor(f"blk.0.attn_q.weight.{part}", np.zeros(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def child(given: argparse.Namespace) -> None:
    """One process of the loop, until the year is over or it is killed."""
    promotion.check_loads = lambda *_: None  # it would open llama.cpp over a base that is not there
    config, engine = config_of(given), StandIn()
    world = World(config, given, engine)
    reporter = SilentReporter()
    trader = Trader(config, engine=engine)
    signals = (given.out / "signals.jsonl").open("a")

    def emit(answer: Mapping[str, Any]) -> None:
        signals.write(json.dumps(answer) + "\n")
        signals.flush()

    loop = open_loop(config, trader, emit=emit, reporter=reporter)
    monitor = DriftMonitor(config, reporter, lambda *_: None, world.now)
    shadowed = loop.candidate

    def candidate() -> Any:
        if world.missing:
            raise InputError("custom-trading-lora.gguf: no such model")
        return shadowed()

    loop.candidate = candidate
    loop.after = monitor.after
    world.note()
    written = follow(config, loop, world)
    world.note()
    unlimit()
    with (given.out / "ends.jsonl").open("a") as stream:
        stream.write(
            json.dumps({"written": written, "unlogged": loop.unlogged, "warned": len(reporter.warnings)}) + "\n"
        )
    loop.close()


def follow(config: Config, loop: ShadowLoop, world: World) -> int:
    """The loop, with a promotion or a rollback a month."""

    def pause(seconds: float) -> None:
        if world.hour and world.hour % MONTH == 0:
            unlimit()
            acts = len(promotion.history(config))
            if acts < world.hour // MONTH:
                _ = promotion.promote(config, force="soak") if acts % 2 == 0 else promotion.rollback(config)
        loop.reporter.warnings[:-1000] = []  # type: ignore[attr-defined]
        world.pause(seconds)

    return watch(config, loop, fetch=world.fetch, stop=world.ended, clock=world.now, pause=pause)


def main() -> None:
    """Run the year, restarting what was killed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=0, help="stop after so many, to go on with --resume; 0: never")
    parser.add_argument("--resume", action="store_true", help="go on where --minutes stopped")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given)
        return
    if not given.resume:
        prepare(given)
    began, took = time.perf_counter(), given.out / "seconds"
    before = float(took.read_text()) if took.exists() else 0.0
    while True:
        left = given.minutes * 60 - (time.perf_counter() - began) if given.minutes else None
        try:
            code = subprocess.run([sys.executable, __file__, "--child", *sys.argv[1:]], timeout=left).returncode
        except subprocess.TimeoutExpired:  # which kills it, as a fault does
            took.write_text(str(before + time.perf_counter() - began))
            raise SystemExit(f"at hour {(given.out / 'hour').read_text()}; --resume goes on") from None
        if code != -signal.SIGKILL:
            break
    if code:
        raise SystemExit(f"the loop ended by itself with {code}")
    report(given, len(list(given.out.glob("killed-*"))), before + time.perf_counter() - began)


def report(given: argparse.Namespace, kills: int, seconds: float) -> None:
    """The table; leaves with 1 when a row is missing or doubled."""
    problems = Problems()
    frame = read_frame(config_of(given).live.journal, problems=problems)
    missing = 0
    for _, rows in frame.group_by("ticker"):
        times = rows["timestamp"].sort()
        span = (times[-1] - times[0]) // timedelta(hours=1) + 1
        missing += span - times.n_unique()
    expected = given.pairs * given.days * 24
    notes = [json.loads(line) for line in (given.out / "notes.jsonl").read_text().splitlines()]
    last = [note for note in notes if note["pid"] == notes[-1]["pid"]]
    settled = last[1] if len(last) > 2 else last[0]
    faults = Counter(plan(given.seed, given.days * 24).values())
    print(f"{given.days} days, {given.pairs} pairs, {seconds / 60:.0f} min")
    print(f"rows {len(frame)} of {expected}; missing between: {missing}; doubled: {problems.duplicates}; {problems}")
    print(f"late {int(frame['late'].sum())}; statuses {dict(Counter(frame['shadow_status']))}; kills {kills}")
    print(f"faults {dict(faults)}, {sum(faults.values())} in all")
    for name, note in (("start", last[0]), ("settled", settled), ("end", last[-1])):
        print(f"last process, {name}: hour {note['hour']}, {note['rss_mib']} MiB, {note['descriptors']} descriptors")
    print((given.out / "ends.jsonl").read_text().strip())
    if missing or problems.duplicates or len(frame) < expected - given.pairs:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
