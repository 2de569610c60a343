"""The decision policy goes into the weights: what the adapter says first is what is judged, and what acts.

Balanced examples teach balanced odds, under which a model calls BUY or SELL nearly always. How often it is to act is
therefore taught in a short phase behind the training: on its own training prompts, each decision token's target is the
model's own answer, corrected to the base rates and shifted between HOLD and the two calls so that the wanted share of
held-out rows is called. Nothing is left for whoever serves the adapter to correct. The phase learns no new label, so
which rows are called first stays as it was.

Under the utility the adapter stays as the loss left it; where what its calls earned on the held-out rows could be
chance, it is taught to hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from candletune.artifacts import DecisionPolicy, ProbabilityCalibration
from candletune.base.chat import DecisionTokens
from candletune.calibration import (
    HOLD,
    LEAST_ROWS,
    PAYS,
    Calibration,
    call_margins,
    call_offset,
    call_share,
    earned_by_calls,
    fit_calibration,
    prior_offsets,
)
from candletune.config import TrainConfig
from candletune.console import Reporter, SilentReporter, Task
from candletune.decisions import DECISIONS
from candletune.files import temporary_folder
from candletune.training.engine import TrainingEngine
from candletune.training.evaluation import EvalSet
from candletune.training.examples import TokenizedExample
from candletune.training.recipe import train_adapter
from candletune.training.watch import TrainingFiles, Watcher

ROUNDS = 12
TOLERANCE = 0.0101
"""The phase ends when the share of calls on the held-out rows is this close to the wanted one (a point)."""
LAG = 0.25
"""Log-odds between calls and HOLD, on average over the held-out rows: further than this from its targets the model is
still on its way to them, and what is missing of the wanted share says nothing of the targets."""
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Shares = tuple[float, float, float]
NONE = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class PolicyData:
    """What the phase works on.

    Attributes:
        examples: training examples; a part of them is used.
        held_out: rows at the base rates, with labels.
        trained_shares: class shares of the training examples.
        base_rates: class shares as they occur.
        trained_steps: of the training; the phase takes no more.
        gains: what each decision would have earned on the held-out rows, (n, 3); None: under labels.
        days: of the held-out rows, (n,).
    """

    examples: Sequence[TokenizedExample]
    held_out: EvalSet
    trained_shares: Shares
    base_rates: Shares
    trained_steps: int
    gains: Floats | None = None
    days: Ints | None = None

    def wanted(self, config: TrainConfig, natural: Floats, reporter: Reporter) -> float:
        """The share of calls to teach: the configured one, as the model has it or none, or as often as the labels call.

        Args:
            config: `call_share`.
            natural: probabilities of the held-out rows, (n, 3), as the model says them.
            reporter: told what the calls earned.
        """
        if config.call_share is not None:
            return config.call_share
        if self.gains is None or self.days is None:
            return sum(self.base_rates[:HOLD])
        share, errors = call_share(natural), earned_by_calls(natural, self.gains, self.days)
        if errors < PAYS:
            reporter.say(
                f"what calls on {share:.1%} of {len(natural)} held-out rows earned could be chance ({errors:.2f} "
                f"standard errors, {PAYS:.2f} wanted): the adapter is taught to hold; raise dataset.natural_eval to "
                "see more, or set train.call_share"
            )
            return 0.0
        reporter.say(f"calls on {share:.1%} of {len(natural)} held-out rows pay ({errors:.1f} standard errors)")
        return share


def teach_policy(
    model: Any, engine: TrainingEngine, data: PolicyData, config: TrainConfig, *, seed: int, reporter: Reporter
) -> tuple[DecisionPolicy | None, ProbabilityCalibration | None]:
    """Teach the wanted share of calls, and fit what gives calibrated probabilities back.

    Args:
        model: the trained model; its adapter is changed.
        engine: what trains and asks it.
        data: see there.
        config: `call_share`, `policy_steps` and the recipe.
        seed: of the examples' order.
        reporter: progress, a task a round.

    Returns:
        The policy (None with `policy_steps` 0 or without held-out rows), and the calibration (None with few rows).
    """
    held_out, undo = data.held_out, np.array(prior_offsets(data.trained_shares, data.base_rates))
    if not held_out.prompts:
        return None, None
    natural = first = _asked(engine, held_out.prompts, held_out.tokens)
    if not config.policy_steps:
        return None, _calibration(natural, held_out.labels, undo)
    wanted = data.wanted(config, natural, reporter)
    if data.gains is not None and abs(call_share(natural) - wanted) <= TOLERANCE:
        as_it_is = DecisionPolicy(wanted=wanted, reached=call_share(natural), rows=len(natural), steps=0, offsets=NONE)
        return as_it_is, _calibration(natural, held_out.labels, undo)
    config = config.model_copy(update={"policy_steps": min(config.policy_steps, data.trained_steps)})
    order = np.random.default_rng(seed).permutation(len(data.examples))
    chosen = [data.examples[row] for row in order[: config.policy_steps * config.effective_batch]]
    before = _asked(engine, [example.ids[: example.prompt_length] for example in chosen], held_out.tokens)
    shift = call_offset(Calibration(offsets=_three(undo)).apply(natural), wanted)
    best: _Round | None = None
    steps, rate = 0, config.learning_rate
    for _ in range(min(ROUNDS, data.trained_steps // config.policy_steps)):
        offsets = _between(undo, shift)
        rows = [
            replace(example, soft=tuple(zip(held_out.tokens.ids, map(float, target), strict=True)), utility=None)
            for example, target in zip(chosen, Calibration(offsets=offsets).apply(before), strict=True)
        ]
        with reporter.task("training: how often to act", config.policy_steps) as task:
            recipe = config.model_copy(update={"learning_rate": rate})
            steps += _train(model, engine, rows, held_out.tokens, recipe, seed=seed, task=task)
        natural = _asked(engine, held_out.prompts, held_out.tokens)
        off = abs(call_share(natural) - wanted)
        if best is None or off < best.off:
            best = _Round(off, shift, offsets, natural, _weights(model))
        if off <= TOLERANCE:
            break
        aimed = Calibration(offsets=offsets).apply(first)
        if abs(float((call_margins(aimed) - call_margins(natural)).mean())) <= LAG:
            shift += call_offset(natural, wanted)
            rate /= 2  # near the targets large steps only shake the answers
    if best is None:
        return None, _calibration(natural, held_out.labels, undo)
    for name, weight in best.weights.items():
        model.get_parameter(name).data.copy_(weight)
    reached = call_share(best.natural)
    policy = DecisionPolicy(wanted=wanted, reached=reached, rows=len(natural), steps=steps, offsets=best.offsets)
    return policy, _calibration(best.natural, held_out.labels, _between(np.zeros(3), -best.shift))


@dataclass(frozen=True, slots=True)
class _Round:
    """An adapter on the way: how far its share of calls is off, what it was aimed at, and what it is."""

    off: float
    shift: float
    offsets: Shares
    natural: Floats
    weights: dict[str, Tensor]


def _weights(model: Any) -> dict[str, Tensor]:
    """The adapter's weights by name, copied."""
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}


def _between(undo: Floats, shift: float) -> Shares:
    """Log-odds (3,): to the base rates, then from HOLD to both calls."""
    return _three(undo + np.array([shift, shift, 0.0]))


def _asked(engine: TrainingEngine, prompts: Sequence[Sequence[int]], tokens: DecisionTokens) -> Floats:
    """Probabilities (n, 3), in the order of the prompts; asked by length, so that little is padded."""
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    found = np.empty((len(prompts), len(DECISIONS)))
    found[order] = engine.decision_probabilities([prompts[row] for row in order], tokens).numpy()
    return found


def _train(
    model: Any,
    engine: TrainingEngine,
    rows: Sequence[TokenizedExample],
    tokens: DecisionTokens,
    config: TrainConfig,
    *,
    seed: int,
    task: Task,
) -> int:
    """A few steps at a rate that falls to nothing, without evaluations or checkpoints; returns how many."""
    short = config.model_copy(
        update={
            "max_steps": config.policy_steps,
            "schedule": "linear",
            "warmup": 0.0,
            "eval_steps": 0,
            "patience": 0,
            "save_steps": config.policy_steps + 1,
        }
    )
    nothing = EvalSet([], [], tokens)
    with temporary_folder() as scratch:
        files = TrainingFiles(scratch / "metrics.jsonl", scratch / "checkpoints")
        watcher = Watcher(engine, nothing, short, files=files, task=task, reporter=SilentReporter())
        return train_adapter(model, rows, short, watcher=watcher, resume=None, seed=seed).steps


def _calibration(probabilities: Floats, labels: Sequence[int], known: Floats | Shares) -> ProbabilityCalibration | None:
    outcomes = np.array(labels, dtype=np.int64)
    if len(outcomes) < LEAST_ROWS:
        return None
    fitted = fit_calibration(probabilities, outcomes, _three(known))
    told = fitted.apply(probabilities)[np.arange(len(outcomes)), outcomes]
    return ProbabilityCalibration(
        temperature=fitted.temperature,
        offsets=fitted.offsets,
        rows=fitted.rows,
        log_loss=float(-np.log(np.maximum(told, 1e-12)).mean()),
    )


def _three(values: Floats | Shares) -> Shares:
    return float(values[0]), float(values[1]), float(values[2])
