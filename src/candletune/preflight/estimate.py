"""How long each stage will take, from a few measured steps or from the last time; an estimate, and said to be one."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from candletune.base.quiet import quiet
from candletune.config import Config
from candletune.console import Reporter, duration
from candletune.dataset.period import find_test_period
from candletune.engines import base_gguf
from candletune.errors import CandletuneError
from candletune.runs import RunFolder
from candletune.stages.needs import known_base
from candletune.stages.verify import rows_wanted

PATIENCE = 600.0
"""Seconds after which measuring is given up: loading a base of many gigabytes may take some of them."""
MEASURED = ("train", "verify", "replay")
"""Stages for which measuring is worth its seconds."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A stage's time.

    Attributes:
        stage: its name.
        seconds: about how long; None: not known.
        text: where the number comes from, or why there is none.
    """

    stage: str
    seconds: float | None
    text: str

    def line(self) -> str:
        """For a person."""
        when = "not known" if self.seconds is None else f"about {duration(max(1.0, self.seconds))}"
        return f"{self.stage:<9} {when} ({self.text})"


def estimates(config: Config, run: RunFolder, stages: Sequence[str]) -> list[Estimate]:
    """Each stage's time; measures for up to a few minutes when the base is at hand.

    Args:
        config: with `data.folder` at the simulated candles, when those are asked for.
        run: the run folder, for what stages took the last time.
        stages: those that will run.
    """
    measured = _measured(config, run) if set(stages) & set(MEASURED) else {}
    by_stage = {"dataset": _dataset, "train": _train, "replay": _replay}
    made = []
    for name in stages:
        estimate = by_stage[name](config, measured) if name in by_stage else None
        if name == "verify":
            estimate = _verify(config, run, measured)
        if estimate is None or estimate.seconds is None:
            estimate = _last_time(run, name) or estimate
        made.append(estimate or Estimate(name, None, "not measured; seconds to a few minutes"))
    return made


def say_estimates(config: Config, run: RunFolder, reporter: Reporter, stages: Sequence[str]) -> None:
    """Measure, and say each stage's time."""
    if not set(stages) & set(MEASURED):
        return
    with reporter.task("preflight: a few steps, timed"), quiet():
        made = estimates(config, run, stages)
    reporter.say("estimated times (rough: from a few steps on this machine as it is now)")
    for estimate in made:
        reporter.say(f"  {estimate.line()}")


def _measured(config: Config, run: RunFolder) -> dict[str, float]:
    """Seconds by name from the measuring process; empty when it failed."""
    try:
        gguf = base_gguf(config, run)
    except CandletuneError:
        return {}
    base = _base_at_hand(config)
    asked = {
        "config": config.model_dump(mode="json"),
        "base": None if base is None else str(base),
        "gguf": str(gguf) if gguf.is_file() else None,
    }
    command = [sys.executable, "-m", "candletune.preflight.measure"]
    try:
        done = subprocess.run(  # noqa: S603
            command, input=json.dumps(asked), capture_output=True, text=True, timeout=PATIENCE, check=True
        )
        estimate: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    except (subprocess.SubprocessError, OSError, ValueError, IndexError):
        return {}
    return estimate


def _base_at_hand(config: Config) -> Path | None:
    """The base's folder when its weights are on this machine."""
    if config.builds_tiny:
        from candletune.base.tiny import built_tiny

        return built_tiny(config)
    try:
        path = known_base(config).path
    except CandletuneError:
        return None
    return path if path is not None and (path.is_file() or any(path.glob("*.safetensors"))) else None


def _dataset(config: Config, measured: dict[str, float]) -> Estimate | None:
    if "render" not in measured or "candles" not in measured:
        return None
    examples = 3 * config.dataset.per_class + config.dataset.natural_eval
    passes = 3 * len(config.data.pairs)  # survey, draw, and the chosen rows' texts
    seconds = passes * measured["candles"] + 2 * examples * measured["render"]
    return Estimate("dataset", seconds, f"at most {examples:,} examples")


def _train(config: Config, measured: dict[str, float]) -> Estimate:
    from candletune.training.recipe import steps_of  # brings the Trainer and what its libraries say, so not at the top

    steps = steps_of(config.train, round(3 * config.dataset.per_class * (1 - config.dataset.eval_fraction)))
    if "step" not in measured:
        return Estimate("train", None, f"{steps} steps; the base is not on this machine yet, so none was timed")
    each = measured["step"]
    return Estimate("train", steps * each, f"{steps} steps of {each:.2g} s, without loading and evaluations")


def _verify(config: Config, run: RunFolder, measured: dict[str, float]) -> Estimate:
    if "score" not in measured:
        return Estimate("verify", None, "no base GGUF yet to time an answer with")
    prompts = config.verify.prompts
    rows = max(prompts, min(rows_wanted(config, base_gguf(config, run)), config.dataset.natural_eval))
    seconds = rows * measured["score"] + prompts * (2 * measured["score"] + measured["generate"])
    return Estimate("verify", seconds, f"{rows} rows and {prompts} answers, without the model as trained")


def _replay(config: Config, measured: dict[str, float]) -> Estimate:
    rows = replay_rows(config)
    if "score" not in measured:
        return Estimate(
            "replay", None, f"about {rows:,} rows for each of two models; no base GGUF yet to time one with"
        )
    reasons = min(rows, config.replay.reasons)
    seconds = 2 * (rows * measured["score"] + reasons * measured["generate"])
    return Estimate("replay", seconds, f"about {rows:,} rows for each of two models, {measured['score']:.2g} s each")


def replay_rows(config: Config) -> int:
    """About how many rows a replay has."""
    period = find_test_period(config)
    start, end = config.replay.start or period.start, min(config.replay.end or period.end, period.end)
    times = max(0, (end - start) // config.candle) // config.replay.stride
    return (min(times, config.replay.limit) if config.replay.limit else times) * len(config.data.pairs)


def _last_time(run: RunFolder, stage: str) -> Estimate | None:
    entry = run.entry(stage)
    return None if entry is None else Estimate(stage, entry.seconds, "as long as the last time")
