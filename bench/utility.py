#!/usr/bin/env python3
"""What training for the money earns: labels, soft targets and utility on simulated markets, paired, beside the optimum.

`prepare` simulates ten markets with a planted signal and one (by default) without, builds each dataset by the `dataset`
stage and writes one file a market: what the three objectives ask of each example (by the code that `candletune train`
runs), held-out rows at the base rates, and the period that follows with what it brought. With --base the prompts are
tokenized, too. `train` trains on these files over --base, or a small network on the prompt's five indicators in the
language model's place, through the same loss; it needs neither candles nor llama.cpp. `table` prints the table.

What is earned: the returns of the calls over their horizon, each decision time with an equal part of the capital, after
fees on every change of the position (as the verdict counts it, `evaluation.times.net_returns`, without funding). The
optimum knows the market's law: the exact forward filter says what each hour's return is expected to be, and it calls
where that is above the fee. `threshold` cases move HOLD's odds to where the held-out rows earn the most; `utility`
is what `candletune train` leaves: the model as the loss made it (`own share`), or one that holds where what its calls
earned on the held-out rows could be chance.

Usage: python bench/utility.py prepare FOLDER [--seeds 1 2 ..] [--noise 11 12] [--base BASE.gguf]
                                              [--candles FOLDER --pairs BTC/USDT:USDT,ETH/USDT:USDT]
       python bench/utility.py train FOLDER --out OUT [--base BASE.gguf] [--set train.max_steps=200] [--jobs 4]
       python bench/utility.py table OUT/results.jsonl
"""

import argparse
import gzip
import json
import math
import pickle
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
OBJECTIVES = ("labels", "soft", "utility")
HOLD, HOURS, PATHS, SHIFTS = 2, 12, 300, np.linspace(-6, 6, 241)
FEE = 0.0005
"""A side, as `evaluate.fee`."""
BETA = 0.1
"""Of DPO."""
SETTINGS = ("dataset.per_class=2500", "dataset.natural_eval=2000")
SIMULATED = ("simulate.enabled=true", "simulate.years=3", "dataset.test_start=2024-07-01")


@dataclass(frozen=True)
class Period:
    """Rows in a row: what was known, and what it brought.

    Attributes:
        features: of the indicators, (n, 5).
        prompts: token ids of each, uint16 or wider; empty without a base.
        returns: over the horizon, (n,).
        labels: class by the labels' rule, (n,).
        place: decision time (counted) and ticker of each, (n, 2).
        optimum: what the filter calls (0 BUY, 1 SELL, 2 HOLD), (n,); None: nobody knows.
        gains: what BUY, SELL and HOLD earned, in volatilities, (n, 3), and the day of each row, (n,); of held-out rows.
    """

    features: Floats
    prompts: list[Any]
    returns: Floats
    labels: Ints
    place: Ints
    optimum: Ints | None = None
    gains: tuple[Floats, Ints] | None = None


@dataclass(frozen=True)
class Market:
    """All that trains and judges on one market; see the module."""

    name: str
    kind: str
    seed: int
    train: Period
    examples: dict[str, list[Any]]
    held_out: Period
    test: Period
    rates: tuple[float, float, float]
    shares: tuple[float, float, float]
    tokens: Any
    pad: int
    stride: int


# --- preparing ---------------------------------------------------------------------------------------------------


def prepare(folder: Path, wanted: argparse.Namespace) -> None:
    """One file a market."""
    cases = [("signal", seed, [*SIMULATED, f"simulate.signal={wanted.signal}"]) for seed in wanted.seeds]
    cases += [("noise", seed, [*SIMULATED, "simulate.signal=0"]) for seed in wanted.noise]
    if wanted.candles:
        pairs = json.dumps(wanted.pairs.split(","))
        cases.append(("real", 1, [f"data.folder={wanted.candles}", f"data.pairs={pairs}"]))
    for kind, seed, settings in cases:
        path = folder / f"{kind}-{seed}.pkl.gz"
        if not path.exists():
            market = prepared(kind, seed, [*SETTINGS, *settings, f"seed={seed}", *wanted.more], wanted)
            with gzip.open(path, "wb", 6) as file:
                pickle.dump(market, file)
        print(path, flush=True)


def prepared(kind: str, seed: int, settings: list[str], wanted: argparse.Namespace) -> Market:
    """Simulate, build the dataset, and see what each objective asks."""
    from candletune.artifacts import DatasetManifest
    from candletune.config import load_config
    from candletune.console import SilentReporter
    from candletune.dataset import read_examples
    from candletune.runs import RunFolder
    from candletune.stages import stage
    from candletune.stages.pipeline import prepare as with_candles
    from candletune.stages.runner import run_stage
    from candletune.training.targets import in_order, with_targets

    with tempfile.TemporaryDirectory() as scratch:
        base = ["base.model=tiny"] if wanted.base is None else [f"base.gguf={wanted.base}"]
        config = load_config(None, [f"run.folder={scratch}/run", *base, *settings])
        run, quiet = RunFolder(config.run.folder), SilentReporter()
        run.path.mkdir(parents=True)
        config = with_candles(config, run, quiet)
        run_stage(stage("dataset"), config, run, quiet)
        data, manifest = read_examples(run), DatasetManifest.read(run.dataset_manifest)
        asking = Asking(config, wanted.base)
        plain = asking.examples(data)
        train = data.meta["split"] == "train"
        asked = {}
        for objective in OBJECTIVES:
            own = {"objective": objective, "soft_target": float(objective == "soft")}
            ready = config.model_copy(update={"train": config.train.model_copy(update=own)})
            made = with_targets(plain, asking.tokens, data.meta, manifest, ready)
            asked[objective] = [example for example, kept in zip(made, train, strict=True) if kept]
        return Market(
            name=f"{kind} {seed}",
            kind=kind,
            seed=seed,
            train=period(data.meta.filter(train), asking, prompts=False),
            examples=asked,
            held_out=held_out(config, run, asking),
            test=following(config, manifest, asking, wanted.stride, simulated=kind != "real"),
            rates=in_order(manifest.natural_prior),
            shares=in_order(manifest.class_prior),
            tokens=asking.tokens,
            pad=asking.pad,
            stride=wanted.stride,
        )


class Asking:
    """Prompts to ids by the base's tokenizer; without a base there are none, and an example is its decision alone."""

    def __init__(self, config: Any, base: Path | None) -> None:
        from candletune.base.chat import DecisionTokens, decision_tokens
        from candletune.base.tokenizer import served_tokenizer

        self.config, self.tokenizer = config, None
        self.tokens, self.pad = DecisionTokens((), (0, 1, 2)), 0
        if base is not None:
            self.tokenizer = served_tokenizer(config, base)
            self.chat = self.tokenizer.chat(config.base.chat)
            self.tokens, self.pad = decision_tokens(self.tokenizer.encode), self.tokenizer.pad

    def examples(self, data: Any) -> list[Any]:
        """What trains, before an objective asks anything."""
        from candletune.decisions import DECISIONS
        from candletune.training.examples import TokenizedExample, tokenize

        if self.tokenizer is None:
            said = [DECISIONS.index(label) for label in data.meta["label"]]
            return [TokenizedExample((9, k), 1, 1, (1.0,)) for k in said]
        train = self.config.train
        return tokenize(
            data.prompts,
            data.completions,
            self.tokenizer,
            tokens=self.tokens,
            chat=self.chat,
            limit=train.max_sequence_length,
            decision_weight=train.decision_weight,
        )[0]

    def prompts(self, texts: Any) -> list[Any]:
        """Ids of each prompt."""
        from candletune.base.chat import encode_prompt

        if self.tokenizer is None:
            return []
        encode, bos = self.tokenizer.encode, self.tokenizer.bos
        return [np.array(encode_prompt(encode, text, bos, self.chat), np.int32) for text in texts]


def period(rows: Any, asking: Asking, *, prompts: bool = True) -> Period:
    """From rows with `forward_return`, `label`, `decision_time`, `asset` and the indicators."""
    import polars as pl

    from candletune.decisions import DECISIONS
    from candletune.evaluation.baselines.base import features

    place = rows.select(
        (pl.col("decision_time").rank("dense") - 1).cast(pl.Int64), (pl.col("asset").rank("dense") - 1).cast(pl.Int64)
    )
    return Period(
        features(rows),
        asking.prompts(rows["prompt"]) if prompts else [],
        rows["forward_return"].to_numpy(),
        np.array([DECISIONS.index(label) for label in rows["label"]]),
        place.to_numpy(),
    )


def held_out(config: Any, run: Any, asking: Asking) -> Period:
    """The eval rows at the base rates."""
    import polars as pl

    from candletune.dataset import example_volatility
    from candletune.training.targets import action_gains

    rows = pl.read_parquet(run.natural_eval)
    gains = action_gains(rows["forward_return"].to_numpy(), example_volatility(config, rows), config.train)
    days = rows["decision_time"].dt.epoch("d").cast(pl.Int64).to_numpy()
    return replace(period(rows, asking), gains=(gains, days))


def following(config: Any, manifest: Any, asking: Asking, stride: int, *, simulated: bool) -> Period:
    """The period that is kept out, each `stride` hours, and what the filter would have called."""
    import polars as pl

    from candletune.dataset import decision_rows, load_pair
    from candletune.labels import label_candles
    from candletune.market.candles import ticker_of

    rows = decision_rows(config, start=manifest.test_start)
    outcomes = [
        label_candles(load_pair(config, pair).frame, config.labels, 60).with_columns(asset=pl.lit(ticker_of(pair)))
        for pair in config.data.pairs
    ]
    rows = rows.join(pl.concat(outcomes), on=["asset", "decision_time"], maintain_order="left").drop_nulls("label")
    rows = rows.filter((pl.col("decision_time").dt.epoch("s") // 3600) % stride == 0)
    found = period(rows, asking)
    return replace(found, optimum=optimum(config, rows)) if simulated else found


def optimum(config: Any, rows: Any) -> Ints:
    """What the exact filter calls: BUY or SELL where the expected return is above the fee of a call."""
    from candletune.market.candles import ticker_of
    from candletune.market.simulate import filtered_regimes, future_returns
    from candletune.market.simulated import market_of

    signal, horizon = config.simulate.signal, config.labels.horizon
    calls = np.full(len(rows), HOLD)
    for index, pair in enumerate(config.data.pairs):
        market = market_of(config, index, None)
        mine = np.flatnonzero((rows["asset"] == ticker_of(pair)).to_numpy())
        times = rows["decision_time"].gather(mine).to_list()
        at = np.array([round((time - config.simulate.start).total_seconds() / 3600) - 1 for time in times])
        beliefs = filtered_regimes(market, signal)
        for part in np.array_split(np.arange(len(mine)), math.ceil(len(mine) / 2000)):
            futures = future_returns(
                market, beliefs, at[part], signal=signal, horizon=horizon, paths=PATHS, seed=config.seed
            )
            expected = futures.mean(axis=1)
            error = futures.std(axis=1) / PATHS**0.5 if signal == 0 else 0.0  # nothing but the error of the simulation
            called = np.where(expected > 0, 0, 1)
            calls[mine[part]] = np.where(np.abs(expected) > 2 * FEE + 3 * error, called, HOLD)
    return calls


# --- training and judging ----------------------------------------------------------------------------------------


def train_market(path: Path, wanted: argparse.Namespace) -> list[dict[str, Any]]:
    """All objectives on one market: a row for each case."""
    from candletune.calibration import PAYS, earned_by_calls

    with gzip.open(path) as file:
        market: Market = pickle.load(file)  # noqa: S301
    rows = [] if market.test.optimum is None else [judged(market, "the filter's optimum", market.test.optimum)]
    if market.kind == "real":
        rows.append(judged(market, "always BUY", np.zeros(len(market.test.returns), np.int64)))
    fit = network if wanted.base is None else language_model
    for objective in wanted.objectives:
        held, asked = fit(market, objective, wanted)
        natural, own = offsets_to(market.shares, market.rates), asked.argmax(axis=1)
        if objective in ("utility", "preference"):
            natural = np.zeros(3)
        else:
            rows.append(judged(market, objective, shifted(asked, natural + as_often(held, natural, market.rates))))
        if objective == "preference":
            rows.append(judged(market, objective, own))
        if objective == "utility":
            assert market.held_out.gains is not None
            errors = earned_by_calls(held, *market.held_out.gains)
            taught = own if errors >= PAYS else np.full(len(own), HOLD)  # as `candletune train` leaves the model
            rows.append(judged(market, objective, taught))
            rows.append(judged(market, "utility, own share", own) | {"held_out_errors": errors})
        best = best_shift(held, market.held_out, natural)
        rows.append(judged(market, f"{objective}, threshold", shifted(asked, best)))
    return rows


def offsets_to(shares: Any, rates: Any) -> Floats:
    """Log-odds from balanced examples to the base rates."""
    found: Floats = np.log(np.asarray(rates)) - np.log(np.asarray(shares))
    return found


def shifted(probabilities: Floats, offsets: Any) -> Ints:
    """The likeliest decision under other odds."""
    found: Ints = (np.log(np.maximum(probabilities, 1e-12)) + offsets).argmax(axis=1)
    return found


def as_often(held: Floats, natural: Floats, rates: Any) -> Floats:
    """As `train.call_share` unset: from HOLD to both calls, so that as many held-out rows are called as labels call."""
    logs = np.log(np.maximum(held, 1e-12)) + natural
    margins = np.sort(logs[:, HOLD] - logs[:, :HOLD].max(axis=1))
    shift = margins[min(len(margins) - 1, round((1 - rates[HOLD]) * len(margins)))]
    return np.array([shift, shift, 0.0])


def best_shift(held: Floats, rows: Period, natural: Any) -> Floats:
    """From HOLD to both calls, so that the held-out rows earn the most after the fee of each call."""
    earned = []
    for shift in SHIFTS:
        called = shifted(held, natural + np.array([shift, shift, 0.0]))
        sides = np.array([1.0, -1.0, 0.0])[called]
        earned.append(float((sides * rows.returns - 2 * FEE * np.abs(sides)).mean()))
    best = SHIFTS[int(np.argmax(earned))]
    found: Floats = natural + np.array([best, best, 0.0])
    return found


def judged(market: Market, case: str, calls: Ints) -> dict[str, Any]:
    """What a case's calls earned in the following period."""
    sides, rows = np.array([1.0, -1.0, 0.0])[calls], market.test
    net = net_by_time(sides, rows, HOURS // market.stride)
    days = net[: len(net) // (24 // market.stride) * (24 // market.stride)].reshape(-1, 24 // market.stride).sum(axis=1)
    deviation = float(days.std(ddof=1))
    acts = np.abs(sides) > 0
    return {
        "market": market.name,
        "kind": market.kind,
        "case": case,
        "net": float(net.sum()),
        "sharpe": float(days.mean() / deviation * 365**0.5) if deviation > 0 else 0.0,
        "calls": float(acts.mean()),
        "each": float((sides * rows.returns)[acts].mean() - 2 * FEE) if acts.any() else 0.0,
        "agrees": None if rows.optimum is None else float((calls == rows.optimum).mean()),
        "times": len(net),
    }


def net_by_time(sides: Floats, rows: Period, parts: int) -> Floats:
    """`evaluation.times.net_returns` without funding: each decision time has an equal part of a ticker's capital."""
    shape = tuple(rows.place.max(axis=0) + 1)
    said, returns = np.zeros(shape), np.zeros(shape)
    said[tuple(rows.place.T)], returns[tuple(rows.place.T)] = sides, rows.returns
    gone = np.concatenate([np.zeros((parts, shape[1])), said])[: len(said)]
    net: Floats = (said * returns / parts - FEE * np.abs(said - gone) / parts).mean(axis=1)
    return net


def network(market: Market, objective: str, wanted: argparse.Namespace) -> tuple[Floats, Floats]:
    """One hidden layer on the indicators, by the language model's own loss; P of held-out and test rows."""
    import torch

    from candletune.config import load_config
    from candletune.training.utility import decision_terms, decisions_loss, warm_share, with_share

    torch.set_num_threads(1)
    torch.manual_seed(market.seed)
    config = load_config(None, wanted.more).train
    mean, deviation = market.train.features.mean(axis=0), market.train.features.std(axis=0)

    def ready(rows: Floats) -> Any:
        return torch.tensor((rows - mean) / deviation, dtype=torch.float32)

    features = ready(market.train.features)
    model = torch.nn.Sequential(torch.nn.Linear(features.shape[1], 32), torch.nn.Tanh(), torch.nn.Linear(32, 3))
    steps = config.max_steps or 1500
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    # Labels and soft targets are the same loss, of which the utility has no share.
    asked = market.examples[objective] if objective == "utility" else as_labels(market, objective)
    pairs = preferred(market) if objective == "preference" else None
    draw = np.random.default_rng(market.seed)
    before = None
    for step in range(steps):
        share = warm_share(step, steps, config.utility_warmup) if objective == "utility" else 0.0
        rows = draw.integers(0, len(asked), 128)
        if pairs is not None and 2 * step >= steps:
            before = before or deepcopy(model)  # what the labels taught in the first half
            loss = preference_loss(model, before, features, pairs, draw)
        else:
            terms = decision_terms(with_share([asked[row] for row in rows], share), range(len(rows)))
            loss = decisions_loss(model(features[torch.from_numpy(rows)]), terms) / len(rows)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        held, test = (
            model(ready(rows.features)).double().softmax(dim=-1).numpy() for rows in (market.held_out, market.test)
        )
    return held, test


def preferred(market: Market) -> tuple[Ints, Ints, Ints, Floats]:
    """Pairs of actions of one example, the one that earned more first: example, winner, loser, and its weight."""
    example, winner, loser, weight = [], [], [], []
    for row, made in enumerate(market.examples["utility"]):
        gains = made.utility.gains
        for one, other in ((0, 1), (0, HOLD), (1, HOLD)):
            better, worse = (one, other) if gains[one] > gains[other] else (other, one)
            example.append(row)
            winner.append(better)
            loser.append(worse)
            weight.append(made.utility.weight)
    chance = np.array(weight) / sum(weight)
    return np.array(example), np.array(winner), np.array(loser), chance


def preference_loss(model: Any, before: Any, features: Any, pairs: Any, draw: Any) -> Any:
    """DPO (Rafailov et al. 2023, equation 7) on 128 pairs, drawn by the hours that their examples stand for."""
    import torch

    example, winner, loser, chance = pairs
    rows = draw.choice(len(example), 128, p=chance)
    first, second = torch.from_numpy(winner[rows])[:, None], torch.from_numpy(loser[rows])[:, None]
    known = features[torch.from_numpy(example[rows])]
    logits = model(known).log_softmax(-1)
    with torch.no_grad():
        logits_before = before(known).log_softmax(-1)
    gained = logits - logits_before
    return -torch.nn.functional.logsigmoid(BETA * (gained.gather(1, first) - gained.gather(1, second))).mean()


def as_labels(market: Market, objective: str) -> list[Any]:
    """Examples of labels or soft targets, written as a utility that has no share in the loss."""
    made = []
    kind = "labels" if objective == "preference" else objective
    for own, with_gains in zip(market.examples[kind], market.examples["utility"], strict=True):
        aims = tuple(share for _, share in own.soft) or with_gains.utility.aims
        made.append(replace(with_gains, utility=replace(with_gains.utility, aims=aims, share=0.0)))
    return made


def language_model(market: Market, objective: str, wanted: argparse.Namespace) -> tuple[Floats, Floats]:
    """The base with a fresh adapter, by the recipe that `candletune train` runs."""
    from candletune.config import load_config
    from candletune.console import SilentReporter
    from candletune.training.engine import EngineSetup
    from candletune.training.engines import load_model, open_engine
    from candletune.training.evaluation import EvalSet
    from candletune.training.recipe import train_adapter
    from candletune.training.watch import TrainingFiles, Watcher

    own = [f"train.objective={objective}", "train.eval_steps=0", "train.save_steps=1000000", "train.patience=0"]
    config = load_config(
        None, [f"base.gguf={wanted.base}", "train.quantization=gguf", "train.epochs=1", *own, *wanted.more]
    ).train
    examples = market.examples[objective]
    model = load_model(wanted.base, config, wanted.device, market.seed)
    engine = open_engine(model, EngineSetup(config, examples, market.pad, lambda text: print(text, file=sys.stderr)))
    quiet = SilentReporter()
    with tempfile.TemporaryDirectory() as scratch, quiet.task("training", 1) as task:
        files = TrainingFiles(Path(scratch) / "metrics.jsonl", Path(scratch) / "checkpoints")
        watcher = Watcher(engine, EvalSet([], [], market.tokens), config, files=files, task=task, reporter=quiet)
        train_adapter(model, examples, config, watcher=watcher, resume=None, seed=market.seed)
    held, test = (
        engine.decision_probabilities([tuple(row.tolist()) for row in rows.prompts], market.tokens).numpy()
        for rows in (market.held_out, market.test)
    )
    engine.close()
    return held, test


def train_all(folder: Path, wanted: argparse.Namespace) -> None:
    """Every market that is not in OUT yet."""
    wanted.out.mkdir(parents=True, exist_ok=True)
    results = wanted.out / "results.jsonl"
    lines = results.read_text().splitlines() if results.exists() else []
    done = {json.loads(line)["market"] for line in lines}
    paths = [path for path in sorted(folder.glob("*.pkl.gz")) if path.name.split(".")[0].replace("-", " ") not in done]
    with ProcessPoolExecutor(wanted.jobs) as pool:
        for rows in pool.map(train_market, paths, [wanted] * len(paths)):
            with results.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
            for row in rows:
                print(json.dumps(row), flush=True)
    print(table(results))


def table(path: Path) -> str:
    """Means over the markets of a kind, and in how many of them the utility earns more than the case."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    lines = [
        "| market | case | net return | of the optimum | Sharpe ratio | calls | a call | utility earns more on |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind in sorted({row["kind"] for row in rows}, reverse=True):
        mine = [row for row in rows if row["kind"] == kind]
        net = {(row["market"], row["case"]): row["net"] for row in mine}
        markets = sorted({row["market"] for row in mine})
        best = [net.get((name, "the filter's optimum"), 0.0) for name in markets]
        for case in dict.fromkeys(row["case"] for row in mine):
            found = [row for row in mine if row["case"] == case]
            total, more = sum(row["net"] for row in found), "utility"
            wins = sum(net.get((name, more), -9.0) > net[name, case] for name in markets)
            means = {key: statistics.mean(row[key] for row in found) for key in ("net", "sharpe", "calls", "each")}
            share = f"{total / sum(best):.0%}" if kind == "signal" and sum(best) else ""
            lines.append(
                f"| {kind} | {case} | {means['net']:+.1%} | {share} | {means['sharpe']:.2f} | {means['calls']:.1%} "
                f"| {means['each']:+.2%} | {'' if case == more else f'{wins} of {len(markets)}'} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Prepare, train or show."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["prepare", "train", "table"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(1, 11)))
    parser.add_argument("--signal", type=float, default=1.0, help="of the markets of --seeds; 1: the strongest")
    parser.add_argument("--noise", type=int, nargs="*", default=[11])
    parser.add_argument("--candles", type=Path)
    parser.add_argument("--pairs", default="BTC/USDT:USDT,ETH/USDT:USDT")
    parser.add_argument("--stride", type=int, default=4, help="hours between decision times of the following period")
    parser.add_argument("--base", type=Path, help="GGUF; none: a small network in the language model's place")
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES), choices=[*OBJECTIVES, "preference"])
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--jobs", type=int, default=1, help="markets at once")
    parser.add_argument("--set", dest="more", action="append", default=[], help="further settings")
    wanted = parser.parse_args()
    if wanted.what == "table":
        print(table(wanted.folder))
        return
    wanted.folder.mkdir(parents=True, exist_ok=True)
    (prepare if wanted.what == "prepare" else train_all)(wanted.folder, wanted)


if __name__ == "__main__":
    main()
