"""The recipe on a tiny random base: pinned losses, resuming, interrupting, early stopping, and what must stop it."""

import json
import math
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from candletune.artifacts import TrainingResult
from candletune.base.chat import decision_tokens, encode_prompt
from candletune.base.tokenizer import load_tokenizer
from candletune.config import TrainConfig, load_config
from candletune.console import SilentReporter
from candletune.errors import InputError
from candletune.training.checkpoints import latest_checkpoint, prepare_checkpoints, step_of
from candletune.training.engine import EngineSetup
from candletune.training.engines import load_model, open_engine
from candletune.training.evaluation import EvalSet
from candletune.training.examples import TokenizedExample, tokenize
from candletune.training.metrics import trim_metrics
from candletune.training.recipe import train_adapter
from candletune.training.watch import TrainingFiles, Watcher

SETTINGS = (
    "train.max_steps=6",
    "train.effective_batch=8",
    "train.save_steps=2",
    "train.eval_steps=0",
    "train.learning_rate=5e-3",
    "train.optimizer=adamw_8bit",
    "train.device=cpu",
)


def settings(*more: str) -> TrainConfig:
    return load_config(None, [*SETTINGS, *more]).train


class Bench:
    """A base, its tokenized examples, and trainings of it."""

    def __init__(self, base: Path, texts: tuple[list[str], list[str]]) -> None:
        self.base = base
        self.tokenizer = load_tokenizer(base)
        self.tokens = decision_tokens(self.tokenizer.encode)
        chat = load_chat(base)
        self.examples, _ = tokenize(
            texts[0][:48],
            texts[1][:48],
            self.tokenizer,
            tokens=self.tokens,
            chat=chat,
            limit=2048,
            decision_weight=20.0,
        )
        prompts = [
            tuple(encode_prompt(self.tokenizer.encode, text, self.tokenizer.bos, chat)) for text in texts[0][:16]
        ]
        self.held_out = EvalSet(prompts, [row % 3 for row in range(16)], self.tokens, self.examples[40:])
        self.reporter = SilentReporter()

    def train(
        self,
        config: TrainConfig,
        folder: Path,
        *,
        examples: Sequence[TokenizedExample] | None = None,
        watcher: type[Watcher] = Watcher,
        threads: int = 1,
    ) -> tuple[TrainingResult, dict[str, torch.Tensor], list[dict[str, Any]]]:
        """Returns what train_adapter says, the adapter's weights, and the metrics' rows."""
        torch.set_num_threads(threads)
        checkpoints = folder / "checkpoints"
        resume = prepare_checkpoints(checkpoints, "mark")
        if resume is not None:
            trim_metrics(folder / "metrics.jsonl", step_of(resume))
        model = load_model(self.base, config, "cpu", 5)
        chosen = self.examples[:40] if examples is None else examples
        engine = open_engine(model, EngineSetup(config, chosen, self.tokenizer.pad, self.reporter.warn))
        with self.reporter.task("train") as task:
            watching = watcher(
                engine,
                self.held_out,
                config,
                files=TrainingFiles(folder / "metrics.jsonl", checkpoints),
                task=task,
                reporter=self.reporter,
            )
            done = train_adapter(model, chosen, config, watcher=watching, resume=resume, seed=5)
        weights = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return done, weights, rows


def load_chat(base: Path) -> Any:
    return load_tokenizer(base).chat("auto")


@pytest.fixture(scope="module")
def bench(random_base: Path, texts: tuple[list[str], list[str]]) -> Bench:
    return Bench(random_base, texts)


def losses(rows: list[dict[str, Any]]) -> list[float]:
    return [row["loss"] for row in rows if "loss" in row]


def test_loss_is_pinned_and_falls(bench: Bench, tmp_path: Path) -> None:
    """A changed default, mask or weight would move these; the tolerance leaves room for other CPUs' rounding."""
    done, _, rows = bench.train(settings("train.max_steps=12"), tmp_path)
    assert done.steps == 12
    found = losses(rows)
    assert found[0] == pytest.approx(math.log(1024), rel=0.05), "random weights know nothing of 1024 tokens"
    assert found[-1] < 0.8 * found[0]
    assert [row["step"] for row in rows] == list(range(1, 13))
    rates = [row["learning_rate"] for row in rows]
    # 3 % of 12 steps is one step of warm-up, from zero; then the peak, then the cosine
    assert rates[:2] == [0.0, pytest.approx(5e-3)]
    assert rates[-1] < 2e-4


def test_the_cut_of_a_batch_does_not_matter(bench: Bench, tmp_path: Path) -> None:
    whole, parts = (
        bench.train(settings(f"train.batch_size={size}", "train.dropout=0", "train.max_steps=2"), tmp_path / str(size))
        for size in (8, 2)
    )
    assert losses(whole[2]) == pytest.approx(losses(parts[2]), rel=1e-4)
    for name, weight in whole[1].items():
        torch.testing.assert_close(weight, parts[1][name], rtol=0, atol=2e-3)


def test_measuring_on_the_way_changes_nothing(bench: Bench, tmp_path: Path) -> None:
    """On CPUs with AVX512-BF16 bitsandbytes repacks a layer at its first evaluation, and drops its gradient after."""
    without, measured = (
        bench.train(settings(f"train.eval_steps={every}", "train.patience=0"), tmp_path / str(every))
        for every in (0, 2)
    )
    assert sum("eval_loss" in row for row in measured[2]) == 2
    assert losses(measured[2]) == losses(without[2])
    for name, weight in without[1].items():
        assert torch.equal(weight, measured[1][name]), name


class Stop(Exception):
    pass


class DyingWatcher(Watcher):
    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **more: Any) -> None:
        super().on_step_end(args, state, control, model=model, **more)
        if state.global_step == 5:
            raise Stop


def test_resumed_ends_as_uninterrupted(bench: Bench, tmp_path: Path) -> None:
    config = settings()
    _, whole, rows = bench.train(config, tmp_path / "whole")
    with pytest.raises(Stop):
        bench.train(config, tmp_path / "cut", watcher=DyingWatcher)
    assert latest_checkpoint(tmp_path / "cut" / "checkpoints") == tmp_path / "cut" / "checkpoints" / "checkpoint-4"
    _, again, resumed = bench.train(config, tmp_path / "cut")
    assert losses(resumed) == losses(rows)
    for name, weight in whole.items():
        assert torch.equal(weight, again[name]), name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_save_first(bench: Bench, tmp_path: Path, number: int) -> None:
    class PressingWatcher(Watcher):
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **more: Any) -> None:
            if state.global_step == 3:
                signal.raise_signal(number)
            super().on_step_end(args, state, control, model=model, **more)

    config = settings()
    bench.reporter.warnings.clear()
    _, whole, _ = bench.train(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        bench.train(config, tmp_path / "cut", watcher=PressingWatcher)
    assert any("saving a checkpoint" in text for text in bench.reporter.warnings)
    assert (tmp_path / "cut" / "checkpoints" / "checkpoint-3").is_dir()
    _, again, _ = bench.train(config, tmp_path / "cut")
    assert all(torch.equal(weight, again[name]) for name, weight in whole.items())


def test_checkpoints_are_ordered_by_number(tmp_path: Path) -> None:
    for step in (950, 1000, 90):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    (tmp_path / "checkpoint-2000").mkdir()  # unfinished: no state in it
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint-1000"
    assert latest_checkpoint(tmp_path / "none") is None


def test_checkpoints_of_other_data_are_dropped(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    assert prepare_checkpoints(folder, "one") is None
    (folder / "checkpoint-5").mkdir()
    (folder / "checkpoint-5" / "trainer_state.json").write_text("{}")
    assert prepare_checkpoints(folder, "one") == folder / "checkpoint-5"
    assert prepare_checkpoints(folder, "two") is None
    assert not (folder / "checkpoint-5").exists()


def test_a_loss_that_is_not_finite_stops_and_names_the_batch(bench: Bench, tmp_path: Path) -> None:
    broken = [replace(example, weights=(math.inf, *example.weights[1:])) for example in bench.examples[:40]]
    with pytest.raises(InputError, match=r"the loss is (nan|inf) at step 1"):
        bench.train(settings(), tmp_path, examples=broken)


def test_an_adapter_that_is_not_finite_is_never_kept_as_the_best(bench: Bench, tmp_path: Path) -> None:
    """The step's evaluation comes before its log, which stops the training."""
    broken = [replace(example, weights=(math.inf, *example.weights[1:])) for example in bench.examples[:40]]
    config = settings("train.eval_steps=1", "train.patience=3")
    with pytest.raises(InputError, match="the loss is"):
        bench.train(config, tmp_path, examples=broken)
    assert list(tmp_path.rglob("best")) == [], "an adapter without numbers was kept"


def test_early_stopping_keeps_the_best(bench: Bench, tmp_path: Path) -> None:
    """A rate far too high makes the eval loss worse after a while; the best adapter is what comes back."""
    config = settings("train.learning_rate=0.3", "train.max_steps=30", "train.eval_steps=1", "train.patience=3")
    done, _, rows = bench.train(config, tmp_path)
    found = {row["step"]: row["eval_loss"] for row in rows if "eval_loss" in row}
    best = min(found, key=lambda step: found[step])
    assert done.best_step == best
    assert done.steps == best + 3 < 30


def test_the_last_adapter_is_kept_when_it_is_the_best(bench: Bench, tmp_path: Path) -> None:
    """Evaluations are rarer than steps: what was learnt behind the last of them must not be thrown away."""
    plain = bench.train(settings("train.patience=0"), tmp_path / "off")
    done, weights, rows = bench.train(settings("train.eval_steps=4", "train.patience=3"), tmp_path / "on")
    assert [row["step"] for row in rows if "eval_loss" in row] == [4, 6]
    assert done.best_step == 6 and plain[0].best_step is None
    for name, weight in plain[1].items():
        assert torch.equal(weight, weights[name]), name


@pytest.mark.parametrize("cut", [5, 8])
def test_early_stopping_resumed_ends_as_uninterrupted(bench: Bench, tmp_path: Path, cut: int) -> None:
    """Killed before and behind the best: the same steps, the same best one, the same weights."""
    more = ("train.learning_rate=0.3", "train.max_steps=30", "train.eval_steps=1", "train.patience=3")
    whole, weights, _ = bench.train(settings(*more), tmp_path / "whole")

    class Dying(Watcher):
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **rest: Any) -> None:
            super().on_step_end(args, state, control, model=model, **rest)
            if state.global_step == min(cut, whole.steps - 1):
                raise Stop

    with pytest.raises(Stop):
        bench.train(settings(*more), tmp_path / "cut", watcher=Dying)
    again, resumed, _ = bench.train(settings(*more), tmp_path / "cut")
    assert (again.steps, again.best_step) == (whole.steps, whole.best_step)
    assert all(torch.equal(weight, resumed[name]) for name, weight in weights.items())
    after, forced, _ = bench.train(settings(*more), tmp_path / "cut")  # what --force does behind a finished training
    assert after.best_step == whole.best_step
    assert all(torch.equal(weight, forced[name]) for name, weight in weights.items())


def test_the_alarm_sounds_when_one_class_takes_over(bench: Bench, tmp_path: Path) -> None:
    bench.reporter.warnings.clear()
    only = [e for e in bench.examples[:40] if e.ids[e.decision_index] == bench.examples[0].ids[e.decision_index]]
    bench.train(settings("train.max_steps=12", "train.eval_steps=11"), tmp_path, examples=only)
    assert any("collapsing to one class" in text for text in bench.reporter.warnings)


def test_tensorboard_gets_the_same_numbers(bench: Bench, tmp_path: Path) -> None:
    events = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    _, _, rows = bench.train(settings("train.max_steps=3"), tmp_path)
    board = events.EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [event.value for event in board.Scalars("loss")] == pytest.approx(losses(rows))
