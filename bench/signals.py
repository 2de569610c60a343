"""Asking two adapters about a decision: a new process each time and a naive loop, against candletune.

    python bench/signals.py BASE.gguf ADAPTER.gguf [--prompts 64] [--threads 2] [--processes 3] [--served 200]

Same base, same prompts, one go. The peers use llama-cpp-python's own high-level calls as a script would: a model with
`lora_path` for each adapter, 100 tokens, temperature 0. Ours are the replay's scoring (decision probabilities of both
adapters) and the served signal (probabilities and a reason). The bare base stands in for the second adapter when
`--other` is not given.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil

from candletune.config import load_config
from candletune.console import SilentReporter
from candletune.dataset import decision_rows
from candletune.market.simulate import ensure_simulated
from candletune.runs import RunFolder

ONE = """
import sys
from llama_cpp import Llama
model = Llama(sys.argv[1], lora_path=sys.argv[2] or None, n_ctx=2048, 
    n_threads=int(sys.argv[3]), n_threads_batch=int(sys.argv[3]), verbose=False)
model("[INST]" + sys.stdin.read() + "[/INST]", max_tokens=100, temperature=0)
"""


def prompts_of(folder: Path, count: int) -> tuple[list[str], list[dict[str, Any]]]:
    """Prompts and contexts of a simulated market."""
    from candletune.prompts.context import context_of

    config = load_config(None, [f"run.folder={folder}", "simulate.enabled=true", "simulate.years=0.5"])
    data = config.data.model_copy(update={"folder": ensure_simulated(config, RunFolder(folder), SilentReporter())})
    rows = decision_rows(config.model_copy(update={"data": data})).tail(count)
    return rows["prompt"].to_list(), [context_of(row) for row in rows.iter_rows(named=True)]


def each_its_process(wanted: argparse.Namespace, prompts: list[str]) -> float:
    """Seconds a row: two processes."""
    start = time.perf_counter()
    for prompt in prompts:
        for adapter in (wanted.adapter, wanted.other):
            command = [sys.executable, "-c", ONE, str(wanted.base), str(adapter or ""), str(wanted.threads)]
            subprocess.run(command, input=prompt, text=True, check=True, capture_output=True)
    return (time.perf_counter() - start) / len(prompts)


class Watch:
    """Wall and processor seconds of this process, by name; processor seconds do not depend on what else is running."""

    def __init__(self) -> None:
        self.wall: dict[str, list[float]] = {}
        self.cpu: dict[str, list[float]] = {}

    def time(self, name: str, work: Callable[[], object], rows: int) -> None:
        """Run and note seconds a row."""
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        self.cpu.setdefault(name, []).append((time.process_time() - cpu) / rows)
        self.wall.setdefault(name, []).append((time.perf_counter() - wall) / rows)


def compare(wanted: argparse.Namespace, prompts: list[str]) -> tuple[Watch, list[int]]:
    """Both ways in turn, three rounds; and resident bytes of ours with one adapter and with both."""
    from llama_cpp import Llama

    from candletune.engines.llama_cpp import LlamaCppEngine

    paths = (wanted.adapter, wanted.other)
    engine = LlamaCppEngine(wanted.base, load_config(None, [f"engine.threads={wanted.threads}"]).engine)
    resident = []
    for path in paths:
        if path is not None:
            engine.add_adapter(str(path), path)
        engine.use(path and str(path))
        engine.score(prompts[:2])
        resident.append(psutil.Process().memory_info().rss)
    threads = {"n_threads": wanted.threads, "n_threads_batch": wanted.threads}
    models = [
        Llama(str(wanted.base), lora_path=path and str(path), n_ctx=2048, verbose=False, **threads) for path in paths
    ]

    def ours() -> None:
        for path in paths:
            engine.use(path and str(path))
            engine.score(prompts)

    def naive() -> None:
        for prompt in prompts:
            for model in models:
                model(f"[INST]{prompt}[/INST]", max_tokens=100, temperature=0)

    watch = Watch()
    for _ in range(3):
        watch.time("ours", ours, len(prompts))
        watch.time("naive", naive, len(prompts))
    for model in models:
        model.close()
    engine.close()
    return watch, resident


def served(wanted: argparse.Namespace, folder: Path, contexts: list[dict[str, Any]]) -> list[float]:
    """Milliseconds of each request to `candletune serve`, one after another."""
    settings = [f"base.gguf={wanted.base}", f"incumbent.adapter={wanted.adapter}", f"engine.threads={wanted.threads}"]
    settings += [f"run.folder={folder}", f"live.state={folder / 'active.json'}", "live.any_template=true"]
    empty = folder / "empty.toml"
    empty.touch()
    command = [sys.executable, "-m", "candletune", "serve", "--port", "0", "--config", str(empty)]
    command += [part for setting in settings for part in ("--set", setting)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next(text for text in process.stderr if text.startswith("serving"))
        connection = HTTPConnection("127.0.0.1", int(line.rsplit(":", 1)[1].split("/")[0]), timeout=600)
        found = []
        for context in [contexts[0], *contexts]:
            start = time.perf_counter()
            connection.request("POST", "/signal", json.dumps(context))
            response = connection.getresponse()
            assert response.status == 200, response.read()
            response.read()
            found.append((time.perf_counter() - start) * 1000)
        process.terminate()
        assert process.wait(60) == 0
    return found[1:]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Compare ways to ask two adapters.")
    parser.add_argument("base", type=Path)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--served", type=int, default=200)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prompts, contexts = prompts_of(folder, max(wanted.prompts, wanted.served))
        prompts = prompts[: wanted.prompts]
        watch, resident = compare(wanted, prompts)
        ours, naive = (statistics.median(watch.wall[key]) for key in ("ours", "naive"))
        processor = statistics.median(watch.cpu["naive"]) / statistics.median(watch.cpu["ours"])
        print(f"{len(prompts)} prompts, both adapters, milliseconds a row (median of 3 rounds in turn)")
        if wanted.processes:
            single = each_its_process(wanted, prompts[: wanted.processes])
            print(f"  a process each       {single * 1000:10.1f}   {single / ours:6.1f} times ours")
        print(f"  naive loop           {naive * 1000:10.1f}   {naive / ours:6.1f} times ours")
        print(f"  the same in processor time        {processor:6.1f} times ours")
        print(f"  candletune, scoring  {ours * 1000:10.1f}")
        print(f"resident: one adapter {resident[0] / 2**20:.0f} MiB, two {resident[1] / 2**20:.0f} MiB")
        if wanted.served:
            times = sorted(served(wanted, folder, contexts[: wanted.served]))
            high = times[min(len(times) - 1, int(0.99 * len(times)))]
            print(f"served signal with reason: p50 {statistics.median(times):.1f} ms, p99 {high:.1f} ms")


if __name__ == "__main__":
    main()
