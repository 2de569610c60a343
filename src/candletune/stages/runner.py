"""Run a stage, or skip it when it is up to date.

A stage is a plain function from files to files. `run_stage` executes it only when the fingerprint of what it
depends on (input contents, its configuration tables, the seed, the package version) differs from the one in the
manifest, or when an output is missing or was changed. The manifest entry is written last, so a run killed at any
moment leaves either the old entry or the new one, never a half.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import JsonValue

from candletune import __version__
from candletune.artifacts import StageEntry, StageSummary
from candletune.config import SERVER_KEYS, Config
from candletune.config_source import holds, leaves
from candletune.console import Reporter
from candletune.errors import CandletuneError, InputError
from candletune.hashes import fingerprint, sha256_path
from candletune.prompts.template import load_template
from candletune.runs import RunFolder, versions
from candletune.stages.announce import announced
from candletune.stages.memory import stage_memory
from candletune.stages.progress import keep_progress

Summary = TypeVar("Summary", bound=StageSummary)


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the pipeline.

    Attributes:
        name: command and manifest name.
        title: what a person reads while it works.
        tables: configuration tables (and top-level keys) whose values its result depends on.
        inputs: the files and folders it reads, by name, from the configuration and the run folder.
        outputs: what it writes, relative to the run folder (files or folders).
        work: does it; returns the summary for the manifest.
        summary: what kind of summary.
        show: says the result from the files, after the work and when everything was up to date.
        variant: the stage in its place under a configuration; one that writes other files has its own manifest entry.
    """

    name: str
    title: str
    tables: tuple[str, ...]
    inputs: Callable[[Config, RunFolder], Mapping[str, Path]]
    outputs: tuple[str, ...]
    work: Callable[[Config, RunFolder, Reporter], StageSummary]
    summary: type[StageSummary] = StageSummary
    show: Callable[[Config, RunFolder, Reporter], None] | None = None
    variant: Callable[[Config], "Stage"] | None = None


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """What `run_stage` did: the summary, whether it was up to date already, and the seconds it took."""

    name: str
    summary: StageSummary
    skipped: bool
    seconds: float

    def summary_as(self, kind: type[Summary]) -> Summary:
        """The summary as the stage's own kind; a `TypeError` when it is another stage's."""
        if not isinstance(self.summary, kind):
            raise TypeError(f"the summary of {self.name} is a {type(self.summary).__name__}, not a {kind.__name__}")
        return self.summary


def settings_of(config: Config, tables: tuple[str, ...]) -> dict[str, JsonValue]:
    """The part of the configuration a stage was run with, JSON-able."""
    whole = config.model_dump(mode="json")
    return {"seed": whole["seed"]} | {table: whole[table] for table in tables}


def _result_settings(config: Config, settings: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Settings that results depend on: not where a file lies, since its content counts, nor which server answers.

    The prompt's own text counts too, so that another packaged template is seen.
    """
    left_out = {key for key, field in leaves(Config) if holds(field, Path)} | {f"engine.{key}" for key in SERVER_KEYS}
    left_out |= {"replay.ray", "walk.ray"}  # the files are the same, whoever works on them
    kept: dict[str, JsonValue] = {
        table: {name: item for name, item in value.items() if f"{table}.{name}" not in left_out}
        if isinstance(value, dict)
        else value
        for table, value in settings.items()
    }
    if "prompt" in kept:
        kept["prompt"] = {"sha256": load_template(config.prompt.template).sha256}
    return kept


def run_stage(stage: Stage, config: Config, run: RunFolder, reporter: Reporter, *, force: bool = False) -> StageOutcome:
    """Run a stage unless it is up to date, and show its result. The caller holds `run.lock()`.

    Raises:
        InputError: an input is missing.
    """
    chosen = _variant(stage, config)
    outcome = _run_or_skip(chosen, config, run, reporter, force=force)
    if chosen.show is not None:
        chosen.show(config, run, reporter)
    return replace(outcome, name=stage.name)


def _variant(stage: Stage, config: Config) -> Stage:
    return stage if stage.variant is None else stage.variant(config)


def _run_or_skip(stage: Stage, config: Config, run: RunFolder, reporter: Reporter, *, force: bool) -> StageOutcome:
    inputs, settings, digest = _depends_on(stage, config, run)
    entry = run.entry(stage.name)
    if not force and entry is not None and entry.fingerprint == digest and _outputs_intact(run, entry):
        summary = entry.summary_as(stage.summary, run.manifest_file)
        return StageOutcome(stage.name, summary, skipped=True, seconds=entry.seconds)
    start = time.monotonic()
    with announced(stage.name, config, run, reporter) as ended:
        with keep_progress(reporter, run, stage.name) as kept, stage_memory(stage.name):
            summary = stage.work(config, run, kept)
        seconds = round(time.monotonic() - start, 3)
        entry = StageEntry(
            fingerprint=digest,
            inputs=inputs,
            settings=settings,
            outputs={name: sha256_path(run.file(name)) for name in stage.outputs if run.file(name).exists()},
            summary=summary.model_dump(mode="json"),
            seconds=seconds,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=versions(),
        )
        run.manifest().with_stage(stage.name, entry).write(run.manifest_file)
        ended(summary)
    return StageOutcome(stage.name, summary, skipped=False, seconds=seconds)


def _depends_on(stage: Stage, config: Config, run: RunFolder) -> tuple[dict[str, str], dict[str, JsonValue], str]:
    """Hashes of the inputs, the settings, and the fingerprint of both.

    Raises:
        InputError: an input is missing.
    """
    inputs: dict[str, str] = {}
    for name, path in stage.inputs(config, run).items():
        if not path.exists():
            maker = run.made_by(path)
            remedy = f"run `candletune {maker}` first" if maker else f"put it there, or correct {name}"
            raise InputError(f"{path}: missing ({name}), needed by `candletune {stage.name}`; {remedy}")
        inputs[name] = sha256_path(path)
    settings = settings_of(config, stage.tables)
    results = {"inputs": inputs, "settings": _result_settings(config, settings), "candletune": __version__}
    return inputs, settings, fingerprint(results)


def check_inputs(stage: Stage, config: Config, run: RunFolder) -> None:
    """Refuse a stage whose inputs are not there.

    Raises:
        InputError: an input is missing; says which stage makes it.
    """
    _depends_on(_variant(stage, config), config, run)


def is_current(stage: Stage, config: Config, run: RunFolder) -> bool:
    """Whether a stage would be skipped; one that could not run is not current."""
    stage = _variant(stage, config)
    entry = run.entry(stage.name)
    if entry is None:
        return False
    try:
        digest = _depends_on(stage, config, run)[2]
    except CandletuneError:
        return False
    return entry.fingerprint == digest and _outputs_intact(run, entry)


def _outputs_intact(run: RunFolder, entry: StageEntry) -> bool:
    return all(
        run.file(name).exists() and sha256_path(run.file(name)) == digest for name, digest in entry.outputs.items()
    )
