"""A replay's decisions by every engine, in one go: the naive loop, llama.cpp one by one and in batches, PyTorch.

    python bench/replay.py BASE.gguf ADAPTER.gguf [--other ADAPTER.gguf] [--prompts 64] [--batches 4,16] [--threads 1]
    python bench/replay.py BASE.gguf ADAPTER.gguf --gpu-layers -1 --prompts 512 --naive 64 --batches 16,32
    python bench/replay.py BASE.gguf ADAPTER.gguf --url http://127.0.0.1:8080
    python bench/replay.py BASE.gguf ADAPTER.gguf --alone --prompts 2000 --batches "" --answer 0

Prints seconds a decision and adapter, the ratio to the naive loop, and of how many decisions and by how much at most
each engine differs from llama.cpp one by one. The peer is a script as people write it: llama-cpp-python with
`lora_path`, a model for each adapter, an answer of at most `--answer` tokens at temperature 0, over the first `--naive`
prompts. Every other way has answered the first 64 prompts before it is timed. Wall time, and processor time of this
process, which does not depend on what else the machine does.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from candletune.config import EngineConfig, load_config
from candletune.engines import Engine, beginning_of
from candletune.engines.llama_cpp import LlamaCppEngine
from signals import prompts_in

ROWS = 64
"""Decisions that llama.cpp is asked together, as the replay does."""


@dataclass(frozen=True)
class Figures:
    """Seconds a decision and adapter, and the probabilities by adapter, none of the peer."""

    wall: float
    cpu: float
    probabilities: NDArray[np.float64] | None = None


def timed(work: Callable[[], NDArray[np.float64] | None], decisions: int) -> Figures:
    """Run once."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return Figures((time.perf_counter() - wall) / decisions, (time.process_time() - cpu) / decisions, found)


def naive(wanted: argparse.Namespace, prompts: list[str]) -> Figures:
    """A model for each adapter, a whole answer for each prompt."""
    from llama_cpp import Llama

    settings = {"n_threads": wanted.threads, "n_threads_batch": wanted.threads, "n_gpu_layers": wanted.gpu_layers}
    models = [
        Llama(str(wanted.base), lora_path=path and str(path), n_ctx=2048, verbose=False, **settings)
        for path in wanted.adapters
    ]

    asked = prompts[: wanted.naive]

    def loop() -> None:
        for model in models:
            for prompt in asked:
                model.create_chat_completion(
                    [{"role": "user", "content": prompt}], max_tokens=wanted.answer, temperature=0
                )

    loop_of = timed(loop, len(asked) * len(models))
    for model in models:
        model.close()
    return loop_of


@contextmanager
def opened(wanted: argparse.Namespace, **settings: object) -> Iterator[Engine]:
    """llama.cpp over the base with both adapters; over servers with `url`."""
    base = EngineConfig(threads=wanted.threads, gpu_layers=wanted.gpu_layers)
    config = base.model_copy(update=settings)
    engine: Engine
    if config.url:
        from candletune.engines.http import HttpEngine

        engine = HttpEngine(wanted.base, config)
    else:
        engine = LlamaCppEngine(wanted.base, config, beginning=beginning_of(load_config(None)))
    with closing(engine):
        for path in wanted.adapters:
            if path is not None:
                engine.add_adapter(str(path), path)
        yield engine


def scored(engine: Engine, wanted: argparse.Namespace, prompts: list[str]) -> Figures:
    """Every prompt under every adapter, as the replay asks."""

    def replay(rows: list[str]) -> NDArray[np.float64]:
        parts = []
        for offset in range(0, len(rows), ROWS):
            for path in wanted.adapters:
                engine.use(path and str(path))
                parts.append(engine.score(rows[offset : offset + ROWS]))
        return np.concatenate(parts)

    replay(prompts[:ROWS])
    return timed(lambda: replay(prompts), len(prompts) * len(wanted.adapters))


def by_torch(wanted: argparse.Namespace, prompts: list[str]) -> Figures:
    """PyTorch over the same files, both adapters in one pass, on a card where there is one; as the replay asks it."""
    from candletune.engines.packed import PackedScorer
    from candletune.stages.torch_replay import PART

    settings = [f"train.device={wanted.device}"]
    with closing(PackedScorer(wanted.base, load_config(None, settings), print)) as scorer:
        for path in wanted.adapters:
            if path is not None:
                scorer.add_adapter(str(path), path)
        names = [path and str(path) for path in wanted.adapters]

        def replay(rows: list[str]) -> NDArray[np.float64]:
            scorer.prepare(rows)  # tokenizes them, as the others' scoring does
            parts = []
            for offset in range(0, len(rows), PART):
                found = scorer.score({name: rows[offset : offset + PART] for name in names})
                parts += [found[name][row : row + ROWS] for row in range(0, PART, ROWS) for name in names]
            return np.concatenate(parts)

        replay(prompts[:ROWS])
        return timed(lambda: replay(prompts), len(prompts) * len(names))


def figures(wanted: argparse.Namespace, prompts: list[str]) -> dict[str, Figures]:
    """Every way, by name."""
    found = {}
    if wanted.answer:
        found[f"naive loop, {wanted.answer} tokens"] = naive(wanted, prompts)
    with opened(wanted, batch=1) as engine:
        found["llama.cpp, one by one"] = scored(engine, wanted, prompts)
    for size in wanted.batches:
        with opened(wanted, batch=size) as engine:
            found[f"llama.cpp, {size} a pass"] = scored(engine, wanted, prompts)
    if wanted.device:
        found["PyTorch's forward pass"] = by_torch(wanted, prompts)
    if wanted.url:
        for requests in (1, 16):
            with opened(wanted, url=(wanted.url,), requests=requests) as engine:
                found[f"llama.cpp's server, {requests} at a time"] = scored(engine, wanted, prompts)
    return found


def table(found: dict[str, Figures]) -> str:
    """Markdown."""
    single = found["llama.cpp, one by one"]
    first = next(iter(found.values()))
    lines = [
        "| a decision and adapter | wall, ms | processor, ms | ratio to the first | largest gap | other decisions |"
    ]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for name, its in found.items():
        gap = other = ""
        if its.probabilities is not None and single.probabilities is not None:
            gap = f"{np.abs(its.probabilities - single.probabilities).max():.1e}"
            different = its.probabilities.argmax(axis=1) != single.probabilities.argmax(axis=1)
            other = f"{different.sum()} of {len(different)}"
        ratio = f"{first.wall / its.wall:.2f}"
        lines.append(f"| {name} | {its.wall * 1000:.1f} | {its.cpu * 1000:.1f} | {ratio} | {gap} | {other} |")
    return "\n".join(lines)


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--other", type=Path, help="a second adapter; none: the bare base")
    parser.add_argument("--alone", action="store_true", help="ask the one adapter only")
    parser.add_argument("--device", default="auto", help="of PyTorch: auto, cuda, cpu; empty: leave it out")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--naive", type=int, default=64, help="prompts that the naive loop answers")
    parser.add_argument("--prompts-file", type=Path, help="JSON lines of a dataset; none: a simulated market's")
    parser.add_argument("--batches", type=lambda text: [int(size) for size in text.split(",") if size], default=[4, 16])
    parser.add_argument("--answer", type=int, default=30, help="tokens of the naive loop's answers; 0: no naive loop")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gpu-layers", type=int, default=0)
    parser.add_argument("--url", help="a llama-server over the same files; see docs/servers.md")
    wanted = parser.parse_args()
    wanted.adapters = [wanted.adapter] if wanted.alone else [wanted.adapter, wanted.other]
    if wanted.prompts_file:  # no market is simulated
        prompts = prompts_in(wanted.prompts_file, wanted.prompts)
    else:
        from candletune.base.tiny_text import pretraining_text

        prompts = pretraining_text(load_config(None))[0][: wanted.prompts]
    print(f"{len(prompts)} prompts, {len(wanted.adapters)} adapters, {wanted.threads} threads")
    print(table(figures(wanted, prompts)))


if __name__ == "__main__":
    main()
