"""The `replay` stage: incumbent and candidate over decision times neither was trained on, into the A/B journal.

Decisions come from the logits at the decision token; reasons are written for a sample only. An interrupted replay goes
on behind the last row on disk.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.config import Config
from candletune.console import Reporter
from candletune.dataset import decision_rows
from candletune.decide.adapters import adapter_facts
from candletune.decide.priors import correct_prior
from candletune.decisions import DECISIONS
from candletune.engines import Engine, base_gguf, open_engine
from candletune.errors import InputError
from candletune.files import atomic_path, move, read_json, remove, write_json
from candletune.hashes import fingerprint, sha256_path
from candletune.journal import Journal, Row, Side, read_frame
from candletune.market.candles import find_candle_file
from candletune.prompts.parse import parse_answer
from candletune.prompts.template import load_template
from candletune.runs import RunFolder
from candletune.stages.runner import Stage

UNTUNED_ROWS = 2000
"""Rows, evenly spread, on which the bare base is asked too when it is not the incumbent: a baseline, no contestant."""
BATCH = 64
"""Rows scored, and written with one fsync, at a time."""


@dataclass(frozen=True, slots=True)
class Model:
    """One side of the comparison: its engine and what corrects its probabilities.

    Attributes:
        name: as the report shows it.
        engine: where it runs.
        key: the adapter's name in the engine; None for the bare base (or a merged model).
        sha256: the file's hash; None for the bare base.
        priors: (class shares in training, class shares in life), or None when the file does not say.
    """

    name: str
    engine: Engine
    key: str | None
    sha256: str | None
    priors: tuple[Sequence[float], Sequence[float]] | None

    def decide(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """Probabilities (n, 3), corrected from the training's class balance to life's."""
        self.engine.use(self.key)
        found = self.engine.score(prompts)
        return found if self.priors is None else correct_prior(found, *self.priors)


def replay(config: Config, run: RunFolder, reporter: Reporter) -> dict[str, Any]:
    """The stage's work; returns the summary."""
    manifest = read_json(run.dataset_manifest)
    test_start = manifest.get("test_start")
    rows, forced = held_out_rows(
        config,
        datetime.fromisoformat(manifest["train_end"]),
        None if test_start is None else datetime.fromisoformat(test_start),
    )
    reasons = _reason_rows(len(rows), config.replay.reasons)
    path = run.journal
    done = _resume(path, run.replay_mark, _mark(config, run))
    if done:
        reporter.say(f"resuming the replay behind {done} rows")
    template = load_template(config.prompt.template).sha256
    base = sha256_path(base_gguf(config, run))
    engines: list[Engine] = []
    start = time.monotonic()
    try:
        active, shadow = _models(config, run, engines)
        journal = Journal(path)
        with reporter.task("replay", len(rows)) as task:
            task.advance(done)
            for offset in range(done, len(rows), BATCH):
                part = rows[offset : offset + BATCH]
                sides = [_sides(model, part, reasons, offset) for model in (active, shadow)]
                journal.append_many(
                    [
                        Row(
                            timestamp=row["decision_time"],
                            ticker=row["asset"],
                            price=row["close"],
                            prompt_sha256=row["prompt_sha256"],
                            template_sha256=template,
                            base_sha256=base,
                            active=left,
                            shadow=right,
                            mode="replay",
                            forced=forced,
                        )
                        for row, left, right in zip(part.iter_rows(named=True), sides[0], sides[1], strict=True)
                    ]
                )
                task.advance(len(part))
        _ask_untuned(run.untuned, engines[0], rows, reporter, wanted=active.key is not None)
    finally:
        for engine in engines:
            engine.close()
    first, last = rows["decision_time"][0], rows["decision_time"][-1]
    return {
        "headline": f"{len(rows)} decisions of {rows['asset'].n_unique()} tickers, {first:%Y-%m-%d} to {last:%Y-%m-%d}"
        + (" (FORCED over rows the training saw)" if forced else ""),
        "rows": len(rows),
        "forced": forced,
        "start": first.isoformat(),
        "end": last.isoformat(),
        "incumbent": {"name": active.name, "adapter_sha256": active.sha256},
        "candidate": {"name": shadow.name, "adapter_sha256": shadow.sha256},
        "seconds": round(time.monotonic() - start, 3),
    }


def _ask_untuned(path: Path, engine: Engine, rows: pl.DataFrame, reporter: Reporter, *, wanted: bool) -> None:
    """The bare base's decisions (timestamp, ticker, action) on some of the rows, where it is not the incumbent."""
    if not wanted:
        remove(path)
        return
    places = np.unique(np.linspace(0, len(rows) - 1, min(UNTUNED_ROWS, len(rows))).round().astype(np.int64))
    chosen = rows[places.tolist()]
    prompts = chosen["prompt"].to_list()
    engine.use(None)
    actions: list[str] = []
    with reporter.task("replay: untuned base", len(prompts)) as task:
        for offset in range(0, len(prompts), BATCH):
            found = engine.score(prompts[offset : offset + BATCH])
            actions += [DECISIONS[int(k)] for k in found.argmax(axis=1)]
            task.advance(len(found))
    with atomic_path(path) as temporary:
        chosen.select(timestamp="decision_time", ticker="asset", action=pl.Series(actions)).write_parquet(temporary)


def held_out_rows(config: Config, train_end: datetime, test_start: datetime | None = None) -> tuple[pl.DataFrame, bool]:
    """Decision rows of the replay, and whether any of them is one the training saw (only with `replay.force`).

    Args:
        config: names range, stride and limit.
        train_end: the last time the training data looked at, its labels' horizon included.
        test_start: what the dataset kept out from on; counts where the configuration names no time.

    Raises:
        InputError: the range reaches into the training data, or holds nothing.
    """
    start = config.replay.start or config.dataset.test_start or test_start
    earliest = train_end + config.horizon
    if start is None:
        start = earliest
    forced = start < earliest
    if forced and not config.replay.force:
        raise InputError(
            f"replay.start: {start:%Y-%m-%d %H:%M} is before {earliest:%Y-%m-%d %H:%M}, the end of the training data "
            "plus purge; start later, or set replay.force=true and have every row marked"
        )
    rows = decision_rows(config, start=start, end=config.replay.end)
    if rows.is_empty():
        raise InputError(f"{config.data.folder}: no candles from {start:%Y-%m-%d} on; set dataset.test_start earlier")
    times = rows["decision_time"].unique().sort()[:: config.replay.stride]
    if config.replay.limit and len(times) > config.replay.limit:
        times = times.gather(np.linspace(0, len(times) - 1, config.replay.limit).round().astype(np.int64).tolist())
    return rows.filter(pl.col("decision_time").is_in(times.implode())), forced


def _reason_rows(count: int, wanted: int) -> set[int]:
    """Row numbers, evenly spread, for which reasons are written."""
    if not wanted:
        return set()
    return set(np.linspace(0, count - 1, min(wanted, count)).round().astype(int).tolist())


def _sides(model: Model, part: pl.DataFrame, reasons: set[int], offset: int) -> list[Side]:
    """The model's answers to a part of the rows; `offset` is its first row's number."""
    prompts = part["prompt"].to_list()
    start = time.perf_counter()
    chances = model.decide(prompts)
    latency = (time.perf_counter() - start) * 1000 / len(prompts)
    sides = []
    for number, row in enumerate(chances):
        action = DECISIONS[int(row.argmax())]
        reasoning, parsed = None, True
        if offset + number in reasons:
            answer = parse_answer(model.engine.generate(prompts[number], action=action).text)
            reasoning, parsed = answer.reasoning or None, answer.action == action
        sides.append(
            Side(
                status="ok" if parsed else "invalid",
                action=action if parsed else None,
                reasoning=reasoning,
                probabilities={name: float(row[k]) for k, name in enumerate(DECISIONS)},
                latency_ms=round(latency, 3),
                adapter_sha256=model.sha256,
                error=None if parsed else "the generated answer does not parse",
            )
        )
    return sides


def _models(config: Config, run: RunFolder, engines: list[Engine]) -> tuple[Model, Model]:
    """Incumbent and candidate; one base serves both unless the candidate is a merged model."""
    engine = open_engine(config, run)
    engines.append(engine)
    incumbent = config.incumbent.adapter
    template = load_template(config.prompt.template).sha256
    if incumbent is None:
        active = Model(config.incumbent.name or "bare base", engine, None, None, None)
    else:
        active = _adapter(config, engine, incumbent, "incumbent", config.incumbent.name or incumbent.stem, template)
    merged = run.stage_summary("export")["kind"] == "merged"
    path = run.exported(merged)
    if not merged:
        return active, _adapter(config, engine, path, "candidate", path.stem, template)
    whole = open_engine(config, run, path)
    engines.append(whole)
    return active, Model(path.stem, whole, None, sha256_path(path), _priors(config, path, template))


def _adapter(config: Config, engine: Engine, path: Path, key: str, name: str, template: str) -> Model:
    engine.add_adapter(key, path)
    return Model(name, engine, key, sha256_path(path), _priors(config, path, template))


def _priors(config: Config, path: Path, template: str) -> tuple[Sequence[float], Sequence[float]] | None:
    """Class shares in training and in life, when the file says them; its template must be the configured one.

    Raises:
        InputError: it was trained with another template.
    """
    facts = adapter_facts(path)
    trained = facts.template_sha256
    if trained is not None and trained != template and not config.live.any_template:
        raise InputError(
            f"{path}: trained with template {trained[:12]}, prompt.template is {template[:12]}; use the one it was "
            "trained with, or set live.any_template=true"
        )
    if not config.live.prior_correction or facts.class_prior is None or facts.natural_prior is None:
        return None
    return facts.class_prior, facts.natural_prior


def _mark(config: Config, run: RunFolder) -> str:
    """What a journal's rows depend on; another mark starts a new journal."""
    files = {name: sha256_path(path) for name, path in _inputs(config, run).items()}
    settings = {key: getattr(config, key).model_dump(mode="json") for key in ("replay", "engine", "live", "labels")}
    return fingerprint([files, settings, str(config.dataset.test_start), config.seed])


def _resume(path: Path, marker: Path, mark: str) -> int:
    """Rows of this very replay already on disk; a journal of another one is set aside, never overwritten."""
    if path.exists() and marker.exists() and read_json(marker)["fingerprint"] == mark:
        return len(read_frame(path))
    if path.exists():
        digest = sha256_path(path)[:8]
        move(path, path.with_name(f"{path.stem}.{digest}{path.suffix}"))
    write_json(marker, {"version": 1, "fingerprint": mark})
    return 0


def _inputs(config: Config, run: RunFolder) -> Mapping[str, Path]:
    merged = run.stage_summary("export")["kind"] == "merged"
    found = {
        "export": run.exported(merged),
        "base.gguf": base_gguf(config, run),
        "manifest": run.dataset_manifest,
        **{pair: find_candle_file(config.data.folder, pair, config.data.timeframe) for pair in config.data.pairs},
    }
    optional = {
        "incumbent.adapter": config.incumbent.adapter,
        "data.fear_greed": config.data.fear_greed,
        "data.headlines": config.data.headlines,
        "prompt.template": config.prompt.template,
    }
    return found | {name: path for name, path in optional.items() if path is not None}


STAGE = Stage(
    name="replay",
    title="Replay both models",
    tables=("replay", "engine", "incumbent", "data", "prompt", "live"),
    inputs=_inputs,
    outputs=("replay/ab_test_log.jsonl", "replay/untuned_base.parquet"),
    work=replay,
)
