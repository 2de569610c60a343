#!/usr/bin/env python3
"""How far each gets on headlines it never saw: from the best without text to the best with text, on a market with news.

`prepare` simulates the markets, builds each dataset by the `dataset` stage, tokenizes it with the base's own tokenizer
and fits the baselines; a second market of each seed has its headlines moved to other times. `--kinds titles` has no
market: titles alone, each with its true direction, which says how much of them a base can learn to read. `train` asks
the base untrained and trains it (fast engine over the GGUF's blocks, decisions by it), which needs no candles, no
llama.cpp.
`table` prints balanced accuracy on rows whose titles tell of kinds that training knew, in new wordings, and of new
kinds, and the verdict of each language model against gradient boosting, which does not read.

Usage: python bench/news.py prepare FOLDER --base BASE.gguf [--seeds 1 2 3] [--set dataset.per_class=2500]
       python bench/news.py train FOLDER --out OUT --base BASE.gguf [--device cuda] [--set train.learning_rate=1e-3]
       python bench/news.py table FOLDER --out OUT
       python bench/news.py real FOLDER --data DATA_FOLDER

`real` asks the same baselines on real candles and headlines: DATA_FOLDER holds futures/ and headlines.csv. Each month
of `MONTHS` is decided by what was fitted on the time before it, with the headlines as they are and at another time.
"""

import argparse
import gzip
import json
import pickle
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SETTINGS = (
    "simulate.enabled=true",
    "simulate.news=1",
    "simulate.signal=0",
    "labels.threshold=0.03",
    "data.headline_hours=4",
    "data.headline_repeat_hours=0",
    "dataset.per_class=2500",
    "dataset.natural_eval=500",
    "evaluate.move=0.03",
)
WITHOUT, WITH, PERFECT = "best without text", "best with text", "told every direction"
MONTHS = tuple(datetime(2022, month, 1, tzinfo=UTC) for month in (4, 5, 6, 7))
"""Where each month of the real test begins, and the end of the last: the real headlines are dense from 2022-01 on."""
REAL_START = datetime(2021, 11, 1, tzinfo=UTC)
BLOCK = timedelta(days=3)
WITHOUT_TEXT = "gradient boosting"
TITLES = "titles"
FILLINGS = 8, 2
"""How often each wording is filled in: to train on, and to be asked."""
GROUPS = ("seen kinds", "new kinds", "all rows")
HOLD = 2


@dataclass(frozen=True)
class Case:
    """One market, ready to train on.

    Attributes:
        examples: what trains, tokenized.
        tokens: the decision tokens.
        pad: pad id.
        held_out, asked: token ids of the held-out rows' prompts, and of the test period's.
        labels: of the test period, (n,).
        group: what the titles shown tell of, (n,): `seen kinds`, `new kinds`, both, or nothing.
        chosen: decisions of filters and baselines on the test period, (n,) each.
    """

    name: str
    seed: int
    examples: list[Any]
    tokens: Any
    pad: int
    held_out: list[NDArray[np.int32]]
    asked: list[NDArray[np.int32]]
    labels: Ints
    group: list[str]
    chosen: dict[str, Ints]


# --- prepare ---------------------------------------------------------------------------------------------------------


def configured(folder: Path, name: str, seed: int, more: list[str]) -> Any:
    """The market's configuration."""
    from candletune.config import load_config

    own = [f"run.folder={folder / name}", f"live.state={folder / name / 'live.json'}", f"seed={seed}"]
    own += [f"data.headlines={folder / f'{name}.csv'}"] if name.startswith("shuffled") else []
    return load_config(None, [*SETTINGS, *own, *more])


def prepare(wanted: argparse.Namespace) -> None:
    """One file a market, and its run folder for the verdict."""
    wanted.folder.mkdir(parents=True, exist_ok=True)
    for seed in wanted.seeds:
        for kind in wanted.kinds:
            began = time.perf_counter()
            case = (prepared_titles if kind == TITLES else prepared)(wanted, f"{kind}-{seed}", seed)
            with gzip.open(wanted.folder / f"{case.name}.pkl.gz", "wb", compresslevel=5) as packed:
                pickle.dump(case, packed)
            print(f"{case.name}: {len(case.examples)} examples, {len(case.labels)} rows, {clock(began)}", flush=True)


def prepared(wanted: argparse.Namespace, name: str, seed: int) -> Case:
    """Market, dataset, tokens, filters and baselines of one case."""
    from candletune.base.chat import decision_tokens, encode_prompt
    from candletune.base.tokenizer import served_tokenizer
    from candletune.console import SilentReporter
    from candletune.dataset import read_examples
    from candletune.runs import RunFolder
    from candletune.stages import stage
    from candletune.stages.pipeline import prepare as with_candles
    from candletune.stages.runner import run_stage
    from candletune.training.examples import tokenize

    config = configured(wanted.folder, name, seed, wanted.more)
    run, quiet = RunFolder(config.run.folder), SilentReporter()
    with run.lock():
        config = with_candles(config, run, quiet)
        if name.startswith("shuffled"):
            (wanted.folder / f"{name}.csv").write_bytes(shuffled(run.candles / "headlines.csv", config))
        run_stage(stage("dataset"), config, run, quiet)
    tokenizer = served_tokenizer(config, wanted.base)
    chat = tokenizer.chat(config.base.chat)
    tokens = decision_tokens(tokenizer.encode)
    data, train = read_examples(run), config.train
    part = (data.meta["split"] == "train").arg_true().to_list()
    examples = tokenize(
        [data.prompts[row] for row in part],
        [data.completions[row] for row in part],
        tokenizer,
        tokens=tokens,
        chat=chat,
        limit=train.max_sequence_length,
        decision_weight=train.decision_weight,
    )[0]
    rows = test_rows(config, wanted.stride)

    def ids(texts: Any) -> list[NDArray[np.int32]]:
        return [np.array(encode_prompt(tokenizer.encode, text, tokenizer.bos, chat), np.int32) for text in texts]

    held_out, asked = ids(natural_rows(run)["prompt"]), ids(rows["prompt"])
    labels, group = classes(rows), groups(rows, config, run)
    return Case(name, seed, examples, tokens, tokenizer.pad, held_out, asked, labels, group, choices(config, run, rows))


def prepared_titles(wanted: argparse.Namespace, name: str, seed: int) -> Case:
    """Every wording that training knows with the direction it means, and every later one to be asked."""
    from candletune.base.chat import decision_tokens, encode_prompt
    from candletune.base.tokenizer import served_tokenizer
    from candletune.config import load_config
    from candletune.decisions import DECISIONS
    from candletune.market.event_kinds import event_kinds
    from candletune.market.headlines.text import clean_headline
    from candletune.training.examples import tokenize

    kinds, rng, meant = event_kinds(), np.random.default_rng(seed), {1: 0, -1: 1, 0: HOLD}
    known: list[tuple[str, int]] = []
    asked: list[tuple[str, int, str]] = []
    for kind in kinds.kind:
        way = meant[kind.direction]
        for after, text in [(False, text) for text in kind.before] + [(True, text) for text in kind.after]:
            one = kind.model_copy(update={"before": (text,), "after": (text,)})
            for _ in range(FILLINGS[after]):
                title = clean_headline(kinds.word(one, after, rng))
                if after:
                    asked.append((title, way, GROUPS[kind.is_new]))
                else:
                    known.append((title, way))
    config = load_config(None, [f"base.gguf={wanted.base}", *wanted.more])
    tokenizer = served_tokenizer(config, wanted.base)
    chat, tokens = tokenizer.chat(config.base.chat), decision_tokens(tokenizer.encode)
    examples = tokenize(
        [title for title, _ in known],
        [f"DECISION: {DECISIONS[way]} - as the headline says." for _, way in known],
        tokenizer,
        tokens=tokens,
        chat=chat,
        limit=config.train.max_sequence_length,
        decision_weight=config.train.decision_weight,
    )[0]
    prompts = [np.array(encode_prompt(tokenizer.encode, text, tokenizer.bos, chat), np.int32) for text, *_ in asked]
    ways, group = np.array([way for _, way, _ in asked], np.int64), [group for *_, group in asked]
    return Case(name, seed, examples, tokens, tokenizer.pad, [], prompts, ways, group, {})


def test_rows(config: Any, stride: int, end: datetime | None = None) -> Any:
    """Decision rows of the test period with an outcome, in time order; until `end`, where that is given."""
    import polars as pl

    from candletune.dataset import decision_rows
    from candletune.evaluation.outcomes import join_outcomes

    rows = decision_rows(config, start=config.dataset.test_start, end=end)
    times = rows["decision_time"].unique().sort()[::stride]
    rows = rows.filter(pl.col("decision_time").is_in(times.implode()))
    found = join_outcomes(rows.rename({"asset": "ticker", "decision_time": "timestamp"}), config)
    return found.filter(pl.col("outcome").is_not_null())


def natural_rows(run: Any) -> Any:
    """Held-out rows at the base rates."""
    import polars as pl

    return pl.read_parquet(run.natural_eval)


def classes(rows: Any) -> Ints:
    """Labels of the test period."""
    from candletune.evaluation.metrics import CLASS_INDEX

    found: Ints = rows["outcome"].replace_strict(CLASS_INDEX).to_numpy().astype(np.int64)
    return found


def shuffled(path: Path, config: Any) -> bytes:
    """The headlines half a period later, in a circle, each period by itself: windows as they were, at other times."""
    start, turn = config.simulate.start, config.simulate.unseen_from
    return at_another_time(path, (start, turn, start + timedelta(hours=config.simulate.hours)))


def at_another_time(path: Path, turns: Sequence[datetime]) -> bytes:
    """The headlines of each period between two turns, half of it later, in a circle."""
    import polars as pl

    table = pl.read_csv(path).with_columns(at=pl.col("published_at").str.to_datetime("%Y-%m-%dT%H:%M:%S%z"))
    parts = []
    for first, last in pairwise(turns):
        since, length = pl.col("at") - pl.lit(first), last - first
        later = pl.when(since < length / 2).then(pl.col("at") + length / 2).otherwise(pl.col("at") - length / 2)
        part = table.filter((pl.col("at") >= first) & (pl.col("at") < last)).with_columns(at=later).sort("at")
        text = pl.col("at").dt.strftime("%Y-%m-%dT%H:%M:%S+00:00")
        stamps = [name for name in ("published_at", "seen_at") if name in table.columns]
        parts.append(part.with_columns(text.alias(name) for name in stamps).drop("at"))
    return pl.concat(parts).write_csv().encode()


def kinds_by_title(config: Any) -> dict[str, Any]:
    """What each title tells of."""
    import polars as pl

    from candletune.market.event_kinds import event_kinds
    from candletune.market.headlines.text import clean_headline

    kinds = {kind.name: kind for kind in event_kinds().kind}
    table = pl.read_csv(config.data.headlines)
    return {clean_headline(title): kinds[name] for title, name in zip(table["title"], table["subject"], strict=True)}


def told(texts: Any, config: Any) -> list[list[Any]]:
    """The kinds that each row's titles tell of, newest first."""
    known = kinds_by_title(config)
    return [[known[title] for title in text.split(" | ")] if text != "N/A" else [] for text in texts]


def groups(rows: Any, config: Any, run: Any) -> list[str]:
    """What each row's titles tell of."""
    names = {(): "nothing", (False,): GROUPS[0], (True,): GROUPS[1]}
    moving = [tuple({kind.is_new for kind in kinds if kind.direction}) for kinds in told(rows["headlines"], config)]
    return [names.get(found, "both") for found in moving]


def choices(config: Any, run: Any, rows: Any) -> dict[str, Ints]:
    """Decisions for balanced classes: the exact filters', the baselines', and of one told what every title means."""
    from candletune.evaluation.baseline_scores import task_of
    from candletune.evaluation.baselines import baseline_actions
    from candletune.evaluation.baselines.base import classify, features
    from candletune.evaluation.baselines.gradient_boosting import model
    from candletune.market.candles import ticker_of
    from candletune.market.simulated import class_chances, knows, market_of, news_of

    task = replace(task_of(config, run, rows), calls=None)
    count = config.data.headline_count

    def directions(frame: Any) -> Floats:
        meant = np.zeros((len(frame), count + 1))
        for row, kinds in enumerate(told(frame["headlines"], config)):
            ways = [kind.direction for kind in kinds]
            meant[row, : len(ways)] = ways
            meant[row, count] = next((way for way in ways if way), 0)
        return np.column_stack([features(frame), meant])

    found = dict(baseline_actions(task))
    found[PERFECT] = classify(model(task.seed), task, directions)
    news, start = news_of(config), config.simulate.start
    for name, reads in ((WITHOUT, False), (WITH, True)):
        chances = np.zeros((len(rows), 3))
        for index, pair in enumerate(config.data.pairs):
            mine = (rows["ticker"] == ticker_of(pair)).to_numpy()
            times = rows["timestamp"].filter(mine)
            at = np.array([(time - start) // timedelta(hours=1) - 1 for time in times], dtype=np.int64)
            futures = knows(config, market_of(config, index, news), news, at, reads=reads)
            chances[mine] = class_chances(futures, config.labels.threshold)
        found[name] = (chances / chances.mean(axis=0)).argmax(axis=1).astype(np.int64)
    return found


# --- train -----------------------------------------------------------------------------------------------------------


def train(wanted: argparse.Namespace) -> None:
    """Every case that is not in OUT yet, those with true headlines first."""
    wanted.out.mkdir(parents=True, exist_ok=True)
    for path in sorted(wanted.folder.glob("*.pkl.gz")):
        target = wanted.out / path.name.replace(".pkl.gz", ".npz")
        if target.exists():
            continue
        with gzip.open(path) as packed:
            case: Case = pickle.load(packed)  # noqa: S301 - our own file
        began = time.perf_counter()
        found = trained(case, wanted)
        np.savez(target, **found)  # type: ignore[arg-type]
        facts = {name: round(balanced(found[name].argmax(axis=1), case.labels), 4) for name in ("untrained", "trained")}
        print(json.dumps({"case": case.name, **facts, "seconds": round(time.perf_counter() - began, 1)}), flush=True)


def trained(case: Case, wanted: argparse.Namespace) -> dict[str, Floats]:
    """Decision probabilities of the base as it is, and with the adapter trained as `candletune train` trains it."""
    from candletune.config import load_config
    from candletune.console import SilentReporter
    from candletune.training.engine import EngineSetup
    from candletune.training.engines import load_model, open_engine
    from candletune.training.evaluation import EvalSet
    from candletune.training.recipe import train_adapter
    from candletune.training.watch import TrainingFiles, Watcher

    own = ["train.quantization=gguf", "train.epochs=1", "train.eval_steps=0", "train.save_steps=1000000"]
    config = load_config(None, [f"base.gguf={wanted.base}", "train.patience=0", *own, *wanted.more]).train
    model = load_model(wanted.base, config, wanted.device, case.seed)
    engine = open_engine(model, EngineSetup(config, case.examples, case.pad, lambda text: print(text, file=sys.stderr)))

    def asked(prompts: list[NDArray[np.int32]]) -> Floats:
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        said = engine.decision_probabilities([tuple(prompts[row].tolist()) for row in order], case.tokens)
        found = np.zeros((len(prompts), 3))
        found[order] = said.float().cpu().numpy()
        return found

    try:
        untrained = asked(case.asked)
        quiet = SilentReporter()
        with tempfile.TemporaryDirectory() as scratch, quiet.task("training", 1) as task:
            files = TrainingFiles(Path(scratch) / "metrics.jsonl", Path(scratch) / "checkpoints")
            watcher = Watcher(engine, EvalSet([], [], case.tokens), config, files=files, task=task, reporter=quiet)
            train_adapter(model, case.examples, config, watcher=watcher, resume=None, seed=case.seed)
        return {"untrained": untrained, "trained": asked(case.asked), "held_out": asked(case.held_out)}
    finally:
        engine.close()


# --- table -----------------------------------------------------------------------------------------------------------


def balanced(chosen: Ints, labels: Ints) -> float:
    """Mean recall."""
    return float(np.mean([(chosen[labels == k] == k).mean() for k in range(3)]))


def table(wanted: argparse.Namespace) -> None:
    """Balanced accuracy and the way gone, by what the titles tell of if they tell of anything; then the verdicts."""
    ways: dict[tuple[str, str], list[float]] = {}
    for path in sorted(wanted.folder.glob("*.pkl.gz")):
        with gzip.open(path) as packed:
            case: Case = pickle.load(packed)  # noqa: S301 - our own file
        said = wanted.out / path.name.replace(".pkl.gz", ".npz")
        if case.name.startswith(TITLES):
            read(case, said)
            continue
        chosen, model = dict(case.chosen), None
        if said.exists():
            model = np.load(said)
            chosen |= {f"language model, {name}": model[name].argmax(axis=1) for name in ("untrained", "trained")}
        print(f"\n| {case.name} | {' | '.join(GROUPS)} |\n| --- {'| --- ' * len(GROUPS)}|")
        picks = {g: np.array([g == GROUPS[-1] or own in (g, "nothing") for own in case.group]) for g in GROUPS}
        print(f"| rows | {' | '.join(str(int(pick.sum())) for pick in picks.values())} |")
        for name in (WITHOUT, WITH, PERFECT, *(name for name in chosen if name not in (WITHOUT, WITH, PERFECT))):
            cells = []
            for group, pick in picks.items():
                low, high, mine = (balanced(chosen[n][pick], case.labels[pick]) for n in (WITHOUT, WITH, name))
                ways.setdefault((case.name.partition("-")[0], name, group), []).append((mine - low) / (high - low))  # type: ignore[arg-type]
                cells.append(f"{mine:.1%} ({(mine - low) / (high - low):.0%})")
            print(f"| {name} | {' | '.join(cells)} |")
        if model is not None and not wanted.no_verdict:
            print(f"verdict of {case.name}: {verdict(case, said, wanted)}", flush=True)
    print("\nhow far from the best without text to the best with text, mean over seeds (range)")
    for (kind, name, group), found in ways.items():  # type: ignore[misc]
        print(f"{kind:9} {name:32} {group:11} {np.mean(found):5.0%} ({min(found):.0%} to {max(found):.0%})")


def read(case: Case, said: Path) -> None:
    """Of how many titles the model says the direction: among all, and up or down among those that move the price."""
    if not said.exists():
        return
    model, group = np.load(said), np.array(case.group)
    for name in ("untrained", "trained"):
        cells = []
        for own in GROUPS[:2]:
            pick = group == own
            labels, chances = case.labels[pick], model[name][pick]
            moves = labels != HOLD
            right = (chances.argmax(axis=1) == labels).mean()
            way = (chances[moves][:, :HOLD].argmax(axis=1) == labels[moves]).mean()
            cells.append(f"{own}: {right:.1%} of {len(labels)} titles, {way:.1%} of {moves.sum()} directions")
        print(f"{case.name}, {name}: {'; '.join(cells)}")


def verdict(case: Case, said: Path, wanted: argparse.Namespace) -> str:
    """What `evaluate` says of the trained model against gradient boosting, both calling as often as the labels do."""
    from candletune.artifacts import EvaluateSummary, ReplaySummary
    from candletune.console import SilentReporter
    from candletune.runs import RunFolder
    from candletune.stages import stage
    from candletune.stages.pipeline import prepare as with_candles
    from candletune.stages.runner import Stage, run_stage

    config = configured(wanted.folder, case.name, case.seed, wanted.more)
    run, quiet = RunFolder(config.run.folder), SilentReporter()
    with run.lock():
        config = with_candles(config, run, quiet)
        rows = test_rows(config, wanted.stride)
        replay = Stage(
            name="replay",
            title="Replay",
            tables=("data",),
            inputs=lambda *_: {"probabilities": said},
            outputs=("replay/ab_test_log.jsonl",),
            work=lambda config, run, _: journalled(config, run, rows, said),
            summary=ReplaySummary,
        )
        run_stage(replay, config, run, quiet)
        summary = run_stage(stage("evaluate"), config, run, quiet, force=True).summary_as(EvaluateSummary)
    return f"{summary.verdict}: {summary.reason}"


def journalled(config: Any, run: Any, rows: Any, said: Path) -> Any:
    """Write the journal: the language model as candidate, gradient boosting as incumbent."""
    from candletune.artifacts import DatasetManifest, JudgedModel, ReplaySummary, TrainingEnds
    from candletune.calibration import Calibration, call_offset
    from candletune.decisions import DECISIONS
    from candletune.evaluation.baseline_scores import task_of
    from candletune.evaluation.baselines.base import answers
    from candletune.evaluation.baselines.gradient_boosting import model
    from candletune.files import write_bytes
    from candletune.hashes import fingerprint, sha256_path
    from candletune.journal import Row, Side
    from candletune.prompts.template import load_template

    task, found = task_of(config, run, rows), np.load(said)
    shift = call_offset(found["held_out"], task.calls or 0.0)
    ours = Calibration(offsets=(shift, shift, 0.0)).apply(found["trained"])
    theirs = answers(model(config.seed), task)
    digests = fingerprint(f"boosting {config.seed}"), sha256_path(said)
    template = load_template(config.prompt.template).sha256
    lines = []
    for row, (action, chances), own in zip(rows.iter_rows(named=True), zip(*theirs, strict=True), ours, strict=True):
        sides = [
            Side("ok", DECISIONS[k], probabilities=dict(zip(DECISIONS, p.tolist(), strict=True)), adapter_sha256=digest)
            for k, p, digest in zip((action, int(own.argmax())), (chances, own), digests, strict=True)
        ]
        hashes = {"prompt_sha256": row["prompt_sha256"], "template_sha256": template, "base_sha256": "-"}
        lines.append(
            Row(
                row["timestamp"], row["ticker"], row["close"], **hashes, active=sides[0], shadow=sides[1], mode="replay"
            )
        )
    write_bytes(run.journal, b"".join(line.line() for line in lines))
    end = DatasetManifest.read(run.dataset_manifest).train_end.isoformat()
    return ReplaySummary(
        headline=f"{len(lines)} decisions",
        rows=len(lines),
        forced=False,
        start=rows["timestamp"][0].isoformat(),
        end=rows["timestamp"][-1].isoformat(),
        incumbent=JudgedModel(name="gradient boosting", adapter_sha256=digests[0]),
        candidate=JudgedModel(name="language model", adapter_sha256=digests[1]),
        training_ends=TrainingEnds(candidate=end, incumbent=end),
        seconds=0.0,
    )


# --- real ------------------------------------------------------------------------------------------------------------


def real(wanted: argparse.Namespace) -> None:
    """Balanced accuracy over all months, and what each gains over boosting that does not read, by blocks of days."""
    print(
        f"| {'|'.join(('baseline', 'headlines', 'balanced accuracy', 'over boosting without text', '95 % interval'))} |"
    )
    for kind in ("as they are", "at another time"):
        months = [real_month(wanted, kind, first, last) for first, last in pairwise(MONTHS)]
        labels, days = (np.concatenate([month[key] for month in months]) for key in ("labels", "days"))
        chosen = {name: np.concatenate([month[name] for month in months]) for name in months[0]}
        told = float(chosen["told"].mean())
        print(f"{kind}: {len(labels)} decisions, {told:.0%} with a headline; {np.bincount(labels).tolist()} by class")
        for name, actions in chosen.items():
            if name in ("labels", "days", "told"):
                continue
            low, high = interval(actions, chosen[WITHOUT_TEXT], labels, days)
            gain = balanced(actions, labels) - balanced(chosen[WITHOUT_TEXT], labels)
            print(f"| {name} | {kind} | {balanced(actions, labels):.1%} | {gain:+.1%} | {low:+.1%} to {high:+.1%} |")


def real_month(wanted: argparse.Namespace, kind: str, first: datetime, last: datetime) -> dict[str, Ints]:
    """Every baseline on one month, fitted on the time before it; labels, blocks, and whether news was told."""
    from candletune.config import load_config
    from candletune.console import SilentReporter
    from candletune.evaluation.baseline_scores import task_of
    from candletune.evaluation.baselines import baseline_actions
    from candletune.runs import RunFolder
    from candletune.stages import stage
    from candletune.stages.runner import run_stage

    news, name = wanted.data / "headlines.csv", f"{kind.replace(' ', '-')}-{first:%Y-%m}"
    wanted.folder.mkdir(parents=True, exist_ok=True)
    if kind != "as they are":
        moved = wanted.folder / f"{name}.csv"
        moved.write_bytes(at_another_time(news, (REAL_START, first, last)))
        news = moved
    own = [f"run.folder={wanted.folder / name}", f"live.state={wanted.folder / name / 'live.json'}"]
    own += [f"data.folder={wanted.data}", f"data.headlines={news}", "evaluate.move=0.02", "dataset.natural_eval=500"]
    own += [f"dataset.train_start={REAL_START:%Y-%m-%d}", f"dataset.test_start={first:%Y-%m-%d}"]
    config = load_config(None, [*own, *wanted.more])
    run, quiet = RunFolder(config.run.folder), SilentReporter()
    with run.lock():
        run_stage(stage("dataset"), config, run, quiet)
    rows = test_rows(config, wanted.stride, end=last)
    found = dict(baseline_actions(replace(task_of(config, run, rows), calls=None)))
    found["labels"] = classes(rows)
    found["days"] = np.array([(at - MONTHS[0]) // BLOCK for at in rows["timestamp"]], dtype=np.int64)
    found["told"] = (rows["headlines"] != "N/A").to_numpy().astype(np.int64)
    return found


def interval(mine: Ints, theirs: Ints, labels: Ints, blocks: Ints) -> tuple[float, float]:
    """95 % of the difference of balanced accuracies, blocks of days drawn with replacement."""
    rng = np.random.default_rng(17)
    rows = [np.flatnonzero(blocks == block) for block in np.unique(blocks)]
    differences = []
    for _ in range(2000):
        drawn = np.concatenate([rows[index] for index in rng.integers(len(rows), size=len(rows))])
        differences.append(balanced(mine[drawn], labels[drawn]) - balanced(theirs[drawn], labels[drawn]))
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(low), float(high)


def clock(began: float) -> str:
    """Seconds since then."""
    return f"{time.perf_counter() - began:.0f} s"


def main() -> None:
    """Do what is asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("prepare", "train", "table", "real"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", type=Path, help="the base as GGUF")
    parser.add_argument("--data", type=Path, help="real candles (futures/) and headlines.csv")
    parser.add_argument("--out", type=Path, help="where probabilities are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--kinds", nargs="+", default=["news", "shuffled"], choices=["news", "shuffled", TITLES])
    parser.add_argument("--stride", type=int, default=6, help="hours between two test decisions")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-verdict", action="store_true")
    parser.add_argument("--set", dest="more", action="append", default=[], help="settings; the later of two counts")
    wanted = parser.parse_args()
    {"prepare": prepare, "train": train, "table": table, "real": real}[wanted.what](wanted)


if __name__ == "__main__":
    main()
