"""Asking two adapters about a decision: a new process each time and a naive loop, against candletune.

    python bench/signals.py BASE.gguf ADAPTER.gguf [--other ADAPTER.gguf] [--prompts 64] [--rounds 3] [--threads 2]
    python bench/signals.py BASE.gguf ADAPTER.gguf --gpu-layers -1 --prompts-file lora_training.jsonl

Same base, same tokens (checked), same threads and GPU layers, one go. The peers use llama-cpp-python's own high-level
calls as a script would: a model with `lora_path` for each adapter, 100 tokens, temperature 0. Ours are the replay's
scoring (decision probabilities of both adapters) and the served signal (probabilities and a reason). The bare base
stands in for the second adapter when `--other` is not given. Prompts come from a simulated market, or from a dataset
file with `--prompts-file`, which needs neither candles nor Polars and leaves the served signal out.
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

ONE = """
import sys
from llama_cpp import Llama
threads, layers = map(int, sys.argv[3:])
model = Llama(sys.argv[1], lora_path=sys.argv[2] or None, n_ctx=2048, n_gpu_layers=layers,
    n_threads=threads, n_threads_batch=threads, verbose=False)
model("[INST]" + sys.stdin.read() + "[/INST]", max_tokens=100, temperature=0)
"""


def prompts_in(path: Path, count: int) -> list[str]:
    """The first prompts of a dataset's JSON lines."""
    prompts: list[str] = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if len(prompts) == count:
                break
            prompts.append(next(m["content"] for m in json.loads(line)["messages"] if m["role"] == "user"))
    return prompts


def prompts_of(folder: Path, count: int) -> tuple[list[str], list[dict[str, Any]]]:
    """Prompts and contexts of a simulated market."""
    from candletune.console import SilentReporter
    from candletune.dataset import decision_rows
    from candletune.market.simulated import ensure_simulated
    from candletune.prompts.context import context_of
    from candletune.runs import RunFolder

    config = load_config(None, [f"run.folder={folder}", "simulate.enabled=true", "simulate.years=0.5"])
    data = config.data.model_copy(update={"folder": ensure_simulated(config, RunFolder(folder), SilentReporter())})
    rows = decision_rows(config.model_copy(update={"data": data})).tail(count)
    return rows["prompt"].to_list(), [context_of(row) for row in rows.iter_rows(named=True)]


def each_its_process(wanted: argparse.Namespace, prompts: list[str]) -> float:
    """Seconds a row: two processes."""
    start = time.perf_counter()
    for prompt in prompts:
        for adapter in (wanted.adapter, wanted.other):
            command = [sys.executable, "-c", ONE, str(wanted.base), str(adapter or "")]
            command += [str(wanted.threads), str(wanted.gpu_layers)]
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


def compare(wanted: argparse.Namespace, prompts: list[str]) -> tuple[Watch, list[int], dict[str, float]]:
    """Both ways in turn; resident bytes of ours with one adapter and with both; mean tokens read and written."""
    from llama_cpp import Llama

    from candletune.engines.llama_cpp import LlamaCppEngine

    paths = (wanted.adapter, wanted.other)
    settings = [f"engine.threads={wanted.threads}", f"engine.gpu_layers={wanted.gpu_layers}"]
    first, last = min(prompts), max(prompts)
    shared = next((first[:n] for n in range(len(first)) if first[n] != last[n : n + 1]), first)  # the template's text
    engine = LlamaCppEngine(wanted.base, load_config(None, settings).engine, beginning=shared)
    resident = []
    for path in paths:
        if path is not None:
            engine.add_adapter(str(path), path)
        engine.use(path and str(path))
        engine.score(prompts[:2])
        resident.append(psutil.Process().memory_info().rss)
    same = {"n_threads": wanted.threads, "n_threads_batch": wanted.threads, "n_gpu_layers": wanted.gpu_layers}
    models = [
        Llama(str(wanted.base), lora_path=path and str(path), n_ctx=2048, verbose=False, **same) for path in paths
    ]
    asked = [f"[INST]{prompt}[/INST]" for prompt in prompts]
    read = [engine.prompt_ids(prompt) for prompt in prompts]
    assert [models[0].tokenize(text.encode(), special=True) for text in asked] == read, "the peer reads other tokens"
    written: list[int] = []

    def ours() -> None:
        for path in paths:
            engine.use(path and str(path))
            engine.score(prompts)

    def naive() -> None:
        for text in asked:
            for model in models:
                said: Any = model(text, max_tokens=100, temperature=0)
                written.append(said["usage"]["completion_tokens"])

    watch = Watch()
    for _ in range(wanted.rounds):
        watch.time("ours", ours, len(prompts))
        watch.time("naive", naive, len(prompts))
    for model in models:
        model.close()
    engine.close()
    return watch, resident, {"read": statistics.mean(map(len, read)), "written": statistics.mean(written)}


def served(wanted: argparse.Namespace, folder: Path, contexts: list[dict[str, Any]]) -> list[float]:
    """Milliseconds of each request to `candletune serve`, one after another."""
    settings = [f"base.gguf={wanted.base}", f"incumbent.adapter={wanted.adapter}", f"engine.threads={wanted.threads}"]
    settings += [f"engine.gpu_layers={wanted.gpu_layers}"]
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
    parser.add_argument("--other", type=Path, help="the second adapter; none: the bare base")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--prompts-file", type=Path, help="a dataset's JSON lines, in place of a simulated market")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--gpu-layers", type=int, default=0, help="of the peers and of ours; -1: all")
    parser.add_argument("--processes", type=int, default=3, help="prompts for which a process each is started; 0: none")
    parser.add_argument("--served", type=int, default=200, help="requests to `candletune serve`; 0: none")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contexts: list[dict[str, Any]] = []
        if wanted.prompts_file is not None:
            prompts, wanted.served = prompts_in(wanted.prompts_file, wanted.prompts), 0
        else:
            prompts, contexts = prompts_of(folder, max(wanted.prompts, wanted.served))
            prompts = prompts[: wanted.prompts]
        watch, resident, tokens = compare(wanted, prompts)
        print(f"{len(prompts)} prompts, both adapters, milliseconds a row (median of {wanted.rounds} rounds in turn)")
        print(f"mean tokens: {tokens['read']:.0f} in a prompt, {tokens['written']:.0f} written by the naive loop")
        print(f"{'':22}{'wall':>10}{'times ours':>12}{'processor':>12}{'times ours':>12}")
        wall, cpu = ({key: statistics.median(found[key]) for key in found} for found in (watch.wall, watch.cpu))
        if wanted.processes:
            single = each_its_process(wanted, prompts[: wanted.processes])
            print(f"{'  a process each':22}{single * 1000:10.1f}{single / wall['ours']:12.1f}")
        for key, title in (("naive", "  naive loop"), ("ours", "  candletune, scoring")):
            print(f"{title:22}{wall[key] * 1000:10.1f}{wall[key] / wall['ours']:12.1f}", end="")
            print(f"{cpu[key] * 1000:12.1f}{cpu[key] / cpu['ours']:12.1f}")
        print(f"resident: one adapter {resident[0] / 2**20:.0f} MiB, two {resident[1] / 2**20:.0f} MiB")
        if wanted.served:
            times = sorted(served(wanted, folder, contexts[: wanted.served]))
            high = times[min(len(times) - 1, int(0.99 * len(times)))]
            print(f"served signal with reason: p50 {statistics.median(times):.1f} ms, p99 {high:.1f} ms")


if __name__ == "__main__":
    main()
