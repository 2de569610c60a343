"""The eval rows of a trial: what it is scored on, and what knowing nothing comes to there."""

import math
from dataclasses import dataclass

import polars as pl

from candletune.decisions import DECISIONS
from candletune.hashes import fingerprint
from candletune.runs import RunFolder


@dataclass(frozen=True, slots=True)
class EvalRows:
    """The eval rows at the base rates, on which every trial is scored.

    Attributes:
        rows: their number.
        sha256: hash of asset, timeframe, time and label of each.
        base_log_loss: of their own class shares, in nats.
    """

    rows: int
    sha256: str
    base_log_loss: float


def eval_rows(run: RunFolder) -> EvalRows:
    """Read the dataset's."""
    rows = pl.read_parquet(run.natural_eval, columns=["asset", "timeframe", "decision_time", "label"])
    shares = [int((rows["label"].cast(pl.String) == name).sum()) / max(1, len(rows)) for name in DECISIONS]
    entropy = -sum(share * math.log(share) for share in shares if share)
    text = rows.with_columns(pl.all().cast(pl.String)).rows()
    return EvalRows(len(rows), fingerprint([list(row) for row in text]), entropy)
