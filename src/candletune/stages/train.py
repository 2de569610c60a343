"""The `train` stage: dataset and base to a PEFT adapter with its manifest."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from candletune.artifacts import DatasetManifest
from candletune.base.chat import decision_tokens, encode_prompt
from candletune.base.quiet import quiet
from candletune.config import Config
from candletune.console import Reporter
from candletune.dataset import read_examples
from candletune.decisions import DECISIONS
from candletune.errors import InputError
from candletune.files import atomic_folder, read_json, remove, write_json
from candletune.hashes import sha256_path
from candletune.runs import RunFolder
from candletune.stages.runner import Stage

ADAPTER = "adapter"
ADAPTER_MANIFEST = "candletune.json"


@quiet()
def train(config: Config, run: RunFolder, reporter: Reporter) -> dict[str, Any]:
    """The stage's work; returns the summary."""
    from candletune.base.find import resolve_base
    from candletune.base.load import pick_device
    from candletune.base.tokenizer import chat_format, load_tokenizer
    from candletune.gguf.model import check_architecture
    from candletune.training.checkpoints import prepare_checkpoints, recipe_fingerprint, step_of
    from candletune.training.engine import EngineSetup
    from candletune.training.engines import load_model, open_engine
    from candletune.training.evaluation import EvalSet
    from candletune.training.examples import soften, tokenize
    from candletune.training.metrics import trim_metrics
    from candletune.training.recipe import steps_of, train_adapter
    from candletune.training.watch import TrainingFiles, Watcher

    base = resolve_base(config, reporter)
    check_architecture(base.path, writes_base=config.base.gguf is None or config.export.kind == "merged")
    device = pick_device(config.train.device)
    tokenizer = load_tokenizer(base.path)
    chat = chat_format(config, tokenizer)
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
    if config.train.soft_target:
        returns = data.meta["forward_return"].to_list()
        limit, share = config.labels.threshold, config.train.soft_target
        examples = [
            soften(example, tokens, value, limit, share) for example, value in zip(examples, returns, strict=True)
        ]
    chosen = [example for example, split in zip(examples, data.meta["split"], strict=True) if split == "train"]
    natural = pl.read_parquet(run.natural_eval)
    held_out = EvalSet(
        [tuple(encode_prompt(tokenizer.encode, text, tokenizer.bos, chat)) for text in natural["prompt"]],
        [DECISIONS.index(label) for label in natural["label"]],
        tokens,
        [example for example, split in zip(examples, data.meta["split"], strict=True) if split == "eval"],
    )
    dataset_sha256 = sha256_path(run.jsonl)
    fingerprint = recipe_fingerprint(config.train, dataset_sha256, base.sha256, config.seed)
    resume = prepare_checkpoints(run.checkpoints, fingerprint)
    metrics = run.train_metrics
    if resume is None:
        remove(metrics)
    else:
        reporter.say(f"resuming from {resume.name}")
        trim_metrics(metrics, step_of(resume))
    model = load_model(base.path, config.train, device, config.seed)
    engine = open_engine(model, EngineSetup(config.train, chosen, tokenizer.pad, reporter.warn))
    try:
        with reporter.task("training", steps_of(config.train, len(chosen))) as task:
            watcher = Watcher(
                engine,
                held_out,
                config.train,
                files=TrainingFiles(metrics, run.checkpoints),
                task=task,
                reporter=reporter,
            )
            done = train_adapter(model, chosen, config.train, watcher=watcher, resume=resume, seed=config.seed)
        final = watcher.evaluation(done.steps)
    finally:
        engine.close()
    manifest = DatasetManifest.read(run.dataset_manifest)
    with atomic_folder(run.adapter) as folder:
        model.save_pretrained(folder, safe_serialization=True)
        remove(folder / "README.md")
        _settle_config(folder / "adapter_config.json", base.name)
        write_json(
            folder / ADAPTER_MANIFEST,
            {
                "version": 1,
                "base": base.name,
                "base_sha256": base.sha256,
                "template_sha256": manifest.template_sha256,
                "dataset_sha256": dataset_sha256,
                "train_end": manifest.train_end.isoformat(),
                "class_prior": dict(manifest.class_prior),
                "natural_prior": dict(manifest.natural_prior),
                "context_sources": manifest.context_sources,
                "decision_ids": list(tokens.ids),
                "seed": config.seed,
                "train": config.train.model_dump(mode="json"),
                "labels": config.labels.model_dump(mode="json"),
            },
        )
    summary = {
        "headline": f"{done.steps} steps, loss {done.train_loss:.3f}, decision accuracy at the natural prior "
        f"{final.get('accuracy', 0.0):.1%} (balanced {final.get('balanced_accuracy', 0.0):.1%})",
        **done.summary(),
        "device": device,
        "shortened": shortened,
        "eval": final,
    }
    write_json(run.train_summary, summary)
    return summary


def _settle_config(path: Path, base: str) -> None:
    """PEFT writes a cache path and a set in hash order; the same run must give the same bytes on any machine."""
    found = read_json(path)
    found["base_model_name_or_path"] = base
    found["target_modules"] = sorted(found["target_modules"])
    write_json(path, found)


def _inputs(config: Config, run: RunFolder) -> Mapping[str, Path]:
    found = {"dataset": run.dataset}
    folder = Path(config.base.model).expanduser()
    return found | ({"base.model": folder} if folder.is_dir() else {})


STAGE = Stage(
    name="train",
    title="Train the adapter",
    tables=("train", "base", "labels"),
    inputs=_inputs,
    outputs=(ADAPTER, "train/summary.json"),
    work=train,
)
