"""QuantStats' tear sheet of a run's candidate, beside which docs/report.md holds the report.

    python bench/tear_sheet.py RUN DAYS.csv               daily returns of candidate and holding, after fees
    python bench/tear_sheet.py --sheet DAYS.csv OUT.html  the tear sheet, in an environment with quantstats

The two steps need no package in common: QuantStats is none of candletune's.
"""

import csv
import sys
from importlib import import_module
from pathlib import Path


def write_days(run: Path, out: Path) -> None:
    """Daily returns as the report's ratios are made of them; a day without any is a zero."""
    import polars as pl

    from candletune.config import Config
    from candletune.evaluation.metrics import portfolio_returns
    from candletune.evaluation.ratios import daily

    table = portfolio_returns(pl.read_parquet(run / "evaluation/scored.parquet"), "shadow", Config().evaluate.fee)
    days = table.group_by_dynamic("timestamp", every="1d").agg().upsample("timestamp", every="1d")["timestamp"]
    pl.DataFrame(
        {"day": days.dt.strftime("%Y-%m-%d"), "candidate": daily(table, "net"), "holding": daily(table, "market")}
    ).write_csv(out)


def write_sheet(days: Path, out: Path) -> None:
    """QuantStats' full HTML report, the candidate against holding."""
    import pandas as pd

    quantstats = import_module("quantstats")
    with days.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    index = pd.DatetimeIndex([row["day"] for row in rows])
    candidate, holding = (pd.Series([float(row[name]) for row in rows], index) for name in ("candidate", "holding"))
    quantstats.reports.html(candidate, holding, periods_per_year=365, output=str(out), title="candidate")


if __name__ == "__main__":
    if sys.argv[1] == "--sheet":
        write_sheet(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        write_days(Path(sys.argv[1]), Path(sys.argv[2]))
