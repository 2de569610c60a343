"""A run's dataset, tokenized for training: the examples that train, and what is evaluated on the way."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import JsonValue

from candletune.artifacts import AdapterRecord, DatasetManifest
from candletune.base.chat import DecisionTokens, decision_tokens, encode_prompt
from candletune.base.tokenizer import served_tokenizer
from candletune.config import Config, TrainConfig
from candletune.console import Reporter
from candletune.dataset import example_volatility, read_examples
from candletune.errors import InputError
from candletune.hashes import sha256_path
from candletune.runs import RunFolder
from candletune.training.evaluation import EvalSet
from candletune.training.examples import TokenizedExample, tokenize
from candletune.training.targets import action_gains, class_indices, in_order, with_targets


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a training works on.

    Attributes:
        examples: the train split, tokenized and weighted.
        held_out: natural-prior rows and the eval split.
        tokens: the decision tokens.
        chat: the base's chat format, as manifests record it: `before`, `after`, `end`.
        pad: pad id.
        shortened: prompts that lost headlines to `train.max_sequence_length`.
        dataset_sha256: of the file of training examples.
        class_shares: of the training examples as they are weighed, (BUY, SELL, HOLD).
        base_rates: of the training period, before balancing.
        held_out_gains: what each decision would have earned on the held-out rows, (n, 3); None: under labels.
        held_out_days: of the held-out rows, days since 1970, (n,).
    """

    examples: list[TokenizedExample]
    held_out: EvalSet
    tokens: DecisionTokens
    chat: dict[str, str]
    pad: int
    shortened: int
    dataset_sha256: str
    class_shares: tuple[float, float, float]
    base_rates: tuple[float, float, float]
    held_out_gains: NDArray[np.float64] | None = None
    held_out_days: NDArray[np.int64] | None = None


def prepare_data(config: Config, run: RunFolder, base: Path, reporter: Reporter) -> TrainingData:
    """Tokenize a run's dataset with the served base's tokenizer and chat format.

    Args:
        config: chat format, lengths, weights, soft targets.
        run: holds the dataset.
        base: Hugging Face folder or GGUF.
        reporter: told how many prompts were shortened.

    Raises:
        InputError: no examples, or one that is too long without headlines too.
    """
    tokenizer = served_tokenizer(config, base)
    chat = tokenizer.chat(config.base.chat)
    tokens = decision_tokens(tokenizer.encode)
    data = read_examples(run)
    if len(data.prompts) == 0:
        raise InputError(f"{run.dataset}: no examples; rebuild it with `candletune dataset --force`")
    examples, shortened = tokenize(
        data.prompts,
        data.completions,
        tokenizer,
        tokens=tokens,
        chat=chat,
        limit=config.train.max_sequence_length,
        decision_weight=config.train.decision_weight,
    )
    if shortened:
        reporter.warn(f"{shortened} prompts were longer than train.max_sequence_length and lost headlines")
    dataset = DatasetManifest.read(run.dataset_manifest)
    examples = with_targets(examples, tokens, data.meta, dataset, config)
    splits: dict[str, list[TokenizedExample]] = {"train": [], "eval": []}
    for example, split in zip(examples, data.meta["split"], strict=True):
        splits[split].append(example)
    natural = pl.read_parquet(run.natural_eval)
    prompts = [tuple(encode_prompt(tokenizer.encode, text, tokenizer.bos, chat)) for text in natural["prompt"]]
    held_out = EvalSet(prompts, class_indices(natural["label"]), tokens, splits["eval"])
    shares, rates = (in_order(found) for found in (dataset.class_prior, dataset.natural_prior))
    gains = days = None
    if config.train.objective == "utility":
        shares = rates  # its weights took the balance of the classes back
        returns = natural["forward_return"].to_numpy()
        gains = action_gains(returns, example_volatility(config, natural), config.train) if len(natural) else None
        days = natural["decision_time"].dt.epoch("d").cast(pl.Int64).to_numpy()
    return TrainingData(
        splits["train"],
        held_out,
        tokens,
        chat.texts,
        tokenizer.pad,
        shortened,
        sha256_path(run.jsonl),
        shares,
        rates,
        gains,
        days,
    )


def recorded_settings(config: TrainConfig) -> dict[str, JsonValue]:
    """The training settings as a manifest has them; an adapter that training went on from by its content."""
    before = config.init_adapter
    settings: dict[str, JsonValue] = config.model_dump(mode="json")
    return settings | {"init_adapter": None if before is None else sha256_path(before)}


def check_init_adapter(before: Path | None, name: str, sha256: str) -> None:
    """Refuse to go on from an adapter of another base.

    Args:
        before: its PEFT folder; None: a new one is trained.
        name: of the base.
        sha256: identity of the base.

    Raises:
        InputError: the adapter's manifest names another base.
    """
    record = None if before is None else AdapterRecord.read_if_there(before / AdapterRecord.FILE)
    if record is not None and record.base_sha256 != sha256:
        raise InputError(
            f"train.init_adapter: {before} was trained over another base ({record.base}) than {name}; leave it out"
        )
