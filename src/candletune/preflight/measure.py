"""A few real steps, timed: `python -m candletune.preflight.measure`, configuration as JSON in, seconds as JSON out.

In a process of its own, so that what it takes of the card's memory is free again when training begins, and a crash is
no more than an estimate less.
"""

import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from candletune.config import Config
from candletune.errors import CandletuneError
from candletune.preflight.measure_training import prompts_of, train_seconds
from candletune.runs import RunFolder

SCORED = 4
"""Prompts scored."""


def render_seconds(config: Config) -> float:
    """Of one example's prompt."""
    began = time.perf_counter()
    prompts_of(config, 50)
    return (time.perf_counter() - began) / 50


def candle_seconds(config: Config) -> float:
    """Of one pass over one pair: read, compute indicators, label."""
    from candletune.console import SilentReporter
    from candletune.dataset.rows import labelled_pairs

    one = config.model_copy(update={"data": config.data.model_copy(update={"pairs": config.data.pairs[:1]})})
    began = time.perf_counter()
    for _ in labelled_pairs(one, SilentReporter(), ""):
        pass
    return time.perf_counter() - began


def answer_seconds(config: Config, base: Path) -> tuple[float, float]:
    """(a decision scored, a reason written) by llama.cpp over a base GGUF."""
    from candletune.engines import open_engine

    engine = open_engine(config, RunFolder(config.run.folder), base)
    try:
        prompts = prompts_of(config, SCORED + 1)
        engine.score(prompts[:1])  # reads what every prompt begins with
        began = time.perf_counter()
        engine.score(prompts[1:])
        scored = (time.perf_counter() - began) / SCORED
        began = time.perf_counter()
        engine.generate(prompts[0], action="HOLD")
        return scored, time.perf_counter() - began
    finally:
        engine.close()


def measure(config: Config, base: Path | None, gguf: Path | None) -> dict[str, float]:
    """Whatever can be measured; what fails is left out, since the stage itself will say why."""
    figures: dict[str, float] = {}

    def keep(names: tuple[str, ...], work: Callable[[], tuple[float, ...]]) -> None:
        try:
            figures.update(zip(names, work(), strict=True))
        except CandletuneError as error:
            print(f"{names[0]}: {error}", file=sys.stderr)
        gc.collect()

    keep(("render",), lambda: (render_seconds(config),))
    keep(("candles",), lambda: (candle_seconds(config),))
    if base is not None:
        keep(("step",), lambda: (train_seconds(config, base),))
    if gguf is not None:
        keep(("score", "generate"), lambda: answer_seconds(config, gguf))
    return figures


def main() -> None:
    """Read `{"config": ..., "base": path or null, "gguf": path or null}`; the last line written is the answer."""
    asked = json.loads(sys.stdin.read())
    config = Config.model_validate(asked["config"])
    base, gguf = (Path(asked[key]) if asked[key] else None for key in ("base", "gguf"))
    print(json.dumps(measure(config, base, gguf)))


if __name__ == "__main__":
    main()
