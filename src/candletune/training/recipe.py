"""The recipe: Hugging Face's Trainer over tokenized examples, whatever the engine that gives their loss."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer, TrainingArguments, set_seed

from candletune.artifacts import TrainingResult
from candletune.config import TrainConfig
from candletune.errors import InputError
from candletune.training.adapter import trained_device
from candletune.training.engine import TrainingEngine
from candletune.training.examples import TokenizedExample
from candletune.training.utility import warm_share, with_share
from candletune.training.watch import Watcher, interruptible


def steps_of(config: TrainConfig, examples: int) -> int:
    """Optimizer steps: `max_steps`, or epochs times examples over the effective batch, rounded up."""
    if config.max_steps:
        return config.max_steps
    return max(1, -int(-config.epochs * examples // config.effective_batch))


class EngineTrainer(Trainer):
    """Trainer whose loss is the engine's: the weighted mean over the answer tokens of the whole effective batch.

    Each micro-batch contributes its weighted sum over the weight of all of them, so the gradient does not depend on how
    an effective batch is cut.
    """

    def __init__(self, *args: Any, engine: TrainingEngine, utility_warmup: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.engine, self.utility_warmup = engine, utility_warmup
        self.model_accepts_loss_kwargs = True
        self.latest: list[TokenizedExample] = []

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
        utility = warm_share(self.state.global_step, self.args.max_steps, self.utility_warmup)
        examples = with_share(inputs["examples"], utility)
        total, weight = self.engine.loss(examples)
        share: Tensor = total / (num_items_in_batch if num_items_in_batch is not None else weight)
        self.latest = examples
        whole: Tensor = share * self.accelerator.num_processes
        return whole

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log a step, or stop where its loss is not finite.

        Here, and not where the loss is computed: to ask for its value the host would wait for the GPU and only then
        launch the optimizer. Checkpoints are saved behind the log, so none is written.

        Raises:
            InputError: the loss is not finite.
        """
        loss = logs.get("loss", 0.0)
        if not math.isfinite(loss):
            raise InputError(
                f"training: the loss is {loss} at step {self.state.global_step} (the last pass had {len(self.latest)} "
                f"rows, the first of {len(self.latest[0].ids)} tokens); lower train.learning_rate"
            )
        super().log(logs, *args, **kwargs)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:  # the Trainer's signature
        return inputs


def train_adapter(
    model: Any,
    examples: Sequence[TokenizedExample],
    config: TrainConfig,
    *,
    watcher: Watcher,
    resume: Path | None,
    seed: int,
) -> TrainingResult:
    """Train; the model's adapter holds the result.

    Args:
        model: the base with its adapter, under the watcher's engine.
        examples: training examples.
        config: training settings.
        watcher: follows the training; its engine gives the loss.
        resume: checkpoint to go on from.
        seed: of the examples' order and of dropout.

    Raises:
        InputError: a loss that is not finite, or too little memory.
    """
    from transformers.trainer_callback import PrinterCallback

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    engine = watcher.engine
    device = trained_device(model).type
    if device == "cuda" and engine.plan.describe():
        watcher.reporter.say(engine.plan.describe())
    set_seed(seed)
    steps = steps_of(config, len(examples))
    trainer = EngineTrainer(
        model=model,
        args=trainer_arguments(config, engine, watcher.files.checkpoints, steps=steps, device=device, seed=seed),
        train_dataset=list(examples),
        data_collator=lambda rows: {"examples": rows},
        callbacks=[watcher],
        engine=engine,
        utility_warmup=config.utility_warmup,
    )
    trainer.remove_callback(PrinterCallback)
    with interruptible(watcher):
        output = trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return TrainingResult(
        steps=int(output.global_step),
        best_step=watcher.keep_best(model, int(output.global_step)),
        train_loss=float(output.training_loss),
        batch_size=engine.plan.micro_batch,
        backend=engine.name,
        plan=engine.plan.describe(),
    )


def _optimizer(config: TrainConfig, device: str) -> str:
    """The Trainer's name of it; PyTorch's AdamW takes one kernel for all parameters of a GPU."""
    fused = config.optimizer == "adamw_torch" and device == "cuda"
    return "adamw_torch_fused" if fused else config.optimizer


def trainer_arguments(
    config: TrainConfig, engine: TrainingEngine, folder: Path, *, steps: int, device: str, seed: int
) -> TrainingArguments:
    """The plan's table in the Trainer's words."""
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=engine.call_size,
        gradient_accumulation_steps=-(-config.effective_batch // engine.call_size),
        max_steps=steps,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.schedule,
        warmup_steps=config.warmup,
        optim=_optimizer(config, device),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        gradient_checkpointing=engine.checkpointing,
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
