"""Watching a training: progress, evaluations, early stopping with the best adapter, the alarm, Ctrl-C."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from transformers import TrainerCallback, TrainerControl, TrainerState

from candletune.artifacts import BestAdapter, EvalFigures
from candletune.config import TrainConfig
from candletune.console import Reporter, Task
from candletune.errors import InputError
from candletune.files import atomic_folder, read_json, write_json
from candletune.process import on_stop
from candletune.training.engine import TrainingEngine
from candletune.training.evaluation import EvalSet, evaluate
from candletune.training.metrics import append_metrics

BEST = "best"
COLLAPSED = 0.9
"""Share of one class above which the alarm sounds."""


@dataclass(frozen=True, slots=True)
class TrainingFiles:
    """Where a training writes: metrics.jsonl, and the folder of its checkpoints and its best adapter."""

    metrics: Path
    checkpoints: Path


class Watcher(TrainerCallback):
    """Follows a training step by step.

    Args:
        engine: what evaluates.
        held_out: what is evaluated.
        config: training settings; `eval_steps` 0 means none before the end, `patience` 0 that the last adapter is kept.
        files: where it writes.
        task: progress bar.
        reporter: where notes and the alarm go.
    """

    def __init__(
        self,
        engine: TrainingEngine,
        held_out: EvalSet,
        config: TrainConfig,
        *,
        files: TrainingFiles,
        task: Task,
        reporter: Reporter,
    ) -> None:
        self.engine, self.held_out, self.files, self.task, self.reporter = engine, held_out, files, task, reporter
        self.every, self.patience = config.eval_steps, config.patience
        self.objective = config.objective
        self.loss: float | None = None  # none is logged before the first step's end
        self.stop_asked = False
        self.evaluated = -1
        self.out_of_patience = False
        self.best = self._best_before()

    @property
    def _best_folder(self) -> Path:
        return self.files.checkpoints / BEST

    def _best_before(self) -> BestAdapter | None:
        """What the training that is resumed had kept."""
        path = self._best_folder / "candletune.json"
        if not path.is_file():
            return None
        try:
            return BestAdapter.model_validate(read_json(path), extra="ignore")
        except ValidationError:
            raise InputError(
                f"{path}: not as a training writes it; train anew with `candletune train --force`"
            ) from None

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Show the steps a resumed training has behind it; one that had stopped early before stops again at once."""
        self.task.resume(state.global_step)
        if state.global_step and self._patience_is_over(state.global_step):
            self.out_of_patience = control.should_training_stop = True

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any) -> None:
        """Move the bar, evaluate when it is time, and save and stop when Ctrl-C was pressed."""
        self.task.advance(note="" if self.loss is None else f"loss {self.loss:.3f}")
        due = self.every and state.global_step % self.every == 0 and not self.out_of_patience
        if due and state.global_step < state.max_steps:
            self._keep_if_best(model, self.evaluate_now(state.global_step), state.global_step)
            if self._patience_is_over(state.global_step):
                control.should_training_stop = True
        if self.stop_asked:
            control.should_save = True
            control.should_training_stop = True

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        """Append the step's loss and learning rate."""
        if logs and "loss" in logs:
            self.loss = logs["loss"]
            logged: dict[str, float] = {
                key: logs[key] for key in ("loss", "grad_norm", "learning_rate", "epoch") if key in logs
            }
            if torch.cuda.is_available():
                logged["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
            append_metrics(self.files.metrics, {"step": state.global_step, **logged})

    def evaluate_now(self, step: int) -> EvalFigures:
        """Evaluate decisions and the eval loss, append the result, and sound the alarm when one class takes over."""
        figures = evaluate(self.engine, self.held_out)
        self.evaluated = step
        named = {f"eval_{key}": value for key, value in figures.figures().items()}
        append_metrics(self.files.metrics, {"step": step, **named})
        shares = figures.shares
        name = max(shares, key=lambda key: shares[key])
        stays_out = self.objective == "utility" and name == "HOLD"  # which is right where nothing can be earned
        if shares[name] > COLLAPSED and not stays_out:
            self.reporter.warn(
                f"step {step}: {shares[name]:.0%} of the decisions are {name}; the model may be collapsing to one class"
            )
        return figures

    def _keep_if_best(self, model: Any, figures: EvalFigures, step: int) -> None:
        """Keep the adapter on disk when its eval loss is the best so far (only with early stopping)."""
        loss = figures.log_loss if figures.loss is None else figures.loss
        if not self.patience or loss is None or not math.isfinite(loss):
            return
        if self.best is not None and loss >= self.best.loss:
            return
        self.best = BestAdapter(step=step, loss=loss, eval=figures)
        with atomic_folder(self._best_folder) as folder:
            model.save_pretrained(str(folder), safe_serialization=True)
            write_json(folder / "candletune.json", self.best.record())

    def _patience_is_over(self, step: int) -> bool:
        """Counted in steps since the best, not in evaluations seen: a resumed training stops where a whole one does."""
        if not self.patience or not self.every or self.best is None:
            return False
        return (step - self.best.step) // self.every >= self.patience

    def keep_best(self, model: Any, step: int) -> int | None:
        """After training: the adapter of the best eval loss, the last one's included, is put into the model.

        Args:
            model: the trained model.
            step: the last step.

        Returns:
            The best adapter's step; None without early stopping or without evaluations on the way.
        """
        if not self.patience or not self.every:
            return None
        if not self.out_of_patience and self.evaluated != step:
            self._keep_if_best(model, self.evaluate_now(step), step)
        if self.best is None:
            return None
        if self.best.step != step:
            from peft import set_peft_model_state_dict
            from safetensors.torch import load_file

            set_peft_model_state_dict(model, load_file(self._best_folder / "adapter_model.safetensors"))
        return self.best.step

    def evaluation(self, step: int) -> EvalFigures:
        """The evaluation of the adapter that was kept; measured now unless it was on the way."""
        if self.patience and self.every and self.best is not None and self.best.eval is not None:
            return self.best.eval
        return self.evaluate_now(step)


@contextmanager
def interruptible(watcher: Watcher) -> Iterator[None]:
    """Ctrl-C or SIGTERM saves a checkpoint after the running step, then interrupts; a second one interrupts at once.

    Raises:
        KeyboardInterrupt: when it was asked for.
    """

    def ask() -> None:
        if watcher.stop_asked:
            raise KeyboardInterrupt
        watcher.stop_asked = True
        watcher.reporter.warn("interrupted: saving a checkpoint after this step (press again to stop at once)")

    with on_stop(ask):
        yield
    if watcher.stop_asked:
        raise KeyboardInterrupt
