"""A part of every fold, on record: what failed is in `walk.json`, and said when the others are done."""

from collections.abc import Sequence

from candletune.artifacts import Walk
from candletune.config import Config
from candletune.console import Reporter
from candletune.experiments.walk.folds import Fold, Part
from candletune.experiments.walk.record import keep_record
from candletune.experiments.walk.spread import FoldsFailed, Spread
from candletune.runs import RunFolder


def do_part(
    folds: Sequence[Fold], part: Part, config: Config, own: RunFolder, reporter: Reporter, spread: Spread
) -> Walk:
    """A part of every fold.

    Raises:
        FoldsFailed: of at least one it failed; `walk.json` says which.
    """
    names = {fold.period.number: fold.period.name for fold in folds}
    failed = []
    for ended in spread(folds, part, reporter):
        if ended.problem:
            failed.append((names[ended.number], ended))
            reporter.warn(f"period {names[ended.number]} failed: {ended.problem}")
    record = keep_record(folds, config, own, {ended.number: ended.problem for _, ended in failed})
    if failed:
        raise FoldsFailed(failed, len(folds) - len(failed))
    return record
