"""Put a walk on record when everything is trained and nothing is replayed: its one look may use a narrower bound."""

from collections.abc import Sequence

import polars as pl

from candletune.config import Config
from candletune.console import Reporter
from candletune.errors import UsageError
from candletune.evaluation.tries import attempt_of, ledger_of
from candletune.experiments.walk.folds import Fold
from candletune.experiments.walk.models import asked_rows, fold_models, together
from candletune.journal import Problems, Role, read_frame
from candletune.runs import RunFolder
from candletune.stages.runner import is_current


def register_walk(folds: Sequence[Fold], config: Config, run: RunFolder, reporter: Reporter) -> None:
    """Register all periods' models, decision times and rule, unless that is done or can no longer be done.

    Args:
        folds: all trained.
        config: the walk's.
        run: the walk's folder.
        reporter: told what is on record.

    Raises:
        InputError: a model is missing, a period reaches into what one was trained on, or the ledger cannot be written.
    """
    if all(is_current(item, fold.config, fold.run) for fold in folds for item in fold.stages("replay")):
        return
    models = [fold_models(fold) for fold in folds]
    rows = pl.concat([asked_rows(fold) for fold in folds]).sort("timestamp", "ticker")
    attempt = attempt_of(rows, together(models), config, source="replay", run=run.path)
    ledger = ledger_of(config)
    if ledger.registration(attempt) is not None:
        return
    if any(_begun(fold, each[Role.CANDIDATE].adapter_sha256) for fold, each in zip(folds, models, strict=True)):
        reporter.say(
            "not registered: a period was replayed before, with other periods, models or rule; the bounds are those of "
            "a look that may be repeated"
        )
        return
    try:
        spent = ledger.register(attempt)
    except UsageError as error:
        reporter.say(f"not registered: {str(error).removeprefix('--register: ')}")
        return
    reporter.say(
        f"registered: {len(folds)} trainings, {len(rows)} decisions; try {spent.number} on these candles, which may "
        f"err with {spent.level:.2%}"
    )


def _begun(fold: Fold, candidate: str | None) -> bool:
    """Whether the candidate has answered already."""
    path = fold.run.journal
    return path.exists() and bool((read_frame(path, problems=Problems())["shadow_adapter"] == candidate).any())
