#!/usr/bin/env python3
"""Compare training recipes over a GGUF base: rates, decision weights, target layers and seeds, on three markets.

`prepare` builds and tokenizes the datasets (it needs llama.cpp and no GPU): a simulated market that can be predicted,
one that cannot, and a folder of real candles where one is given; and of each the decisions of a replay of the year that
follows. `train` trains every recipe over the base's own blocks for an epoch, asks for the decision probabilities of
held-out rows at their natural class shares and of the replay's, prints a line of JSON for each and appends it to
OUT/results.jsonl; recipes found there are skipped. It needs a CUDA GPU, the prepared FOLDER/*.npz and the GGUF, and no
llama.cpp. `verdict` judges each training against the bare base (see `verdicts.py`). `table` prints means and ranges
over the seeds, and the verdicts.

Usage: python bench/recipes.py prepare FOLDER --base BASE.gguf [--candles FOLDER --pairs BTC/USDT:USDT,ETH/USDT:USDT]
       python bench/recipes.py train FOLDER --base BASE.gguf --out OUT [--seconds 550] [--seeds 17,18,19]
              [--adapters qv-8,all-16] [--markets "signal 1,signal 0,real"]
       python bench/recipes.py verdict FOLDER --out OUT
       python bench/recipes.py table OUT/results.jsonl
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CLASSES, ATTENTION = ("BUY", "SELL", "HOLD"), ("q_proj", "v_proj")
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ADAPTERS = {"qv-8": (ATTENTION, 8), "all-16": (LINEAR, 16)}
SEEDS, RATES, WEIGHTS = (17, 18, 19), (2e-4, 5e-4, 1e-3), (20.0, 1.0)
SETTINGS = ("dataset.natural_eval=1250", "dataset.per_class=2500", "replay.stride=6")
REPLAYED = "replayed.parquet"
MEANS = ("log_loss", "prior_log_loss", "calibration_error")
KEPT = ("qv-8", 20.0, 1e-3, 17)
"""The recipe whose adapters are kept, to be served by llama.cpp."""


def recipes() -> list[dict[str, Any]]:
    """Every recipe; what matters most first, in case time runs out."""
    found = []
    for seed in SEEDS:
        for market, weights in (("signal 1", WEIGHTS), ("signal 0", WEIGHTS[:1]), ("real", WEIGHTS[:1])):
            for adapter, weight, rate in product(ADAPTERS, weights, RATES):
                found.append({"market": market, "adapter": adapter, "weight": weight, "rate": rate, "seed": seed})
    return found


def name_of(recipe: dict[str, Any]) -> str:
    """Of a recipe's files."""
    parts = (recipe["market"], recipe["adapter"], f"{recipe['weight']:g}", f"{recipe['rate']:g}", str(recipe["seed"]))
    return "-".join(parts).replace(" ", "_")


def prepare(folder: Path, wanted: argparse.Namespace) -> None:
    """Datasets and replays as token ids, one file a market; what `verdict` needs too lies in FOLDER/runs."""
    markets = {f"signal {level}": ["simulate.enabled=true", f"simulate.signal={level}"] for level in (1, 0)}
    if wanted.candles:
        pairs = wanted.pairs.split(",")
        markets["real"] = [f"data.folder={wanted.candles}", f"data.pairs={json.dumps(pairs)}"]
    (folder / "settings.json").write_text(json.dumps(markets, indent=1))
    for market in markets:
        write_market(folder, market, wanted.base)
        print(f"{market}: written", flush=True)


def market_run(folder: Path, market: str, *more: str) -> tuple[Any, Any]:
    """Configuration and run folder of a prepared market; `more` are further settings."""
    from candletune.config import load_config
    from candletune.console import SilentReporter
    from candletune.runs import RunFolder
    from candletune.stages.pipeline import prepare as with_candles

    settings = json.loads((folder / "settings.json").read_text())[market]
    own = [f"run.folder={folder.resolve() / 'runs' / market.replace(' ', '_')}", *SETTINGS]
    config = load_config(None, [*own, *settings, *more])
    run = RunFolder(config.run.folder)
    run.path.mkdir(parents=True, exist_ok=True)
    return with_candles(config, run, SilentReporter()), run


def write_market(folder: Path, market: str, base: Path) -> None:
    """One market's dataset and replay, tokenized by the base's own tokenizer."""
    from candletune.artifacts import DatasetManifest
    from candletune.base.chat import encode_prompt
    from candletune.base.tokenizer import served_tokenizer
    from candletune.console import SilentReporter
    from candletune.dataset.unseen import held_out_rows
    from candletune.stages import stage
    from candletune.stages.runner import run_stage
    from candletune.training.prepare import prepare_data

    config, run = market_run(folder, market, f"base.gguf={base}")
    run_stage(stage("dataset"), config, run, SilentReporter())
    data = prepare_data(config, run, base, SilentReporter())
    manifest = DatasetManifest.read(run.dataset_manifest)
    replayed, _ = held_out_rows(config, manifest.train_end, manifest.test_start)
    replayed.select("decision_time", "asset", "close", "prompt_sha256").write_parquet(run.path / REPLAYED)
    tokenizer = served_tokenizer(config, base)
    chat = tokenizer.chat(config.base.chat)
    replay = [encode_prompt(tokenizer.encode, text, tokenizer.bos, chat) for text in replayed["prompt"]]
    prior = {str(name): share for name, share in manifest.natural_prior.items()}
    rows = [*data.examples, *data.held_out.examples]
    target = folder / f"{market.replace(' ', '_')}.npz"
    np.savez_compressed(
        target,
        ids=np.concatenate([np.array(row.ids, np.int32) for row in rows]),
        lengths=np.array([len(row.ids) for row in rows], np.int32),
        prompts=np.array([row.prompt_length for row in rows], np.int32),
        decisions=np.array([row.decision_index for row in rows], np.int32),
        training=np.array(len(data.examples)),
        natural=np.concatenate([np.array(prompt, np.int32) for prompt in data.held_out.prompts]),
        natural_lengths=np.array([len(prompt) for prompt in data.held_out.prompts], np.int32),
        labels=np.array(data.held_out.labels, np.int32),
        prefix=np.array(data.tokens.prefix, np.int32),
        decision_ids=np.array(data.tokens.ids, np.int32),
        prior=np.array([prior[name] for name in CLASSES]),
        shares=np.array(data.class_shares),
        replay=np.concatenate([np.array(prompt, np.int32) for prompt in replay]),
        replay_lengths=np.array([len(prompt) for prompt in replay], np.int32),
    )


def split(values: NDArray[Any], lengths: NDArray[Any]) -> list[tuple[int, ...]]:
    """Ids end to end back to rows."""
    return [tuple(part.tolist()) for part in np.split(values, np.cumsum(lengths)[:-1])]


def examples(market: Any, weight: float) -> list[Any]:
    """Training examples whose decision token weighs `weight`."""
    from candletune.base.chat import Example
    from candletune.training.examples import weigh

    columns = market["prompts"].tolist(), market["decisions"].tolist()
    rows = zip(split(market["ids"], market["lengths"]), *columns, strict=True)
    return [weigh(Example(*row), weight) for row in rows][: int(market["training"])]


def train(recipe: dict[str, Any], market: Any, wanted: argparse.Namespace) -> dict[str, Any]:
    """Train one recipe and score it on the natural rows."""
    from candletune.base.chat import DecisionTokens
    from candletune.config import TrainConfig
    from candletune.console import SilentReporter
    from candletune.training.engine import EngineSetup
    from candletune.training.engines import load_model, open_engine
    from candletune.training.evaluation import EvalSet
    from candletune.training.recipe import train_adapter
    from candletune.training.watch import TrainingFiles, Watcher

    targets, rank = ADAPTERS[recipe["adapter"]]
    config = TrainConfig(
        lora_rank=rank,
        lora_alpha=2 * rank,
        target_modules=targets,
        learning_rate=recipe["rate"],
        decision_weight=recipe["weight"],
        epochs=1,
        max_steps=wanted.steps,
        eval_steps=0,
        save_steps=10**6,
        quantization="gguf",
    )
    rows, tokens = (
        examples(market, recipe["weight"]),
        DecisionTokens(tuple(market["prefix"].tolist()), tuple(market["decision_ids"].tolist())),
    )
    began = time.perf_counter()
    model = load_model(wanted.base, config, wanted.device, recipe["seed"])
    engine = open_engine(model, EngineSetup(config, rows, 0, lambda text: print(text, file=sys.stderr)))
    loaded = time.perf_counter()
    asked = [split(market[name], market[f"{name}_lengths"]) for name in ("natural", "replay")]
    untrained = probabilities_file(wanted.out, f"{recipe['market'].replace(' ', '_')}-base")
    if not untrained.exists():  # a fresh adapter adds nothing: these are the bare base's
        save_scores(untrained, engine, asked, tokens)
    began_training = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch, SilentReporter().task("training", 1) as task:
        files = TrainingFiles(Path(scratch) / "metrics.jsonl", Path(scratch) / "checkpoints")
        watcher = Watcher(engine, EvalSet([], [], tokens), config, files=files, task=task, reporter=SilentReporter())
        result = train_adapter(model, rows, config, watcher=watcher, resume=None, seed=recipe["seed"])
    trained = time.perf_counter()
    probabilities = save_scores(probabilities_file(wanted.out, name_of(recipe)), engine, asked, tokens)
    if (recipe["adapter"], recipe["weight"], recipe["rate"], recipe["seed"]) == KEPT:
        model.save_pretrained(wanted.out / recipe["market"].replace(" ", "_"), safe_serialization=True)
    engine.close()
    return {
        **recipe,
        **scores(probabilities, market["labels"], market["prior"]),
        "loss": round(result.train_loss, 4),
        "steps": result.steps,
        "step_s": round((trained - began_training) / result.steps, 4),
        "load_s": round(loaded - began, 1),
        "score_s": round(time.perf_counter() - trained, 1),
        "plan": result.plan,
    }


def probabilities_file(out: Path, name: str) -> Path:
    """Where a model's decision probabilities lie."""
    return out / "probabilities" / f"{name}.npz"


def save_scores(path: Path, engine: Any, asked: list[list[tuple[int, ...]]], tokens: Any) -> NDArray[Any]:
    """Ask for natural rows and the replay's and keep both; returns the natural rows' probabilities (n, 3)."""
    found = []
    for prompts in asked:
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))  # so that little is padded
        said = np.empty((len(prompts), 3), np.float32)
        said[order] = engine.decision_probabilities([prompts[row] for row in order], tokens).numpy()
        found.append(said)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.npz")
    np.savez(partial, natural=found[0], replay=found[1])
    partial.replace(path)
    return found[0]


def scores(probabilities: NDArray[Any], labels: NDArray[Any], prior: NDArray[Any]) -> dict[str, Any]:
    """Balanced accuracy as trained (equal class shares), and accuracy, log loss and calibration error at the prior."""
    decided = probabilities.argmax(axis=1)
    recalls = [float((decided[labels == k] == k).mean()) for k in range(3) if (labels == k).any()]
    natural = probabilities * prior
    natural /= natural.sum(axis=1, keepdims=True)
    sure, right = natural.max(axis=1), natural.argmax(axis=1) == labels
    bins = np.minimum((sure * 10).astype(int), 9)
    error = sum(abs(sure[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in set(bins.tolist()))
    certain = natural[np.arange(len(labels)), labels].clip(1e-9)
    shares = np.bincount(decided, minlength=3) / len(decided)
    return {
        "balanced_accuracy": round(float(np.mean(recalls)), 4),
        "accuracy": round(float(right.mean()), 4),
        "log_loss": round(float(-np.log(certain).mean()), 4),
        "prior_log_loss": round(float(-np.log(prior[labels]).mean()), 4),
        "calibration_error": round(float(error), 4),
        "shares": [round(float(share), 3) for share in shares],
    }


def train_all(folder: Path, wanted: argparse.Namespace) -> None:
    """Every recipe that is not in OUT yet, until the time is over."""
    began = time.monotonic()
    results = wanted.out / "results.jsonl"
    wanted.out.mkdir(parents=True, exist_ok=True)
    lines = results.read_text().splitlines() if results.exists() else []
    keys = ("market", "adapter", "weight", "rate", "seed")
    done = {tuple(json.loads(line)[key] for key in keys) for line in lines}
    markets: dict[str, Any] = {}
    for recipe in recipes():
        path = folder / f"{recipe['market'].replace(' ', '_')}.npz"
        chosen = wanted.seeds, wanted.adapters, wanted.markets
        if any(recipe[key] not in some for key, some in zip(("seed", "adapter", "market"), chosen, strict=True)):
            continue
        if tuple(recipe[key] for key in keys) in done or not path.exists():
            continue
        if time.monotonic() - began > wanted.seconds:
            break
        if path.name not in markets:
            markets[path.name] = dict(np.load(path))
        line = json.dumps(train(recipe, markets[path.name], wanted))
        print(line, flush=True)
        with results.open("a") as file:
            file.write(line + "\n")


def judge_all(folder: Path, wanted: argparse.Namespace) -> None:
    """A verdict on every training that has none yet, into OUT/verdicts.jsonl."""
    from verdicts import verdict_on

    path = wanted.out / "verdicts.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    done = {json.loads(line)["name"] for line in lines}
    for recipe in recipes():
        name = name_of(recipe)
        files = [probabilities_file(wanted.out, one) for one in (f"{recipe['market'].replace(' ', '_')}-base", name)]
        if name in done or not all(file.exists() for file in files):
            continue
        base, trained = (dict(np.load(file)) for file in files)
        line = json.dumps(recipe | {"name": name} | verdict_on(folder, recipe["market"], name, base["replay"], trained))
        print(line, flush=True)
        with path.open("a") as file:
            file.write(line + "\n")


def said_of(verdicts: list[dict[str, Any]]) -> str:
    """How many of the seeds are promoted, and otherwise why not: what most often was not met."""
    if not verdicts:
        return "-"
    counts = Counter(row["verdict"] for row in verdicts)
    text = ", ".join(f"{name} {count} of {len(verdicts)}" for name, count in counts.most_common())
    unmet = Counter(name for row in verdicts if row["verdict"] != "promote" for name in row["unmet"])
    return text + (f" ({', '.join(name for name, _ in unmet.most_common(2))})" if unmet else "")


def table(path: Path) -> str:
    """Means over the seeds, the range of the balanced accuracy, and the verdicts where there are any."""
    judged = path.with_name("verdicts.jsonl")
    verdicts: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in judged.read_text().splitlines() if judged.exists() else []:
        row = json.loads(line)
        verdicts.setdefault((row["market"], row["adapter"], row["weight"], row["rate"]), []).append(row)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    lines = [
        "| market | layers, rank | decision weight | rate | balanced accuracy (range) | log loss at the prior "
        "| that of base rates | calibration error | seeds | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["market"], row["adapter"], row["weight"], row["rate"]), []).append(row)
    for (market, adapter, weight, rate), found in sorted(groups.items()):
        balanced = [row["balanced_accuracy"] for row in found]
        means = [statistics.mean(row[key] for row in found) for key in MEANS]
        lines.append(
            f"| {market} | {adapter} | {weight:g} | {rate:g} | {statistics.mean(balanced):.3f} "
            f"({min(balanced):.3f} to {max(balanced):.3f}) | {' | '.join(f'{m:.3f}' for m in means)} | {len(found)} "
            f"| {said_of(verdicts.get((market, adapter, weight, rate), []))} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Prepare, train, judge or show."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["prepare", "train", "verdict", "table"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--candles", type=Path)
    parser.add_argument("--pairs", default="BTC/USDT:USDT,ETH/USDT:USDT")
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=list(SEEDS))
    parser.add_argument("--adapters", type=lambda text: text.split(","), default=list(ADAPTERS))
    parser.add_argument("--markets", type=lambda text: text.split(","), default=["signal 1", "signal 0", "real"])
    parser.add_argument("--steps", type=int, default=0, help="fewer than an epoch, to try it out")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    wanted = parser.parse_args()
    if wanted.what == "table":
        print(table(wanted.folder))
        return
    if wanted.what == "verdict":
        judge_all(wanted.folder, wanted)
        return
    if wanted.base is None:
        parser.error("--base: the base's GGUF is missing")
    wanted.folder.mkdir(parents=True, exist_ok=True)
    (prepare if wanted.what == "prepare" else train_all)(wanted.folder, wanted)


if __name__ == "__main__":
    main()
