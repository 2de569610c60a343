"""Whether the judged rows came after both trainings, by what the models' own files say."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import polars as pl

from candletune.artifacts import DatasetManifest, JudgedModel, ReplaySummary, TrainingEnds
from candletune.config import Config
from candletune.console import Reporter
from candletune.decide import training_end_of
from candletune.errors import InputError
from candletune.journal import Role
from candletune.runs import RunFolder


def check_unseen(
    rows: pl.DataFrame,
    models: Mapping[Role, JudgedModel],
    config: Config,
    run: RunFolder,
    reporter: Reporter,
) -> TrainingEnds:
    """Refuse rows that one of the models was trained on and that are not marked as forced.

    Args:
        rows: with `timestamp` and `forced`.
        models: who is judged.
        config: names the journal, the purge, and the files on record.
        run: the run folder; its dataset speaks for a candidate whose file says nothing.
        reporter: told when nobody can say.

    Returns:
        What the models' files say.

    Raises:
        InputError: there are such rows.
    """
    path = config.evaluate.journal or run.journal
    found = _ends(models, config, run)
    known = {f"the {role}'s": datetime.fromisoformat(end) for role, end in _by_role(found).items() if end is not None}
    if found.candidate is None:
        if run.dataset_manifest.is_file():
            known["the"] = DatasetManifest.read(run.dataset_manifest).train_end
        else:
            reporter.warn(
                f"{path}: {run.path} has no dataset and the candidate's file does not say when its training ended, so "
                "nobody checked whether the training saw these rows, and no baselines are fitted"
            )
    for whose, end in known.items():
        _refuse(rows, path, whose, end + config.horizon)
    return found


def _ends(models: Mapping[Role, JudgedModel], config: Config, run: RunFolder) -> TrainingEnds:
    """As the replay found them; of a shadow test's journal by the hashes in it."""
    if config.evaluate.journal is None:
        return run.summary(ReplaySummary).training_ends
    ends = {role: training_end_of(config, run, model.adapter_sha256) for role, model in models.items()}
    texts = {role: None if end is None else end.isoformat() for role, end in ends.items()}
    return TrainingEnds(candidate=texts[Role.CANDIDATE], incumbent=texts[Role.INCUMBENT])


def _by_role(ends: TrainingEnds) -> dict[str, str | None]:
    return {"candidate": ends.candidate, "incumbent": ends.incumbent}


def _refuse(rows: pl.DataFrame, path: Path, whose: str, earliest: datetime) -> None:
    seen = int(((rows["timestamp"] < earliest) & ~rows["forced"]).sum())
    if seen:
        raise InputError(
            f"{path}: {seen} rows are before {earliest:%Y-%m-%d %H:%M}, the end of {whose} training data plus purge; "
            "leave them out with evaluate.start"
        )


def provenance_notes(ends: TrainingEnds, models: Mapping[Role, JudgedModel]) -> tuple[str, ...]:
    """When both trainings ended, in a sentence each."""
    notes = []
    for role, end in ((Role.CANDIDATE, ends.candidate), (Role.INCUMBENT, ends.incumbent)):
        if end is not None:
            notes.append(
                f"The {role}'s training ended {datetime.fromisoformat(end):%Y-%m-%d %H:%M} UTC (its own file)."
            )
        elif models[role].adapter_sha256 is None:
            notes.append(f"The {role} is the bare base: when its pretraining ended is unknown.")
        else:
            notes.append(
                f"When the {role}'s training ended is unknown: its file does not say or is not here, so nobody checked "
                "whether it saw these rows."
            )
    return tuple(notes)
