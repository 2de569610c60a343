"""`train.objective = "utility"`: what is earned, its exact gradient in every engine, and the way there from labels."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from candletune.artifacts import CandidateRows, DatasetManifest
from candletune.artifacts.dataset import Candidates
from candletune.base.chat import DecisionTokens
from candletune.config import TrainConfig, load_config
from candletune.dataset import example_volatility
from candletune.errors import InputError, UsageError
from candletune.training.engine import EngineSetup
from candletune.training.engines import engine_names, open_engine
from candletune.training.examples import DecisionUtility, TokenizedExample
from candletune.training.fast.engine import FastEngine
from candletune.training.fast.graphs import TARGET_STEP, pad
from candletune.training.fast.ops import decisions_grad
from candletune.training.fast.plan import Plan
from candletune.training.fast.weights import GradientSums
from candletune.training.targets import action_gains, hours_each, with_targets
from candletune.training.utility import decision_terms, decisions_loss, utility_loss, warm_share, with_share
from training_models import examples, gradients, plain_loss, tiny_model

IDS = (20, 21, 22)
GAINS = ((1.4, -1.6, 0.0), (-2.2, 2.0, 0.0), (-0.3, -0.1, 0.0), (3.0, -3.0, 0.0), (0.2, -0.5, 0.0))
WHOLE = Plan(99, 99, False, False, True, 4096)


def useful(rows: Sequence[TokenizedExample], share: float = 0.7, temperature: float = 0.9) -> list[TokenizedExample]:
    """All but the last with a utility."""
    aims = ((1.0, 0.0, 0.0), (0.0, 0.7, 0.3), (0.0, 0.0, 1.0))
    found = [
        replace(row, utility=DecisionUtility(IDS, aims[k % 3], GAINS[k % 5], 0.4 + 0.5 * k, temperature, share))
        for k, row in enumerate(rows)
    ]
    return [*found[:-1], rows[-1]] if len(rows) > 1 else found


def documented(logits: Tensor, row: TokenizedExample) -> Tensor:
    """The loss of one decision as the documentation writes it."""
    utility = row.utility
    assert utility is not None
    vocabulary = logits.softmax(-1)
    p = vocabulary[list(utility.ids)] / vocabulary[list(utility.ids)].sum()
    expected = (p * torch.tensor(utility.gains)).sum()
    entropy = -(p * p.log()).sum()
    label = -(torch.tensor(utility.aims) * p.log()).sum()
    outside = -vocabulary[list(utility.ids)].sum().log()
    worth = expected + utility.temperature * entropy
    return outside + (1 - utility.share) * label - utility.share * utility.weight * worth


def documented_loss(model: torch.nn.Module, rows: Sequence[TokenizedExample]) -> Tensor:
    """One row at a time, by autograd alone."""
    total = torch.zeros(())
    for row in rows:
        others = list(row.weights)
        if row.utility is not None:
            place = row.decision_index - row.prompt_length
            others[place] = 0.0
            logits = model(input_ids=torch.tensor([row.ids])).logits[0, row.decision_index - 1].float()
            total = total + row.weights[place] * documented(logits, row)
        total = total + plain_loss(model, [replace(row, weights=tuple(others), soft=(), utility=None)])
    return total


@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("name", engine_names())
def test_every_engine_has_autograds_gradient(name: str, share: float, temperature: float) -> None:
    rows, model = useful(examples(5, 9), share, temperature), tiny_model()
    expected = documented_loss(model, rows)
    torch.autograd.backward(expected)
    wanted = gradients(model)
    config = TrainConfig(backend=name, effective_batch=5, batch_size=2, vram_gib=1.0)
    engine = open_engine(tiny_model(), EngineSetup(config, rows, pad=0, say=lambda _: None))
    total = weight = 0.0
    for start in range(0, len(rows), engine.call_size):
        loss, part = engine.loss(rows[start : start + engine.call_size])
        torch.autograd.backward(loss)
        total, weight = total + loss.item(), weight + part
    assert weight == sum(sum(row.weights) for row in rows)
    assert total == pytest.approx(expected.item(), rel=1e-5)
    for key, grad in gradients(engine.model).items():
        assert (grad - wanted[key]).norm() <= 1e-5 * wanted[key].norm(), key
    assert engine.evaluate(rows)[0] == pytest.approx(documented_loss(tiny_model().eval(), rows).item(), rel=1e-5)


def test_the_formulas_are_autograds_in_double_precision() -> None:
    """Beyond what float32 can tell."""
    draw = torch.Generator().manual_seed(2)
    rows = useful(examples(40, 3), share=0.6)
    terms = decision_terms(rows, range(39))
    logits = (torch.randn(39, 200, generator=draw, dtype=torch.float64) * 2).requires_grad_()
    expected = decisions_loss(logits, terms)
    torch.autograd.backward(expected)
    total, found = decisions_grad(logits.detach(), terms)
    assert logits.grad is not None
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert (found - logits.grad).norm() <= 1e-6 * logits.grad.norm()


def test_what_is_learned_is_the_softmax_of_what_is_expected() -> None:
    """Two outcomes of one hour, three to one: the loss is least where the log-odds are the expected earnings over T."""
    first, second = (1.4, -1.6, 0.0), (-2.2, 2.0, 0.0)
    row = examples(1, 3)[0]
    rows = [replace(row, utility=DecisionUtility(IDS, (1.0, 0.0, 0.0), g, 1.0, 0.5)) for g in (first,) * 3 + (second,)]
    terms = decision_terms(rows, range(4))
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=100, tolerance_grad=1e-10)

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = utility_loss(logits.expand(4, 3), terms).sum()
        torch.autograd.backward(found)
        return found

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    expected = (3 * torch.tensor(first) + torch.tensor(second)) / 4
    odds = (logits - logits[2]).detach()
    assert odds.tolist() == pytest.approx((expected / 0.5).tolist(), abs=1e-4)


def test_a_share_of_nothing_is_the_labels_loss() -> None:
    rows, model = examples(4, 6), tiny_model().eval()
    hard = [replace(row, ids=(*row.ids[: row.decision_index], 21, *row.ids[row.decision_index + 1 :])) for row in rows]
    asked = [replace(row, utility=DecisionUtility(IDS, (0.0, 1.0, 0.0), GAINS[0], share=0.0)) for row in hard]
    assert documented_loss(model, asked).item() == pytest.approx(plain_loss(model, hard).item(), rel=1e-6)


def test_a_row_of_padding_changes_no_gradient() -> None:
    """CUDA graphs record padded batches: terms of padding weigh nothing."""
    model, rows = tiny_model().train(), useful(examples(5, 9))
    engine = FastEngine(model, WHOLE, say=pytest.fail)
    wanted, grads = engine.gradients(rows, seed=5)
    padded = pad(rows)
    assert len(padded.terms.decisions.positions) == TARGET_STEP
    with torch.no_grad():
        engine._sums = sums = GradientSums(engine.parameters)
        total = engine._pass(padded.packed, padded.to(torch.device("cpu")).terms, engine._seeds(5))
    assert total.item() == pytest.approx(wanted.item(), rel=1e-5)
    for found, grad in zip(sums.of(engine.parameters), grads, strict=True):
        assert (found - grad).norm() <= 1e-5 * grad.norm()


def test_what_actions_earn_on_literal_returns() -> None:
    config = load_config(None, ["train.utility_fee=0.002", "train.utility_cap=3", "train.utility_risk=0.5"]).train
    found = action_gains(np.array([0.012, -0.2, 0.0]), np.array([0.01, 0.02, 0.0]), config)
    buy, sell = 1.0 - 0.25 * 1.0, -1.4 - 0.25 * 1.96
    assert found[0] == pytest.approx([buy, sell, 0.0])
    assert found[1] == pytest.approx([-3 - 0.25 * 9, 3 - 0.25 * 9, 0.0])
    assert found[2] == pytest.approx([-3 - 0.25 * 9, -3 - 0.25 * 9, 0.0]), "no market that stands still pays the fee"


def test_warm_up_goes_from_labels_to_utility() -> None:
    assert [warm_share(step, 100, 0.5) for step in (0, 25, 50, 99)] == [0.0, 0.5, 1.0, 1.0]
    assert warm_share(0, 100, 0.0) == 1.0
    rows = with_share(useful(examples(3, 2)), 0.25)
    assert [None if row.utility is None else row.utility.share for row in rows] == [0.25, 0.25, None]


def candles(folder: Path, hours: int) -> None:
    """Closes whose hourly returns have standard deviation 0.01, then 0.03."""
    sigma = np.where(np.arange(hours) < hours // 2, 0.01, 0.03)
    close = 100 * np.cumprod(1 + np.random.default_rng(5).normal(0, 1, hours) * sigma)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    dates = pl.Series([start + timedelta(hours=hour) for hour in range(hours)]).dt.cast_time_unit("ms")
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    pl.DataFrame({"date": dates, **prices, "volume": 1.0}).write_ipc(folder / "BTC_USDT-1h.feather")


def test_volatility_is_what_was_known_at_the_decision(tmp_path: Path) -> None:
    candles(tmp_path, 2000)
    config = load_config(None, [f"data.folder={tmp_path}", "data.pairs=BTC/USDT"])
    start = datetime(2024, 1, 1, tzinfo=UTC)
    times = [start + timedelta(hours=hour) for hour in (20, 900, 1000, 1900)]
    meta = pl.DataFrame({"asset": ["BTC"] * 4, "decision_time": pl.Series(times).dt.cast_time_unit("us")})
    found = example_volatility(config, meta)
    root = math.sqrt(12)
    assert found[1] == pytest.approx(0.01 * root, rel=0.15)
    assert found[2] == pytest.approx(0.01 * root, rel=0.15), "the wilder half begins with this hour's candle"
    assert found[3] == pytest.approx(0.03 * root, rel=0.15)
    assert found[0] == pytest.approx(np.median(found[1:])), "no whole window yet"
    with pytest.raises(InputError, match="volatility_window = 168"):
        example_volatility(config, meta.head(1))


def test_objectives_in_the_configuration() -> None:
    assert load_config(None, ["train.objective=soft"]).train.soft_target == 1.0
    assert load_config(None, ["train.objective=soft", "train.soft_target=0.3"]).train.soft_target == 0.3
    assert load_config(None).train.objective == "labels"
    for wrong in ("objective=money", "utility_cap=0", "utility_temperature=-1", "utility_warmup=2", "utility_fee=-1"):
        with pytest.raises(UsageError, match=rf"train\.{wrong.partition('=')[0]}"):
            load_config(None, [f"train.{wrong}"])


def test_an_hour_weighs_as_an_hour() -> None:
    """Ten of a month's thousand HOLD hours and ten of its hundred BUY hours: each stands for its share."""
    share = {"BUY": 0.1, "SELL": 0.0, "HOLD": 0.9}
    months = {"2024-01": CandidateRows(rows=1000, **share)}
    start = datetime(2024, 1, 1, tzinfo=UTC)
    meta = pl.DataFrame(
        {
            "decision_time": [start + timedelta(hours=hour) for hour in range(25)],
            "label": ["BUY"] * 10 + ["HOLD"] * 10 + ["BUY"] * 5,
            "split": ["train"] * 20 + ["eval"] * 5,
        }
    )
    found = hours_each(meta, months)
    assert found[:20] == pytest.approx([0.2] * 10 + [1.8] * 10)
    assert found[20:] == pytest.approx([1.0] * 5)


def test_the_dataset_says_what_each_example_earns(tmp_path: Path) -> None:
    candles(tmp_path, 900)
    settings = [f"data.folder={tmp_path}", "data.pairs=BTC/USDT", "train.objective=utility"]
    config = load_config(None, [*settings, "train.utility_temperature=0.2"])
    start = datetime(2024, 1, 9, tzinfo=UTC)
    meta = pl.DataFrame(
        {
            "asset": ["BTC"] * 3,
            "decision_time": pl.Series([start + timedelta(hours=h) for h in range(3)]).dt.cast_time_unit("us"),
            "forward_return": [0.03, -0.01, -0.05],
            "label": ["BUY", "HOLD", "SELL"],
            "split": ["train"] * 3,
        }
    )
    months = {"2024-01": CandidateRows(rows=100, BUY=0.1, SELL=0.2, HOLD=0.7)}
    manifest: Any = DatasetManifest  # of which only this is asked
    parts: Any = Candidates
    candidates = parts.model_construct(by_month=months)
    plain = [TokenizedExample((9, token), 1, 1, (20.0,)) for token in (20, 22, 21)]
    made = with_targets(plain, DecisionTokens((), IDS), meta, manifest.model_construct(candidates=candidates), config)
    gains = action_gains(meta["forward_return"].to_numpy(), example_volatility(config, meta), config.train)
    found = [example.utility for example in made]
    assert [utility and utility.weight for utility in found] == pytest.approx([0.3, 2.1, 0.6])
    assert [utility and utility.aims.index(1.0) for utility in found] == [0, 2, 1]
    assert [utility and utility.temperature for utility in found] == [0.2] * 3
    assert np.array([utility.gains for utility in found if utility]) == pytest.approx(gains)
    labels = config.model_copy(update={"train": config.train.model_copy(update={"objective": "labels"})})
    assert with_targets(plain, DecisionTokens((), IDS), meta, manifest.model_construct(), labels) == plain
