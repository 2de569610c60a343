"""How often the adapter acts is taught: the wanted share of calls, in the adapter's own first choice.

The model here is a linear one over a prompt's numbers, behind the protocol of every training engine: the recipe, the
Trainer and the optimizer are the real ones. `tests/pipeline` has the phase with a language model.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from candletune.artifacts import DecisionPolicy, ProbabilityCalibration
from candletune.base.chat import DecisionTokens
from candletune.calibration import Calibration, call_margins, call_share
from candletune.config import load_config
from candletune.console import Reporter, SilentReporter
from candletune.training.engine import FixedPlan
from candletune.training.evaluation import EvalSet
from candletune.training.examples import TokenizedExample
from candletune.training.policy import PolicyData, teach_policy

Floats = NDArray[np.float64]
TOKENS = DecisionTokens((1,), (10, 11, 12))
WIDTH = 6
ONE_THIRD, BASE_RATES = (1 / 3, 1 / 3, 1 / 3), (0.15, 0.15, 0.7)


class LinearModel(nn.Module):
    """Scores of three decisions from a prompt's numbers, read as hundredths."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.scores = nn.Linear(WIDTH, 3)
        self.scores.weight.data = torch.randn(3, WIDTH, generator=generator)
        self.scores.bias.data = torch.tensor([0.4, 0.2, 0.0])

    def forward(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """(n, 3)."""
        found: Tensor = self.scores(torch.tensor(prompts, dtype=torch.float32) / 100)
        return found


class LinearEngine:
    """The protocol over it; an answer is its decision alone."""

    name, plan, checkpointing, call_size = "linear", FixedPlan(16), False, 16

    def __init__(self, model: LinearModel) -> None:
        self.model = model

    def loss(self, examples: Sequence[TokenizedExample]) -> tuple[Tensor, float]:
        logs = self.model([example.ids[: example.prompt_length] for example in examples]).log_softmax(dim=1)
        aims = torch.tensor([[share for _, share in example.soft] for example in examples])
        return -(aims * logs).sum(), float(len(examples))

    def evaluate(self, examples: Sequence[TokenizedExample]) -> tuple[float, float]:
        raise AssertionError("nothing is evaluated on the way")

    def decision_probabilities(self, prompts: Sequence[Sequence[int]], tokens: DecisionTokens) -> Tensor:
        assert tokens == TOKENS
        with torch.no_grad():
            found: Tensor = self.model(prompts).double().softmax(dim=1)
        return found

    def close(self) -> None:
        """Nothing is held."""


def prompts(count: int, seed: int) -> list[tuple[int, ...]]:
    """Numbers, of an order that is not the order of their lengths."""
    return [tuple(map(int, row)) for row in np.random.default_rng(seed).integers(-150, 150, (count, WIDTH))]


def taught(
    *more: str,
    trained_steps: int = 400,
    gains: Floats | None = None,
    shares: tuple[float, float, float] | None = None,
    reporter: Reporter | None = None,
) -> tuple[LinearEngine, PolicyData, DecisionPolicy | None, ProbabilityCalibration | None]:
    """A model after the phase."""
    config = load_config(None, ["train.learning_rate=0.02", "train.optimizer=adamw_torch", *more]).train
    engine = LinearEngine(LinearModel())
    examples = [TokenizedExample((*prompt, 10), WIDTH, WIDTH, (1.0,)) for prompt in prompts(700, 1)]
    natural = prompts(400, 2)
    true = Calibration(offsets=(-0.8, -0.8, 0.7)).apply(engine.decision_probabilities(natural, TOKENS).numpy())
    drawn = (np.random.default_rng(3).random(400)[:, None] > true.cumsum(axis=1)).sum(axis=1)
    shares = shares or (ONE_THIRD if gains is None else BASE_RATES)
    held_out = EvalSet(natural, np.minimum(drawn, 2).tolist(), TOKENS)
    data = PolicyData(examples, held_out, shares, BASE_RATES, trained_steps, gains, np.arange(400) // 2)
    policy, calibration = teach_policy(
        engine.model, engine, data, config, seed=3, reporter=reporter or SilentReporter()
    )
    return engine, data, policy, calibration


def asked(engine: LinearEngine, data: PolicyData) -> np.ndarray[Any, Any]:
    return engine.decision_probabilities(data.held_out.prompts, TOKENS).numpy()


@pytest.mark.parametrize("wanted", [None, 0.1, 0.6])
def test_the_wanted_share_of_calls_is_in_the_weights(wanted: float | None) -> None:
    engine, data, policy, calibration = taught(*([] if wanted is None else [f"train.call_share={wanted}"]))
    before, after = asked(LinearEngine(LinearModel()), data), asked(engine, data)
    assert policy is not None
    assert call_share(before) > 0.7, "at balanced odds it calls most of the time"
    assert policy.wanted == pytest.approx(0.3 if wanted is None else wanted)
    assert policy.reached == pytest.approx(policy.wanted, abs=0.0101)
    assert call_share(after) == pytest.approx(policy.reached)
    assert alike(call_margins(before), call_margins(after)) > 0.98, "which rows are called first stays as it was"
    assert calibration is not None
    assert (policy.rows, calibration.rows) == (400, 400)


def test_calibrated_probabilities_do_not_depend_on_how_often_it_acts() -> None:
    """A phase that makes the model call more makes nothing likelier."""
    said, found = [], []
    for wanted in (0.1, 0.6):
        engine, data, _, fitted = taught(f"train.call_share={wanted}")
        assert fitted is not None
        said.append(asked(engine, data))
        calibrated = Calibration(fitted.temperature, fitted.offsets).apply(said[-1])
        assert fitted.log_loss == pytest.approx(-np.log(calibrated[np.arange(400), data.held_out.labels]).mean())
        found.append(calibrated)
    assert np.abs(said[0] - said[1]).mean() > 0.2
    assert np.abs(found[0] - found[1]).mean() < 0.05


def test_without_steps_the_adapter_stays_as_it_was() -> None:
    engine, data, policy, calibration = taught("train.policy_steps=0")
    assert policy is None
    assert calibration is not None
    assert np.array_equal(asked(engine, data), asked(LinearEngine(LinearModel()), data))


def earned(worth: float, fee: float, noise: float = 1.0) -> Floats:
    """What each decision earned on the held-out rows: `worth` for a nat of the model's odds, less a fee, and noise."""
    said = LinearEngine(LinearModel()).decision_probabilities(prompts(400, 2), TOKENS).numpy()
    odds = np.log(said) - np.log(said[:, 2:])
    luck = np.random.default_rng(7).normal(0, noise, (400, 1)) * np.array([1.0, -1.0, 0.0])
    found: Floats = worth * odds + luck - np.array([fee, fee, 0.0])
    return found


@pytest.mark.parametrize("shares", [BASE_RATES, (0.2, 0.2, 0.6), ONE_THIRD])
def test_a_utility_that_pays_stays_as_it_is(shares: tuple[float, float, float]) -> None:
    """Whatever the examples' shares were: what it says itself is what earned."""
    engine, data, policy, calibration = taught("train.objective=utility", gains=earned(2.0, 0.0, 0.01), shares=shares)
    assert policy is not None
    assert calibration is not None
    assert policy.steps == 0
    assert policy.wanted == policy.reached == call_share(asked(engine, data))
    assert np.array_equal(asked(engine, data), asked(LinearEngine(LinearModel()), data))


def test_a_utility_that_earned_by_chance_is_taught_to_hold() -> None:
    said: list[str] = []

    class Heard(SilentReporter):
        def say(self, text: str) -> None:
            said.append(text)

    policy = taught("train.objective=utility", gains=earned(0.0, 0.2), reporter=Heard())[2]
    assert policy is not None
    assert policy.wanted == 0.0
    assert policy.reached < 0.0101
    assert "could be chance" in said[0]
    wanted = taught("train.objective=utility", "train.call_share=0.1", gains=earned(0.0, 0.2))[2]
    assert wanted is not None
    assert wanted.reached == pytest.approx(0.1, abs=0.0101)


@pytest.mark.parametrize(("trained_steps", "most"), [(2, 2), (45, 40)])
def test_the_phase_takes_no_longer_than_the_training_did(trained_steps: int, most: int) -> None:
    policy = taught("train.call_share=0.02", "train.learning_rate=1e-4", trained_steps=trained_steps)[2]
    assert policy is not None
    assert policy.steps == most


def test_few_held_out_rows_give_no_calibration() -> None:
    engine = LinearEngine(LinearModel())
    data = PolicyData([], EvalSet(prompts(20, 2), [2] * 20, TOKENS), ONE_THIRD, BASE_RATES, 400)
    config = load_config(None, ["train.policy_steps=0"]).train
    quiet = SilentReporter()
    assert teach_policy(engine.model, engine, data, config, seed=3, reporter=quiet) == (None, None)
    nothing = PolicyData([], EvalSet([], [], TOKENS), ONE_THIRD, BASE_RATES, 400)
    assert teach_policy(engine.model, engine, nothing, config, seed=3, reporter=quiet) == (None, None)


def alike(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> float:
    """Spearman's rank correlation."""
    first, second = (values.argsort().argsort() for values in (left, right))
    return float(np.corrcoef(first, second)[0, 1])
