"""The `replay` stage: incumbent and candidate over decision times neither was trained on, into the A/B journal.

Decisions come from the logits at the decision token; reasons are written for a sample only. An interrupted replay goes
on behind the last row on disk.
"""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from candletune.artifacts import DatasetManifest, ExportSummary, JudgedModel, ReplaySummary, TrainingEnds
from candletune.config import SERVER_KEYS, Config
from candletune.console import Reporter
from candletune.dataset.unseen import candle_files, held_out_rows
from candletune.decide import Model, Predictor, bare_base, differing_context, told_in, training_end
from candletune.engines import base_gguf
from candletune.files import atomic_path, move, read_json, remove, write_json
from candletune.hashes import fingerprint, sha256_path
from candletune.journal import Journal, Role, Row, Side, read_frame
from candletune.live.models import candidate_model, compared_incumbent
from candletune.runs import RunFolder
from candletune.stages.runner import Stage

UNTUNED_ROWS = 2000
"""Rows, evenly spread, on which the bare base is asked too when it is not the incumbent: a baseline, no contestant."""
BATCH = 64
"""Rows scored, and written with one fsync, at a time."""


def replay(config: Config, run: RunFolder, reporter: Reporter) -> ReplaySummary:
    """The stage's work; returns the summary."""
    candidate = candidate_model(run)
    incumbent, named_in = compared_incumbent(config, candidate)
    rows, forced = unseen_rows(config, run, candidate, incumbent)
    done = _resume(run.journal, run.replay_fingerprint, _replay_fingerprint(config, run))
    if done:
        reporter.say(f"resuming the replay behind {done} rows")
    start = time.monotonic()
    predictor = Predictor(config, run)
    row_of = partial(
        Row,
        template_sha256=predictor.template.sha256,
        base_sha256=sha256_path(base_gguf(config, run)),
        mode="replay",
        forced=forced,
    )
    reasons = _reason_rows(len(rows), config.replay.reasons)
    try:
        for model in (incumbent, candidate):
            predictor.load(model)  # a wrong file is refused before the first row
        told = told_in(rows.iter_rows(named=True))
        for model in (incumbent, candidate):
            for sentence in differing_context(predictor.facts(model), told, predictor.template):
                reporter.warn(f"{model.name}: {sentence}")
        journal = Journal(run.journal)
        with reporter.task("replay", len(rows)) as task:
            task.resume(done)
            for offset in range(done, len(rows), BATCH):
                part = rows[offset : offset + BATCH]
                wanted = {number - offset for number in reasons}
                active, shadow = (_sides(predictor, model, part, wanted) for model in (incumbent, candidate))
                journal.append_many(
                    [
                        row_of(
                            timestamp=row["decision_time"],
                            ticker=row["asset"],
                            price=row["close"],
                            prompt_sha256=row["prompt_sha256"],
                            active=left,
                            shadow=right,
                        )
                        for row, left, right in zip(part.iter_rows(named=True), active, shadow, strict=True)
                    ]
                )
                task.advance(len(part))
        _ask_untuned(run.untuned, predictor, rows, reporter, wanted=incumbent.kind != "base")
    finally:
        predictor.close()
    models = {Role.INCUMBENT: incumbent, Role.CANDIDATE: candidate}
    summary = _summary(rows, models, named_in, forced, round(time.monotonic() - start, 3))
    return summary.model_copy(update={"training_ends": training_ends(candidate, incumbent)})


def unseen_rows(config: Config, run: RunFolder, candidate: Model, incumbent: Model) -> tuple[pl.DataFrame, bool]:
    """Decision rows that neither model was trained on, and whether some were (only with `replay.force`).

    What a model was trained on its own file says. Only where the candidate's does not, the run's dataset speaks for it.

    Raises:
        InputError: the range reaches into what one of them was trained on, or holds nothing.
    """
    manifest = DatasetManifest.read(run.dataset_manifest)
    own = training_end(candidate)
    ends = {"the": manifest.train_end} if own is None else {f"the candidate's ({candidate.name})": own}
    if (end := training_end(incumbent)) is not None:
        ends[f"the incumbent's ({incumbent.name})"] = end
    whose = max(ends, key=lambda name: ends[name])
    return held_out_rows(config, ends[whose], manifest.test_start, whose=whose)


def training_ends(candidate: Model, incumbent: Model) -> TrainingEnds:
    """What both files say."""
    ends = [training_end(model) for model in (candidate, incumbent)]
    texts = [None if end is None else end.isoformat() for end in ends]
    return TrainingEnds(candidate=texts[0], incumbent=texts[1])


def _sides(predictor: Predictor, model: Model, part: pl.DataFrame, reasons: set[int]) -> list[Side]:
    """The model's answers to a part of the rows; `reasons` are numbers in it."""
    predictions = predictor.predict(model, part["prompt"].to_list(), reasons=reasons)
    return [prediction.side() for prediction in predictions]


def _summary(
    rows: pl.DataFrame, models: Mapping[Role, Model], named_in: str, forced: bool, seconds: float
) -> ReplaySummary:
    first, last = rows["decision_time"][0], rows["decision_time"][-1]
    incumbent, candidate = models[Role.INCUMBENT], models[Role.CANDIDATE]
    return ReplaySummary(
        headline=f"{len(rows)} decisions of {rows['asset'].n_unique()} tickers, {first:%Y-%m-%d} to "
        f"{last:%Y-%m-%d}: {candidate.name} against {incumbent.name} ({named_in})"
        + (" (FORCED over rows the training saw)" if forced else ""),
        rows=len(rows),
        forced=forced,
        start=first.isoformat(),
        end=last.isoformat(),
        incumbent=JudgedModel(name=incumbent.name, adapter_sha256=incumbent.sha256),
        candidate=JudgedModel(name=candidate.name, adapter_sha256=candidate.sha256),
        incumbent_from=named_in,
        seconds=seconds,
    )


def _ask_untuned(path: Path, predictor: Predictor, rows: pl.DataFrame, reporter: Reporter, *, wanted: bool) -> None:
    """The bare base's decisions (timestamp, ticker, action) on some of the rows, where it is not the incumbent."""
    if not wanted:
        remove(path)
        return
    spread = np.unique(np.linspace(0, len(rows) - 1, min(UNTUNED_ROWS, len(rows))).round().astype(np.int64))
    chosen = rows[spread.tolist()]
    prompts = chosen["prompt"].to_list()
    actions: list[str | None] = []
    with reporter.task("replay: untuned base", len(prompts)) as task:
        for offset in range(0, len(prompts), BATCH):
            predictions = predictor.predict(bare_base(), prompts[offset : offset + BATCH], reasons=())
            actions += [prediction.action for prediction in predictions]
            task.advance(len(predictions))
    with atomic_path(path) as temporary:
        chosen.select(
            timestamp="decision_time", ticker="asset", action=pl.Series(actions, dtype=pl.String)
        ).write_parquet(temporary)


def _reason_rows(count: int, wanted: int) -> set[int]:
    """Row numbers, evenly spread, for which reasons are written."""
    if not wanted:
        return set()
    return set(np.linspace(0, count - 1, min(wanted, count)).round().astype(int).tolist())


def _replay_fingerprint(config: Config, run: RunFolder) -> str:
    """What a journal's rows depend on; another fingerprint starts a new journal."""
    files = {name: sha256_path(path) for name, path in _inputs(config, run).items()}
    settings = {key: getattr(config, key).model_dump(mode="json") for key in ("replay", "engine", "live", "labels")}
    settings["engine"] = {key: value for key, value in settings["engine"].items() if key not in SERVER_KEYS}
    if config.engine.url:  # a journal is not begun in this process and ended on servers, whose rounding is another
        settings["engine"]["servers"] = True
    return fingerprint([files, settings, str(config.dataset.test_start), config.seed])


def _resume(path: Path, marker: Path, digest: str) -> int:
    """Rows of this very replay already on disk; a journal of another one is set aside, never overwritten."""
    if path.exists() and marker.exists() and read_json(marker)["fingerprint"] == digest:
        return len(read_frame(path))
    if path.exists():
        move(path, path.with_name(f"{path.stem}.{sha256_path(path)[:8]}{path.suffix}"))
    write_json(marker, {"version": 1, "fingerprint": digest})
    return 0


def _inputs(config: Config, run: RunFolder) -> Mapping[str, Path]:
    candidate = run.exported(run.summary(ExportSummary).merged)
    inputs = {
        "export": candidate,
        "base.gguf": base_gguf(config, run),
        "manifest": run.dataset_manifest,
        **candle_files(config),
    }
    optional = {
        "incumbent": compared_incumbent(config, candidate_model(run))[0].path if candidate.is_file() else None,
        "data.fear_greed": config.data.fear_greed,
        "data.headlines": config.data.headlines,
        "prompt.template": config.prompt.template,
    }
    return inputs | {name: path for name, path in optional.items() if path is not None}


STAGE = Stage(
    name="replay",
    title="Replay both models",
    tables=("replay", "engine", "incumbent", "data", "prompt", "live"),
    inputs=_inputs,
    outputs=("replay/ab_test_log.jsonl", "replay/untuned_base.parquet"),
    work=replay,
    summary=ReplaySummary,
)
