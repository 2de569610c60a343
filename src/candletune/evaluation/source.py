"""The journal an evaluation judges: read, narrowed, and refused where its numbers could mislead."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from candletune.config import Config
from candletune.console import Reporter
from candletune.errors import InputError
from candletune.files import read_json
from candletune.journal import SIDES, Problems, Role, read_frame
from candletune.runs import RunFolder

BARE: Final = "bare base"


def journal_path(config: Config, run: RunFolder) -> Path:
    """`evaluate.journal` (a shadow test's), or the replay's."""
    return config.evaluate.journal or run.journal


def open_journal(config: Config, run: RunFolder, reporter: Reporter) -> tuple[pl.DataFrame, dict[str, int]]:
    """The journal's rows in time order, and what was left out or is remarkable, counted.

    Raises:
        InputError: no rows, several pairs of models, or rows from the training's time that are not marked as forced.
    """
    path = journal_path(config, run)
    problems = Problems()
    rows = read_frame(path, problems=problems)
    if problems:
        reporter.warn(
            f"{path}: left out {problems.torn} torn and {problems.broken} broken lines and {problems.duplicates} "
            f"duplicates; first: {problems.notes[0]}"
        )
    unordered = int((rows["timestamp"].diff() < timedelta(0)).sum())
    rows = rows.sort("timestamp", "ticker")
    if config.evaluate.start is not None:
        rows = rows.filter(pl.col("timestamp") >= config.evaluate.start)
    if rows.is_empty():
        raise InputError(f"{path}: holds no rows to judge; run `candletune replay`, or set evaluate.start earlier")
    _one_pair_of_models(rows, path)
    _after_training(rows, config, run, path)
    return rows, {
        "torn": problems.torn,
        "broken": problems.broken,
        "duplicates": problems.duplicates,
        "out_of_order": unordered,
        "late": int(rows["late"].sum()),
    }


def models_of(rows: pl.DataFrame, config: Config, run: RunFolder) -> dict[str, Any]:
    """`candidate` and `incumbent` with name and adapter hash: from the replay, or from a shadow journal's rows."""
    if config.evaluate.journal is None:
        replayed = run.stage_summary("replay")
        return {role.value: replayed[role] for role in Role}
    found = {}
    for role in Role:
        hashes = rows.filter(pl.col(f"{role.side}_status") == "ok")[f"{role.side}_adapter"].drop_nulls()
        digest = hashes[0] if len(hashes) else None
        found[role.value] = {"name": BARE if digest is None else digest[:12], "adapter_sha256": digest}
    return found


def _one_pair_of_models(rows: pl.DataFrame, path: Path) -> None:
    """One template and base; and a side's answers are all of one adapter, or all of the bare base."""
    seen = {name: rows[name].unique() for name in ("template_sha256", "base_sha256")}
    for side in SIDES:
        seen[f"{side}_adapter"] = rows.filter(pl.col(f"{side}_status") == "ok")[f"{side}_adapter"].unique()
    for name, values in seen.items():
        if len(values) > 1:
            raise InputError(
                f"{path}: {len(values)} different values of {name}; evaluate one pair of models at a time, for example "
                "with evaluate.start after the last change"
            )


def _after_training(rows: pl.DataFrame, config: Config, run: RunFolder, path: Path) -> None:
    train_end = datetime.fromisoformat(read_json(run.dataset_manifest)["train_end"])
    purge = config.horizon
    seen = int(((rows["timestamp"] < train_end + purge) & ~rows["forced"]).sum())
    if seen:
        raise InputError(
            f"{path}: {seen} rows are before {train_end + purge:%Y-%m-%d %H:%M}, the end of the training data plus "
            "purge; leave them out with evaluate.start"
        )
