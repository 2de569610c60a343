"""The demo: a market with a known answer, an incumbent that cannot know it, and a candidate that can."""

from collections.abc import Sequence
from pathlib import Path

from candletune.artifacts import AttainableScores, EvaluateSummary
from candletune.config import Config, load_config
from candletune.config_file import commented_toml
from candletune.config_source import parse_assignment, value_of
from candletune.console import Reporter
from candletune.files import read_json, write_json, write_text
from candletune.runs import RunFolder
from candletune.stages import STAGES, stage
from candletune.stages.pipeline import prepare, run_pipeline, show
from candletune.stages.runner import StageOutcome, run_stage

SETTINGS = (
    "simulate.enabled=true",
    "simulate.years=3",
    "dataset.test_start=2024-07-01",
    "base.model=tiny",
    "dataset.per_class=700",
    "dataset.natural_eval=300",
    "train.max_steps=100",
    "train.effective_batch=16",
    "train.learning_rate=5e-3",
    "train.dropout=0",
    "train.eval_steps=50",
    "replay.stride=8",
    "replay.copies=0",
    "replay.reasons=25",
    "evaluate.min_reviewed=20",
    "engine.threads=1",
)
"""A tiny model wants a higher rate than an 8B one. One thread: the threads of llama.cpp wait for each other in a loop,
which costs a model this small more than it gains; copies wait for nothing. A longer training gets further
(docs/demo.md), and takes minutes that nobody has who looks for the first time.
"""
INCUMBENT_STAGES = tuple(STAGES)[: list(STAGES).index("export") + 1]
INCUMBENT_PER_CLASS, INCUMBENT_STEPS, INCUMBENT_RATE = 20, 50, 2
"""A handful of examples whose labels mean nothing, learnt by heart at twice the candidate's learning rate: it decides
with conviction, changes its mind at every turn, and knows nothing. (Many shuffled examples teach it to say the same
thing always, and half-learnt ones a simple rule, which flips less often than anybody who sees the market turn.)"""


def demo_settings(folder: Path, *, signal: float, seed: int, assignments: Sequence[str] = ()) -> list[str]:
    """The candidate's settings as `table.key=value`; the later of two counts."""
    incumbent = folder / "incumbent" / "gguf" / "custom-trading-lora.gguf"
    return [
        *SETTINGS,
        f"run.folder={folder}",
        f"data.folder={folder / 'candles'}",
        f"live.state={folder / 'live' / 'active.json'}",
        f"live.journal={folder / 'live' / 'ab_test_log.jsonl'}",
        f"simulate.signal={signal}",
        f"seed={seed}",
        f"incumbent.adapter={incumbent}",
        "incumbent.name=incumbent (shuffled labels)",
        *assignments,
    ]


def demo_config(folder: Path, *, signal: float, seed: int, assignments: Sequence[str] = ()) -> Config:
    """The candidate's configuration."""
    return load_config(None, demo_settings(folder, signal=signal, seed=seed, assignments=assignments))


def demo_toml(folder: Path, *, signal: float, seed: int, assignments: Sequence[str] = ()) -> str:
    """The same as a file in `folder`, so that every other command can work on the demo, wherever it is moved."""
    settings = demo_settings(folder, signal=signal, seed=seed, assignments=assignments)
    config, home = load_config(None, settings), folder.absolute()
    values: dict[str, object] = {}
    for key in (".".join(parse_assignment(text)[0]) for text in settings):
        value = value_of(config, key)
        inside = isinstance(value, Path) and value.is_relative_to(home)
        values[key] = value.relative_to(home) if inside else value
    return commented_toml(values)


def incumbent_config(candidate: Config) -> Config:
    """The same market and base; labels shuffled, so that its decisions carry no information."""
    return candidate.model_copy(
        update={
            "run": candidate.run.model_copy(update={"folder": candidate.run.folder / "incumbent"}),
            "labels": candidate.labels.model_copy(update={"shuffle": True}),
            "dataset": candidate.dataset.model_copy(update={"per_class": INCUMBENT_PER_CLASS}),
            "train": candidate.train.model_copy(
                update={
                    "max_steps": min(INCUMBENT_STEPS, candidate.train.max_steps),
                    "learning_rate": INCUMBENT_RATE * candidate.train.learning_rate,
                    "eval_steps": 0,
                    "objective": "labels",
                    "policy_steps": 0,  # it acts as often as its labels say, which is often enough
                    "soft_target": 0.0,  # made from what prices did, which this one must not see
                }
            ),
        }
    )


def run_demo(
    folder: Path, *, signal: float, seed: int, assignments: Sequence[str] = (), reporter: Reporter
) -> dict[str, StageOutcome]:
    """Run the demo and say what came out; returns the candidate's stages."""
    config = demo_config(folder, signal=signal, seed=seed, assignments=assignments)
    run = RunFolder(config.run.folder)
    with run.lock():
        write_text(run.demo_config, demo_toml(folder, signal=signal, seed=seed, assignments=assignments))
        best = _attainable(config, run)
        reporter.say(
            f"simulated market, signal {signal:g}: the best attainable balanced accuracy is {best.balanced:.1%} "
            f"(chance 33.3%), and {best.signals:.1%} on BUY and SELL calls"
        )
        if best.without_text is not None:
            reporter.say(f"without its headlines at most {best.without_text:.1%}")
        reporter.say("incumbent: trained on shuffled labels")
        _train_incumbent(incumbent_config(config), run.candles, reporter)
        reporter.say("candidate: trained on what prices did")
        outcomes = run_pipeline(config, run, reporter, registered=True)
    reporter.say(f"verdict: {outcomes['evaluate'].summary_as(EvaluateSummary).verdict}")
    reporter.say(f"report: {run.report}")
    reporter.say(f"configuration, for any other command's --config: {run.demo_config}")
    return outcomes


def _train_incumbent(config: Config, candles: Path, reporter: Reporter) -> None:
    """Dataset, training and export in the incumbent's own run folder, over the candidate's candles."""
    run = RunFolder(config.run.folder)
    with run.lock():
        ready = prepare(config, RunFolder(candles.parent), reporter)
        for name in INCUMBENT_STAGES:
            show(run_stage(stage(name), ready, run, reporter), run, reporter)


def _attainable(config: Config, run: RunFolder) -> AttainableScores:
    """Computed once for a market, and kept for the report."""
    from candletune.market.simulated import best_attainable

    path = run.attainable
    settings = {"seed": config.seed, **config.simulate.model_dump(mode="json"), "pairs": list(config.data.pairs)}
    if path.exists() and (kept := AttainableScores.model_validate(read_json(path))).settings == settings:
        return kept
    best = best_attainable(config)
    scores = AttainableScores(
        settings=settings, balanced=best.balanced, signals=best.signals, without_text=best.without_text
    )
    write_json(path, scores.model_dump(mode="json"))
    return scores
