"""Watching a training: progress, metrics.jsonl and TensorBoard, evaluations, early stopping, the alarm, Ctrl-C."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState

from candletune.base.chat import DecisionTokens
from candletune.base.probabilities import decision_probabilities
from candletune.console import Task
from candletune.decisions import DECISIONS
from candletune.files import append_line, atomic_folder, read_json, write_json, write_text
from candletune.process import on_stop
from candletune.training.fast.engine import GradientEngine
from candletune.training.loss import answer_loss
from candletune.training.tokens import Weighted

BEST = "best"
COLLAPSED = 0.9
"""Share of one class above which the alarm sounds."""


@dataclass(frozen=True, slots=True)
class Held:
    """Natural-prior eval rows (prompt ids and the index of the true class), and the eval split for the loss."""

    prompts: list[tuple[int, ...]]
    labels: list[int]
    examples: Sequence[Weighted] = ()


class Watcher(TrainerCallback):
    """Follows a training step by step.

    Args:
        task: progress bar.
        metrics: metrics.jsonl.
        held: what is evaluated.
        tokens: decision tokens.
        pad: pad id.
        warn: called with the alarm's text.
        every: steps between evaluations; 0: none before the end.
        patience: evaluations without a better eval loss before stopping; 0: never, and the last adapter is kept.
        folder: checkpoint folder, where the best adapter is kept.
    """

    def __init__(
        self,
        *,
        task: Task,
        metrics: Path,
        held: Held,
        tokens: DecisionTokens,
        pad: int,
        warn: Callable[[str], None],
        say: Callable[[str], None] | None = None,
        every: int = 0,
        patience: int = 0,
        folder: Path | None = None,
    ) -> None:
        self.task, self.metrics, self.held, self.tokens, self.pad, self.warn = task, metrics, held, tokens, pad, warn
        self.every, self.patience, self.folder = every, patience, folder
        self.say = say or warn
        self.loss = float("nan")
        self.engine: GradientEngine | None = None
        self.stop_asked = False
        self.evaluated = -1
        self.out_of_patience = False
        self.best: dict[str, Any] | None = None
        if folder is not None and (folder / BEST / "candletune.json").is_file():
            self.best = read_json(folder / BEST / "candletune.json")

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Show the steps a resumed training has behind it; one that had stopped early before stops again at once."""
        self.task.advance(state.global_step)
        if state.global_step and self._patience_is_over(state.global_step):
            self.out_of_patience = control.should_training_stop = True

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any) -> None:
        """Move the bar, evaluate when it is time, and save and stop when Ctrl-C was pressed."""
        self.task.advance(note=f"loss {self.loss:.3f}")
        due = self.every and state.global_step % self.every == 0 and not self.out_of_patience
        if due and state.global_step < state.max_steps:
            self._keep_if_best(model, self.on_evaluate_now(model, state.global_step), state.global_step)
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
            keep: dict[str, Any] = {
                key: logs[key] for key in ("loss", "grad_norm", "learning_rate", "epoch") if key in logs
            }
            if torch.cuda.is_available():
                keep["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
            append_metrics(self.metrics, {"step": state.global_step, **keep})

    def on_evaluate_now(self, model: Any, step: int) -> dict[str, Any]:
        """Evaluate decisions and the eval loss, append the result, and sound the alarm when one class takes over."""
        found = evaluate_decisions(model, self.held, self.tokens, self.pad, self.engine)
        if self.held.examples:
            found["loss"] = evaluate_loss(model, self.held.examples, self.pad, engine=self.engine)
        self.evaluated = step
        append_metrics(self.metrics, {"step": step, **{f"eval_{key}": value for key, value in found.items()}})
        shares: dict[str, float] = found["shares"]
        name = max(shares, key=lambda key: shares[key])
        if shares[name] > COLLAPSED:
            self.warn(
                f"step {step}: {shares[name]:.0%} of the decisions are {name}; the model may be collapsing to one class"
            )
        return found

    def _keep_if_best(self, model: Any, found: dict[str, Any], step: int) -> None:
        """Keep the adapter on disk when its eval loss is the best so far (only with early stopping)."""
        loss = found.get("loss", found.get("log_loss"))
        if not self.patience or self.folder is None or (self.best is not None and loss >= self.best["loss"]):
            return
        self.best = {"step": step, "loss": loss, "eval": found}
        with atomic_folder(self.folder / BEST) as folder:
            model.save_pretrained(str(folder), safe_serialization=True)
            write_json(folder / "candletune.json", self.best)

    def _patience_is_over(self, step: int) -> bool:
        """Counted in steps since the best, not in evaluations seen: a resumed training stops where a whole one does."""
        if not self.patience or not self.every or self.best is None:
            return False
        return (step - int(self.best["step"])) // self.every >= self.patience

    def keep_best(self, model: Any, step: int) -> int | None:
        """After training: the adapter of the best eval loss, the last one's included, is put into the model.

        Args:
            model: the trained model.
            step: the last step.

        Returns:
            The best adapter's step; None without early stopping or without evaluations on the way.
        """
        if not self.patience or not self.every or self.folder is None:
            return None
        if not self.out_of_patience and self.evaluated != step:
            self._keep_if_best(model, self.on_evaluate_now(model, step), step)
        if self.best is None:
            return None
        if self.best["step"] != step:
            from peft import set_peft_model_state_dict
            from safetensors.torch import load_file

            set_peft_model_state_dict(model, load_file(self.folder / BEST / "adapter_model.safetensors"))
        return int(self.best["step"])

    def evaluation(self, model: Any, step: int) -> dict[str, Any]:
        """The evaluation of the adapter that was kept; measured now unless it was on the way."""
        if self.patience and self.every and self.best is not None and "eval" in self.best:
            kept: dict[str, Any] = self.best["eval"]
            return kept
        return self.on_evaluate_now(model, step)


@contextmanager
def interruptible(watcher: Watcher) -> Iterator[None]:
    """Ctrl-C or SIGTERM saves a checkpoint after the running step, then interrupts; a second one interrupts at once."""

    def ask() -> None:
        if watcher.stop_asked:
            raise KeyboardInterrupt
        watcher.stop_asked = True
        watcher.warn("interrupted: saving a checkpoint after this step (press again to stop at once)")

    with on_stop(ask):
        yield
    if watcher.stop_asked:
        raise KeyboardInterrupt


def append_metrics(path: Path, row: dict[str, Any]) -> None:
    """Append one JSON line; its numbers also go to TensorBoard (`train/tensorboard`) where that is installed."""
    append_line(path, json.dumps(row))
    board = _tensorboard(path.parent / "tensorboard")
    if board is not None:
        for name, value in row.items():
            if isinstance(value, int | float) and name != "step":
                board.add_scalar(name.replace("eval_", "eval/", 1), value, row["step"])
        board.flush()


@cache
def _tensorboard(folder: Path) -> Any:
    """One writer a folder; None without the package (`pip install candletune[tensorboard]`)."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))


def trim_metrics(path: Path, step: int) -> None:
    """Drop the rows behind a checkpoint, which a resumed training writes again."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]  # a killed writer may leave a torn last line
    write_text(path, "".join(line for line in whole if json.loads(line)["step"] <= step))


def evaluate_decisions(
    model: Any, held: Held, tokens: DecisionTokens, pad: int, engine: GradientEngine | None = None
) -> dict[str, Any]:
    """Decision accuracy, balanced accuracy, recalls, shares and log loss on natural-prior rows, from the logits."""
    if not held.prompts:
        return {"rows": 0, "shares": {name: 0.0 for name in DECISIONS}}
    was_training = model.training
    model.eval()
    order = sorted(range(len(held.prompts)), key=lambda row: len(held.prompts[row]))
    prompts = [held.prompts[row] for row in order]
    if engine is not None:
        probabilities = engine.decision_probabilities(prompts, tokens)
    else:
        probabilities = decision_probabilities(model, prompts, tokens, pad=pad)
    model.train(was_training)
    labels = torch.tensor([held.labels[row] for row in order])
    choice = probabilities.argmax(dim=1)
    recalls = {
        name: float((choice[labels == k] == k).float().mean()) if bool((labels == k).any()) else 0.0
        for k, name in enumerate(DECISIONS)
    }
    return {
        "rows": len(labels),
        "accuracy": float((choice == labels).float().mean()),
        "balanced_accuracy": sum(recalls.values()) / len(recalls),
        "recall": recalls,
        "shares": {name: float((choice == k).float().mean()) for k, name in enumerate(DECISIONS)},
        "log_loss": float(-probabilities[torch.arange(len(labels)), labels].clamp_min(1e-9).log().mean()),
    }


@torch.no_grad()
def evaluate_loss(
    model: Any, examples: Sequence[Weighted], pad: int, batch: int = 32, engine: GradientEngine | None = None
) -> float:
    """Weighted mean answer loss over examples, without dropout."""
    if engine is not None:
        loss_sum, weight_sum = engine.evaluate(examples)
        return loss_sum / weight_sum
    was_training = model.training
    model.eval()
    total = weight = 0.0
    for start in range(0, len(examples), batch):
        part = examples[start : start + batch]
        loss, weights = answer_loss(model, part, pad)
        total += float(loss)
        weight += weights
    model.train(was_training)
    return total / weight
