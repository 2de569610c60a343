#!/usr/bin/env python3
"""What an adapter loses between training and serving: trained over NF4, and over the blocks that llama.cpp serves.

From one base GGUF the program makes the same base in other types with llama.cpp's quantizer (and a float folder for
NF4). It trains on the datasets that `bench/recipes.py prepare` wrote, asks the training engine for the decision
probabilities of held-out rows, exports the LoRA, and asks llama.cpp for the same over each base. A line of JSON for
each pair of training and base is appended to OUT/served.jsonl; those found there are skipped. `table` prints means.
With `--replay` the rows of a replay are asked for too, and `verdict` judges them (see `verdicts.py`): what is served
over each base against that base without the adapter, both by llama.cpp. `types` trains one adapter over the GGUF's own
blocks and serves it over the same numbers in every type, and over types made from them, beside PyTorch in bfloat16:
what arithmetic alone changes. There a row marked "token by token" reads the beginning of the answer as a plain
`llama_cpp.Llama` writes it.

It needs a CUDA GPU, bitsandbytes, and llama-cpp-python (built with CUDA, or it takes long).

Usage: python bench/served.py bases FOLDER --base BASE.gguf
       python bench/served.py train FOLDER --data RECIPES --out OUT [--seeds 17,18,19] [--rows 1250] [--seconds 550]
              [--markets "signal 1,signal 0"] [--rates 2e-4,1e-3] [--over NF4,Q4_1] [--replay]
       python bench/served.py verdict FOLDER --data RECIPES --out OUT
       python bench/served.py types FOLDER --data RECIPES
       python bench/served.py table OUT/served.jsonl
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from recipes import ATTENTION, examples, split

BASES, RATES, MARKETS = ("Q4_1", "Q8_0", "Q4_K_M", "F16"), (2e-4, 1e-3), ("signal 1", "signal 0")
TYPES = ("F32", "F16", "BF16", "Q4_1")
PLAIN = ("F16", "Q4_1")
"""Types that are also asked token by token."""
OTHER = ("Q8_0", "Q4_K_M")
"""Types whose numbers are others, made from those in F16."""
FLOAT = "float"


def write_bases(folder: Path, source: Path) -> None:
    """The base in every type, and as a folder of float16 numbers."""
    import llama_cpp
    import torch

    from candletune.base.from_gguf import expand_packed, load_packed
    from candletune.gguf.quantize import file_type

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Q4_1.gguf").write_bytes(source.read_bytes())
    for name in ("F16", "F32", "BF16", "Q8_0", "Q4_K_M"):
        settings = llama_cpp.llama_model_quantize_default_params()
        settings.ftype, settings.allow_requantize = file_type(name), True
        origin = source if name in ("F16", "F32", "BF16") else folder / "F16.gguf"
        if llama_cpp.llama_model_quantize(str(origin).encode(), str(folder / f"{name}.gguf").encode(), settings):
            raise SystemExit(f"llama.cpp could not write {name}")
    model = load_packed(source, "cpu", torch.float32)
    expand_packed(model, torch.float32)
    model.half().save_pretrained(folder / FLOAT, safe_serialization=True)


def score_served(
    base: Path, lora: Path | None, prompts: list[tuple[int, ...]], *, token_by_token: bool = False
) -> np.ndarray[Any, Any]:
    """Decision probabilities (n, 3) by llama.cpp; a prompt is ids already, which are written out for the engine.

    Without a LoRA they are the bare base's.
    """
    from candletune.config import load_config
    from candletune.engines.llama_cpp import LlamaCppEngine

    one_by_one = ["engine.batch=1"] if token_by_token else []
    threads = min(4, os.cpu_count() or 1)
    settings = load_config(None, [f"engine.threads={threads}", "engine.context=1024", *one_by_one]).engine
    with closing(LlamaCppEngine(base, settings)) as engine:
        asking = engine._asking
        asking.prompt_ids = lambda prompt: [int(word) for word in prompt.split()]  # type: ignore[method-assign]
        if token_by_token:
            asking.parts = lambda prompt: [asking.prompt_ids(prompt), *([token] for token in asking.tokens.prefix)]  # type: ignore[method-assign]
        if lora is not None:
            engine.add_adapter("trained", lora)
            engine.use("trained")
        return np.asarray(engine.score([" ".join(map(str, prompt)) for prompt in prompts]))


def settings_of(storage: str, rate: float, wanted: argparse.Namespace) -> Any:
    """The `train` table of every training here."""
    from candletune.config import TrainConfig

    return TrainConfig(
        target_modules=ATTENTION,
        learning_rate=rate,
        epochs=1,
        max_steps=wanted.steps,
        eval_steps=0,
        save_steps=10**6,
        quantization=storage,
        optimizer="adamw_torch",
    )


def tokens_of(market: Any) -> Any:
    """Where the decision is read, and its three ids."""
    from candletune.base.chat import DecisionTokens

    return DecisionTokens(tuple(market["prefix"].tolist()), tuple(market["decision_ids"].tolist()))


def train(
    base: Path, storage: str, market: Any, recipe: tuple[float, int], target: Path, wanted: argparse.Namespace
) -> tuple[dict[str, Any], int]:
    """Train one adapter and save it; its weights by name, and the steps."""
    from candletune.console import SilentReporter
    from candletune.training.engine import EngineSetup
    from candletune.training.engines import load_model, open_engine
    from candletune.training.evaluation import EvalSet
    from candletune.training.recipe import train_adapter
    from candletune.training.watch import TrainingFiles, Watcher

    rate, seed = recipe
    config, rows = settings_of(storage, rate, wanted), examples(market, 20.0)
    model = load_model(base, config, wanted.device, seed)
    with closing(open_engine(model, EngineSetup(config, rows, 0, print))) as engine:
        with tempfile.TemporaryDirectory() as scratch, SilentReporter().task("training", 1) as task:
            files = TrainingFiles(Path(scratch) / "metrics.jsonl", Path(scratch) / "checkpoints")
            nothing, quiet = EvalSet([], [], tokens_of(market)), SilentReporter()
            watcher = Watcher(engine, nothing, config, files=files, task=task, reporter=quiet)
            result = train_adapter(model, rows, config, watcher=watcher, resume=None, seed=seed)
        model.save_pretrained(target, safe_serialization=True)
    weights = {name: weight.detach().float() for name, weight in model.named_parameters() if weight.requires_grad}
    return weights, result.steps


def ask_trained(
    base: Path, storage: str, weights: dict[str, Any], market: Any, asked_in: str, wanted: argparse.Namespace
) -> np.ndarray[Any, Any]:
    """The held-out rows' decision probabilities by the training engine, in `asked_in` (bfloat16, float32): (n, 3)."""
    import torch

    from candletune.training.engine import EngineSetup
    from candletune.training.engines import load_model, open_engine

    config = settings_of(storage, 1e-3, wanted).model_copy(update={"bf16": asked_in == "bfloat16"})
    model = load_model(base, config, wanted.device, 0).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in weights:
                weight.copy_(weights[name])
    natural = split(market["natural"], market["natural_lengths"])[: wanted.rows]
    with closing(open_engine(model, EngineSetup(config, examples(market, 20.0), 0, print))) as engine:
        return np.asarray(engine.decision_probabilities(natural, tokens_of(market)))


def balanced(probabilities: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> float:
    """Mean of the classes' recalls."""
    decided = probabilities.argmax(axis=1)
    return float(np.mean([(decided[labels == k] == k).mean() for k in range(3) if (labels == k).any()]))


def run(folder: Path, wanted: argparse.Namespace) -> None:
    """Every training and base not in OUT yet, until the time is over."""
    from candletune.gguf.adapter import write_adapter
    from candletune.gguf.header import read_header
    from candletune.gguf.peft import read_adapter
    from candletune.gguf.shape import header_shape

    began, path = time.monotonic(), wanted.out / "served.jsonl"
    wanted.out.mkdir(parents=True, exist_ok=True)
    keys = ("market", "trained_over", "served_over", "rate", "seed")
    lines = path.read_text().splitlines() if path.exists() else []
    done = {tuple(json.loads(line)[key] for key in keys) for line in lines}
    shape = header_shape(read_header(folder / "F16.gguf"))
    for seed, rate, market, over in product(wanted.seeds, wanted.rates[::-1], wanted.markets, wanted.over):
        bases = BASES if over == "NF4" else (over,)
        asked = [served for served in bases if (market, over, served, rate, seed) not in done]
        if not asked or time.monotonic() - began > wanted.seconds:
            continue
        data = dict(np.load(wanted.data / f"{market.replace(' ', '_')}.npz"))
        rows = min(wanted.rows, len(data["labels"]))
        prompts = split(data["natural"], data["natural_lengths"])[:rows]
        labels = data["labels"][:rows]
        base, storage = (folder / FLOAT, "nf4") if over == "NF4" else (folder / f"{over}.gguf", "gguf")
        with tempfile.TemporaryDirectory() as scratch:
            started = time.monotonic()
            weights, steps = train(base, storage, data, (rate, seed), Path(scratch) / "adapter", wanted)
            trained = ask_trained(base, storage, weights, data, wanted.asked_in, wanted)
            lora = Path(scratch) / "lora.gguf"
            write_adapter(
                read_adapter(Path(scratch) / "adapter", shape), shape, lora, number_format="F32", manifest={}, name="x"
            )
            middle = time.monotonic()
            for served in asked:
                theirs = score_served(folder / f"{served}.gguf", lora, prompts)
                line = json.dumps(
                    {
                        "market": market,
                        "trained_over": over,
                        "served_over": served,
                        "rate": rate,
                        "seed": seed,
                        "rows": rows,
                        "steps": steps,
                        "as_trained": round(balanced(trained, labels), 4),
                        "as_served": round(balanced(theirs, labels), 4),
                        "agreement": round(float((trained.argmax(1) == theirs.argmax(1)).mean()), 4),
                        "largest_gap": round(float(np.abs(trained - theirs).max()), 4),
                        "train_s": round(middle - started, 1),
                        "serve_s": round(time.monotonic() - middle, 1),
                    }
                )
                print(line, flush=True)
                with path.open("a") as file:
                    file.write(line + "\n")
                if wanted.replay:
                    name = f"{market}-{over}-{served}-{rate:g}-{seed}".replace(" ", "_")
                    ask_replay(folder, served, lora, data, wanted.out / "probabilities" / name, theirs)


def ask_replay(folder: Path, served: str, lora: Path, data: Any, target: Path, natural: Any) -> None:
    """Keep what llama.cpp says of a market's replay over a base, with the LoRA and (once) without, beside `natural`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    prompts, base = split(data["replay"], data["replay_lengths"]), folder / f"{served}.gguf"
    bare = target.with_name(f"{target.name.partition('-')[0]}-base-{served}.npz")
    if not bare.exists():
        np.savez(bare, replay=score_served(base, None, prompts))
    np.savez(target.with_name(f"{target.name}.npz"), natural=natural, replay=score_served(base, lora, prompts))


def judge_all(wanted: argparse.Namespace) -> None:
    """A verdict on every training whose replay was asked for, into OUT/verdicts.jsonl."""
    from verdicts import verdict_on

    path = wanted.out / "verdicts.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    done = {json.loads(line)["name"] for line in lines}
    for line in (wanted.out / "served.jsonl").read_text().splitlines():
        row = json.loads(line)
        market, served = row["market"], row["served_over"]
        name = f"{market}-{row['trained_over']}-{served}-{row['rate']:g}-{row['seed']}".replace(" ", "_")
        files = [
            wanted.out / "probabilities" / f"{one}.npz" for one in (f"{market.replace(' ', '_')}-base-{served}", name)
        ]
        if name in done or not all(file.exists() for file in files):
            continue
        base, trained = (dict(np.load(file)) for file in files)
        found = {"name": name} | verdict_on(wanted.data, market, name, base["replay"], trained)
        print(json.dumps(found), flush=True)
        with path.open("a") as file:
            file.write(json.dumps(found) + "\n")


def types(folder: Path, wanted: argparse.Namespace) -> None:
    """One adapter over the same numbers in every type, against PyTorch in float32."""
    from candletune.gguf.adapter import write_adapter
    from candletune.gguf.header import read_header
    from candletune.gguf.peft import read_adapter
    from candletune.gguf.shape import header_shape

    data = dict(np.load(wanted.data / "signal_1.npz"))
    asked = [split(data[name], data[f"{name}_lengths"]) for name in ("natural", "replay")]
    prompts = [*asked[0], *asked[1]][: wanted.rows]
    data["natural"], data["natural_lengths"] = np.concatenate(prompts), np.array([len(ids) for ids in prompts])
    shape = header_shape(read_header(folder / "F16.gguf"))
    base = folder / "Q4_1.gguf"
    with tempfile.TemporaryDirectory() as scratch:
        adapter, lora = Path(scratch) / "adapter", Path(scratch) / "lora.gguf"
        weights, _ = train(base, "gguf", data, (1e-3, 17), adapter, wanted)
        write_adapter(read_adapter(adapter, shape), shape, lora, number_format="F32", manifest={}, name="x")
        print("| computed by | same decisions | mean difference | largest |\n| --- | --- | --- | --- |")
        exact = ask_trained(base, "gguf", weights, data, "float32", wanted)
        print(compared("PyTorch, bfloat16", ask_trained(base, "gguf", weights, data, "bfloat16", wanted), exact))
        for kind in TYPES:
            print(compared(f"llama.cpp, {kind}", score_served(folder / f"{kind}.gguf", lora, prompts), exact))
        for kind in PLAIN:
            theirs = score_served(folder / f"{kind}.gguf", lora, prompts, token_by_token=True)
            print(compared(f"llama.cpp, {kind}, token by token", theirs, exact))
        for kind in OTHER:
            exact = ask_trained(folder / f"{kind}.gguf", "gguf", weights, data, "float32", wanted)
            theirs = score_served(folder / f"{kind}.gguf", lora, prompts)
            print(compared(f"llama.cpp, {kind}, against PyTorch over the same", theirs, exact))


def compared(name: str, theirs: np.ndarray[Any, Any], exact: np.ndarray[Any, Any]) -> str:
    """A line of the table."""
    same, gap = (theirs.argmax(1) == exact.argmax(1)).mean(), np.abs(theirs - exact)
    return f"| {name} | {same:.4f} | {gap.mean():.4f} | {gap.max():.4f} |"


def table(path: Path) -> str:
    """Means over the seeds; the smallest agreement and the largest gap of them."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        over = "NF4" if row["trained_over"] == "NF4" else "served blocks"
        found.setdefault((row["market"], row["served_over"], over, row["rate"]), []).append(row)
    lines = [
        "| market | served over | trained over | rate | balanced accuracy as trained | as served | smallest agreement "
        "| largest gap | seeds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (market, served, over, rate), rows in sorted(found.items()):
        trained, theirs = (statistics.mean(row[key] for row in rows) for key in ("as_trained", "as_served"))
        lines.append(
            f"| {market} | {served} | {over} | {rate:g} | {trained:.3f} | {theirs:.3f} "
            f"| {min(row['agreement'] for row in rows):.3f} | {max(row['largest_gap'] for row in rows):.3f} "
            f"| {len(rows)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Make the bases, train and serve, or show."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["bases", "train", "verdict", "types", "table"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--data", type=Path, help="the folder that bench/recipes.py prepare wrote")
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[17, 18, 19])
    parser.add_argument("--rates", type=lambda text: [float(part) for part in text.split(",")], default=list(RATES))
    parser.add_argument("--rows", type=int, default=1250)
    parser.add_argument("--over", type=lambda text: text.split(","), default=["NF4", *BASES], help="what to train over")
    parser.add_argument("--replay", action="store_true", help="ask for the replay's rows too, to be judged")
    parser.add_argument("--steps", type=int, default=0, help="fewer than an epoch, to try it out")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--asked-in", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--markets", type=lambda text: text.split(","), default=list(MARKETS))
    parser.add_argument("--seconds", type=float, default=float("inf"))
    wanted = parser.parse_args()
    if wanted.what == "table":
        print(table(wanted.folder))
    elif wanted.what == "bases":
        write_bases(wanted.folder, wanted.base)
    elif wanted.what == "verdict":
        judge_all(wanted)
    elif wanted.what == "types":
        types(wanted.folder, wanted)
    else:
        run(wanted.folder, wanted)


if __name__ == "__main__":
    main()
