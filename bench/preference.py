#!/usr/bin/env python3
"""Does preference optimisation beat the exact objective? TRL's DPO on pairs made from realised returns, beside utility.

Both go on from the same adapter, which a training on labels made, for equally many steps of equally many examples. A
pair is two decisions of one hour, the one that earned more first; hours are drawn as often as they occur. TRL is no
dependency of candletune: pip install trl==1.16.0 first.

Usage: python bench/utility.py prepare FOLDER --seeds 1 --noise --base BASE.gguf --set dataset.per_class=500 --stride 12
       python bench/preference.py FOLDER/signal-1.pkl.gz --base FOLDER [--steps 60] [--device cpu]
"""

import argparse
import gzip
import json
import pickle
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import utility
from candletune.config import TrainConfig, load_config
from candletune.console import SilentReporter
from candletune.training.engine import EngineSetup
from candletune.training.engines import load_model, open_engine
from candletune.training.evaluation import EvalSet
from candletune.training.recipe import train_adapter
from candletune.training.watch import TrainingFiles, Watcher

BETA = 0.1


def settings(wanted: argparse.Namespace, objective: str, warmup: float = 0.0) -> TrainConfig:
    """Of one training."""
    own = [f"train.max_steps={wanted.steps}", f"train.objective={objective}", f"train.utility_warmup={warmup}"]
    same = ["train.eval_steps=0", "train.patience=0", "train.save_steps=1000000", "train.quantization=none"]
    rate = ["train.learning_rate=5e-3", "train.optimizer=adamw_torch", f"base.model={wanted.base}"]
    return load_config(None, [*rate, *same, *own, *wanted.more]).train


def fit(market: Any, model: Any, objective: str, config: TrainConfig) -> None:
    """Go on training the model's adapter by the recipe of `candletune train`."""
    examples, quiet = market.examples[objective], SilentReporter()
    engine = open_engine(model, EngineSetup(config, examples, market.pad, lambda text: print(text, file=sys.stderr)))
    with tempfile.TemporaryDirectory() as scratch, quiet.task("training", 1) as task:
        files = TrainingFiles(Path(scratch) / "metrics.jsonl", Path(scratch) / "checkpoints")
        watcher = Watcher(engine, EvalSet([], [], market.tokens), config, files=files, task=task, reporter=quiet)
        train_adapter(model, examples, config, watcher=watcher, resume=None, seed=market.seed)
    engine.close()


def prefer(market: Any, model: Any, config: TrainConfig, wanted: argparse.Namespace) -> None:
    """TRL's DPO from where the adapter is, which is also its reference."""
    import pyarrow as pa
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast
    from trl import DPOConfig, DPOTrainer

    class Pairs(DPOTrainer):  # type: ignore[misc]  # TRL has no types
        """The ids are known: they are those that `candletune train` asks."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    example, winner, loser, chance = utility.preferred(market)
    count, draw = wanted.steps * config.effective_batch, np.random.default_rng(market.seed)
    rows = draw.choice(len(example), count, p=chance)
    asked = market.examples["labels"]
    lines = []
    for row in rows:
        one = asked[example[row]]
        prompt = list(one.ids[: one.decision_index])
        first, second = (market.tokens.ids[side[row]] for side in (winner, loser))
        lines.append({"prompt_ids": prompt, "chosen_ids": [first], "rejected_ids": [second]})
    with tempfile.TemporaryDirectory() as scratch:
        arguments = DPOConfig(
            output_dir=scratch,
            beta=BETA,
            max_steps=wanted.steps,
            per_device_train_batch_size=config.effective_batch,
            learning_rate=config.learning_rate,
            lr_scheduler_type=config.schedule,
            max_length=None,
            report_to=[],
            save_strategy="no",
            logging_steps=10,
            use_cpu=wanted.device == "cpu",
            bf16=False,
            gradient_checkpointing=False,
            remove_unused_columns=False,
            disable_tqdm=True,
            seed=market.seed,
        )
        Pairs(
            model=model,
            args=arguments,
            train_dataset=Dataset(pa.Table.from_pylist(lines), fingerprint="pairs"),
            processing_class=nobody(PreTrainedTokenizerFast),
        ).train()


def nobody(kind: Any) -> Any:
    """A tokenizer that TRL asks for and does not use, the ids being known."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    return kind(tokenizer_object=Tokenizer(WordLevel({"<pad>": 0, "<eos>": 1})), pad_token="<pad>", eos_token="<eos>")  # noqa: S106


def judge(market: Any, model: Any, config: TrainConfig, case: str) -> None:
    """Print what the adapter's own calls earn in the following period."""
    setup = EngineSetup(config, market.examples["labels"], market.pad, lambda _: None)
    engine = open_engine(model, setup)
    prompts = [tuple(row.tolist()) for row in market.test.prompts]
    found = engine.decision_probabilities(prompts, market.tokens).numpy()
    if case == "labels":
        held = engine.decision_probabilities([tuple(row.tolist()) for row in market.held_out.prompts], market.tokens)
        natural = utility.offsets_to(market.shares, market.rates)
        best = utility.best_shift(held.numpy(), market.held_out, natural)
        print(json.dumps(utility.judged(market, "labels, threshold", utility.shifted(found, best))), flush=True)
    print(json.dumps(utility.judged(market, case, found.argmax(axis=1))), flush=True)
    engine.close()


def main() -> None:
    """Labels, and from there utility and preferences."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("market", type=Path)
    parser.add_argument(
        "--base", type=Path, required=True, help="the same base in safetensors: TRL needs whole weights"
    )
    parser.add_argument("--steps", type=int, default=60, help="of each training")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", dest="more", action="append", default=[], help="further settings")
    wanted = parser.parse_args()
    sys.modules["__main__"].Market, sys.modules["__main__"].Period = utility.Market, utility.Period  # type: ignore[attr-defined]
    with gzip.open(wanted.market) as file:
        market = pickle.load(file)  # noqa: S301
    print(json.dumps(utility.judged(market, "the filter's optimum", market.test.optimum)), flush=True)
    config = settings(wanted, "labels")
    began = load_model(wanted.base, config, wanted.device, market.seed)
    fit(market, began, "labels", config)
    judge(market, began, config, "labels")
    start = {name: weight.detach().clone() for name, weight in began.named_parameters() if weight.requires_grad}
    for case in ("utility", "preference"):
        model = load_model(wanted.base, config, wanted.device, market.seed)
        for name, weight in start.items():
            model.get_parameter(name).data.copy_(weight)
        clock = time.perf_counter()
        if case == "utility":
            fit(market, model, "utility", settings(wanted, "utility"))
        else:
            prefer(market, model, config, wanted)
        print(f"{case}: {time.perf_counter() - clock:.0f} s", flush=True)
        judge(market, model, config, case)


if __name__ == "__main__":
    main()
