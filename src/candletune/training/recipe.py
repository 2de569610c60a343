"""The recipe: Hugging Face Trainer over weighted examples, resuming only where data and configuration are the same."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer, TrainingArguments, set_seed

from candletune.config import TrainConfig
from candletune.errors import InputError
from candletune.files import make_folder, read_json, remove_folder, write_json
from candletune.hashes import fingerprint
from candletune.training.fast.engine import GradientEngine, open_fast
from candletune.training.loss import answer_loss
from candletune.training.tokens import Weighted
from candletune.training.watch import Watcher, interruptible

_CHECKPOINT = re.compile(r"^checkpoint-(\d+)$")


def micro_batch(config: TrainConfig, device: str) -> int:
    """Examples a forward pass: as configured, else the whole effective batch on a CPU and a quarter of it on a GPU."""
    if config.batch_size:
        return config.batch_size
    return config.effective_batch if device == "cpu" else max(1, config.effective_batch // 4)


def steps_of(config: TrainConfig, examples: int) -> int:
    """Optimizer steps: `max_steps`, or epochs times examples over the effective batch, rounded up."""
    if config.max_steps:
        return config.max_steps
    return max(1, -int(-config.epochs * examples // config.effective_batch))


class WeightedTrainer(Trainer):
    """Trainer whose loss is the weighted mean over the answer tokens of the whole effective batch.

    Each micro-batch contributes its weighted sum over the weight of all of them, so the gradient does not depend on how
    an effective batch is cut.
    """

    def __init__(self, *args: Any, pad: int, engine: GradientEngine | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pad, self.engine = pad, engine
        self.model_accepts_loss_kwargs = True

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list[Any], Any]:
        """The micro-batches of one step and the sum of their weights."""
        samples = []
        for _ in range(num_batches):
            try:
                samples.append(next(epoch_iterator))
            except StopIteration:
                break
        total = torch.tensor(
            sum(sum(example.weights) for batch in samples for example in batch["examples"]), device=device
        )
        return samples, self.accelerator.gather(total).sum()

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """The micro-batch's share of the weighted mean loss."""
        examples: list[Weighted] = inputs["examples"]
        if self.engine is not None:
            total, weight = self.engine.loss(examples)
        else:
            total, weight = answer_loss(self.accelerator.unwrap_model(model), examples, self.pad)
        share: Tensor = total / (num_items_in_batch if num_items_in_batch is not None else weight)
        if not torch.isfinite(share):
            raise InputError(
                f"training: the loss is {share.item()} at step {self.state.global_step + 1} (examples of "
                f"{len(examples)} rows, first prompt {len(examples[0].ids)} tokens); lower train.learning_rate"
            )
        whole: Tensor = share * self.accelerator.num_processes
        return whole

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the highest step, by number (950 is before 1000); unfinished ones do not count."""
    found = [
        (int(match[1]), path)
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (match := _CHECKPOINT.match(path.name)) and (path / "trainer_state.json").is_file()
    ]
    return max(found)[1] if found else None


def step_of(checkpoint: Path) -> int:
    """The step a checkpoint was written after."""
    return int(checkpoint.name.rpartition("-")[2])


def prepare_checkpoints(folder: Path, mark: str) -> Path | None:
    """The checkpoint to resume from; checkpoints of other data or another configuration are removed."""
    marker = folder / "candletune.json"
    if folder.exists() and (not marker.exists() or read_json(marker).get("fingerprint") != mark):
        remove_folder(folder)
    make_folder(folder)
    write_json(marker, {"fingerprint": mark})
    return latest_checkpoint(folder)


def recipe_mark(config: TrainConfig, dataset_sha256: str, base_sha256: str, seed: int) -> str:
    """What a checkpoint belongs to."""
    return fingerprint([config.model_dump(mode="json"), dataset_sha256, base_sha256, seed])


def train_adapter(
    model: Any,
    examples: Sequence[Weighted],
    config: TrainConfig,
    *,
    folder: Path,
    resume: Path | None,
    watcher: Watcher,
    device: str,
    seed: int,
    pad: int,
) -> dict[str, Any]:
    """Train; returns steps and the final training loss. The model's adapter holds the result."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    engine: GradientEngine | None
    if config.backend == "unsloth":
        from candletune.training.unsloth import UnslothEngine

        engine = UnslothEngine(model, config, pad=pad, say=watcher.warn)
    else:
        engine = open_fast(model, config, examples, batch=config.effective_batch, say=watcher.warn)
    micro = config.effective_batch if engine else micro_batch(config, device)
    watcher.engine = engine
    if engine is not None and device == "cuda":
        watcher.say(engine.plan.describe())
    set_seed(seed)
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=-(-config.effective_batch // micro),
        max_steps=steps_of(config, len(examples)),
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.schedule,
        warmup_steps=config.warmup,
        optim=config.optimizer,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        gradient_checkpointing=config.gradient_checkpointing and device == "cuda" and engine is None,
        bf16=config.bf16 and device == "cuda",
        use_cpu=device == "cpu",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_steps=config.save_steps,
        save_total_limit=2,
        report_to=[],
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        seed=seed,
        data_seed=seed,
    )
    trainer = WeightedTrainer(
        model=model,
        args=arguments,
        train_dataset=list(examples),
        data_collator=lambda rows: {"examples": rows},
        callbacks=[watcher],
        pad=pad,
        engine=engine,
    )
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    with interruptible(watcher):
        output = trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    if engine is not None:
        micro = engine.plan.micro_batch
    best = watcher.keep_best(model, int(output.global_step))
    return {
        "steps": int(output.global_step),
        "best_step": best,
        "train_loss": float(output.training_loss),
        "batch_size": micro,
        "backend": "reference" if engine is None else "unsloth" if config.backend == "unsloth" else "fast",
        "plan": "" if engine is None else engine.plan.describe(),
    }
