"""A verdict on a training of which only decision probabilities are known, by candletune's own evaluation.

The wanted share of calls (as often as the labels call) is not taught to the adapter here, but put on its probabilities:
the offsets at which the policy phase aims (`candletune.training.policy`), fitted by the same functions on the same
natural rows. Probabilities are calibrated as that phase calibrates them. Then both models' decisions go into a journal,
and `candletune.evaluation.judge` judges it as `candletune evaluate` would: the full rule, the training's dataset, the
candles that followed. Each verdict has a ledger of its own, so each is the first try on its candles. Baselines, which
decide nothing unless `evaluate.must_beat` names them, are left out, and there are no reasons to check.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.calibration import Calibration, call_offset, call_share, fit_calibration, prior_offsets
from candletune.console import SilentReporter
from candletune.decisions import DECISIONS
from candletune.evaluation.judge import judge
from candletune.hashes import sha256_bytes
from candletune.journal import Journal, Row, Side
from recipes import REPLAYED, market_run

CALLS = np.array([1.0, 1.0, 0.0])
Floats = NDArray[np.float64]


def with_policy(said: Floats, natural: Floats, market: Any) -> tuple[Floats, Floats, float]:
    """Decision probabilities once the wanted share of calls is in them, calibrated ones, and natural rows' call share.

    Args:
        said: (n, 3), as trained.
        natural: (m, 3), as trained, of the natural rows.
        market: `shares` of the training examples, `prior` of the period, and the natural rows' `labels`.
    """
    undo = np.array(prior_offsets(market["shares"], market["prior"]))
    shift = call_offset(Calibration(offsets=tuple(undo)).apply(natural), float(market["prior"][:2].sum()))
    policy = Calibration(offsets=tuple(undo + shift * CALLS))
    taught = policy.apply(natural)
    calibration = fit_calibration(taught, market["labels"].astype(np.int64), tuple(-shift * CALLS))
    decided = policy.apply(said)
    return decided, calibration.apply(decided), call_share(taught)


def verdict_on(folder: Path, market: str, name: str, base: Floats, trained: dict[str, Floats]) -> dict[str, Any]:
    """The verdict on a training against the bare base, over the market's replay.

    Args:
        folder: from `recipes.py prepare`.
        market: its name.
        name: of the training; its hash stands for the adapter's.
        base: (n, 3), the bare base's probabilities of the replay's rows.
        trained: `natural` (m, 3) and `replay` (n, 3), the training's.
    """
    data = dict(np.load(folder / f"{market.replace(' ', '_')}.npz"))
    doubles = {key: values.astype(np.float64) for key, values in trained.items()}
    decided, calibrated, natural_calls = with_policy(doubles["replay"], doubles["natural"], data)
    with tempfile.TemporaryDirectory() as scratch:
        journal = Path(scratch) / "ab_test_log.jsonl"
        settings = (
            f"evaluate.journal={journal}",
            f"evaluate.ledger={scratch}/ledger.jsonl",
            f"live.state={scratch}/active.json",
            "evaluate.baselines=false",
        )
        config, run = market_run(folder, market, *settings)
        rows = pl.read_parquet(run.path / REPLAYED)
        sides = zip(
            rows.iter_rows(named=True),
            _sides(base.astype(np.float64), base.astype(np.float64), None),
            _sides(decided, calibrated, sha256_bytes(name.encode())),
            strict=True,
        )
        Journal(journal).append_many(
            [
                Row(
                    timestamp=row["decision_time"],
                    ticker=row["asset"],
                    price=row["close"],
                    prompt_sha256=row["prompt_sha256"],
                    template_sha256="bench",
                    base_sha256="bench",
                    active=active,
                    shadow=shadow,
                    mode="replay",
                )
                for row, active, shadow in sides
            ]
        )
        found = judge(config, run, SilentReporter())
    metrics, verdict = found.metrics, found.verdict
    gain = metrics.comparison.accuracy_signals
    return {
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "unmet": [one.name for one in verdict.criteria if one.decides and one.passed is False],
        "rows": verdict.rows,
        "accuracy": metrics.shadow.accuracy_signals,
        "base_accuracy": metrics.active.accuracy_signals,
        "gain": [gain.value, gain.low, gain.high],
        "against": metrics.comparison.against,
        "effective": metrics.comparison.effective,
        "shares": metrics.shadow.shares,
        "base_shares": metrics.active.shares,
        "natural_calls": round(natural_calls, 4),
    }


def _sides(decided: Floats, calibrated: Floats, adapter: str | None) -> list[Side]:
    """Each row's decision, by what is said first, with calibrated probabilities."""
    return [
        Side(
            "ok",
            DECISIONS[int(own.argmax())],
            probabilities=dict(zip(DECISIONS, map(float, told / told.sum()), strict=True)),
            adapter_sha256=adapter,
        )
        for own, told in zip(decided, calibrated, strict=True)
    ]
