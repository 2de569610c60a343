"""How often the adapter acts is taught: the wanted share of calls, in the adapter's own first choice."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from candletune.base.chat import decision_tokens, encode_prompt
from candletune.base.tokenizer import load_tokenizer
from candletune.calibration import call_share
from candletune.config import load_config
from candletune.console import SilentReporter
from candletune.training.engine import EngineSetup
from candletune.training.engines import load_model, open_engine
from candletune.training.evaluation import EvalSet
from candletune.training.examples import tokenize
from candletune.training.policy import PolicyData, teach_policy
from candletune.training.recipe import train_adapter
from candletune.training.watch import TrainingFiles, Watcher

SETTINGS = (
    "train.max_steps=30",
    "train.effective_batch=16",
    "train.eval_steps=0",
    "train.learning_rate=5e-3",
    "train.optimizer=adamw_torch",
    "train.device=cpu",
    "train.policy_steps=12",
)


class Trained:
    """A small base, trained a little on balanced examples."""

    def __init__(self, base: Path, texts: tuple[list[str], list[str]], folder: Path, *more: str) -> None:
        torch.set_num_threads(1)
        self.config = load_config(None, [*SETTINGS, *more]).train
        tokenizer = load_tokenizer(base)
        tokens, chat = decision_tokens(tokenizer.encode), tokenizer.chat("auto")
        examples, _ = tokenize(*texts, tokenizer, tokens=tokens, chat=chat, limit=2048, decision_weight=20.0)
        prompts = [tuple(encode_prompt(tokenizer.encode, text, tokenizer.bos, chat)) for text in texts[0]]
        labels = [tokens.ids.index(example.ids[example.decision_index]) for example in examples]
        self.data = PolicyData(examples, EvalSet(prompts, labels, tokens), (1 / 3, 1 / 3, 1 / 3), (0.15, 0.15, 0.7))
        self.model = load_model(base, self.config, "cpu", 5)
        self.engine = open_engine(self.model, EngineSetup(self.config, examples, tokenizer.pad, lambda _text: None))
        with SilentReporter().task("train") as task:
            files = TrainingFiles(folder / "metrics.jsonl", folder / "checkpoints")
            watcher = Watcher(
                self.engine,
                replace(self.data.held_out, prompts=[], labels=[]),
                self.config,
                files=files,
                task=task,
                reporter=SilentReporter(),
            )
            train_adapter(self.model, examples, self.config, watcher=watcher, resume=None, seed=5)

    def asked(self) -> np.ndarray:
        held_out = self.data.held_out
        return self.engine.decision_probabilities(held_out.prompts, held_out.tokens).numpy()

    def teach(self) -> tuple[Any, Any]:
        with SilentReporter().task("policy") as task:
            return teach_policy(self.model, self.engine, self.data, self.config, seed=3, task=task)


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [None, 0.1, 0.6])
def test_the_wanted_share_of_calls_is_in_the_weights(
    random_base: Path, texts: tuple[list[str], list[str]], tmp_path: Path, wanted: float | None
) -> None:
    more = () if wanted is None else (f"train.call_share={wanted}",)
    trained = Trained(random_base, texts, tmp_path, *more)
    before = trained.asked()
    assert call_share(before) > 0.6, "balanced examples teach it to call most of the time"
    policy, calibration = trained.teach()
    after = trained.asked()
    aim = 0.3 if wanted is None else wanted
    assert policy.wanted == pytest.approx(aim)
    assert call_share(after) == pytest.approx(policy.reached)
    assert policy.reached == pytest.approx(aim, abs=0.03)
    assert _alike(_margins(before), _margins(after)) > 0.9, "which rows are called first stays as it was"
    assert calibration.rows == len(after)


@pytest.mark.slow
def test_without_steps_the_adapter_stays_as_it_was(
    random_base: Path, texts: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    trained = Trained(random_base, texts, tmp_path, "train.policy_steps=0", "train.max_steps=2")
    before = trained.asked()
    policy, calibration = trained.teach()
    assert policy is None
    assert calibration is not None
    assert np.array_equal(before, trained.asked())


def _margins(probabilities: np.ndarray) -> np.ndarray:
    """How much more a call is worth than HOLD, in log-odds."""
    logs = np.log(probabilities)
    margins: np.ndarray = logs[:, :2].max(axis=1) - logs[:, 2]
    return margins


def _alike(left: np.ndarray, right: np.ndarray) -> float:
    """Spearman's rank correlation."""
    first, second = (values.argsort().argsort() for values in (left, right))
    return float(np.corrcoef(first, second)[0, 1])
