"""Register a replay before it is run: what will be asked is on record before anybody can know the answer."""

import polars as pl

from candletune.artifacts import JudgedModel, TrySpent
from candletune.config import Config
from candletune.console import Reporter
from candletune.engines import base_gguf
from candletune.errors import UsageError
from candletune.evaluation.tries import attempt_of, ledger_of
from candletune.hashes import sha256_path
from candletune.journal import Problems, Role, read_frame
from candletune.live.models import candidate_model, compared_incumbent
from candletune.prompts.template import load_template
from candletune.runs import RunFolder
from candletune.stages.replay_inputs import unseen_rows


def register(config: Config, run: RunFolder, reporter: Reporter) -> TrySpent:
    """Put the models, the decision times and the rule of the next replay on record in the ledger.

    What is on record already stays as it is, so an interrupted run may ask again.

    Returns:
        Its number, and the error that its verdict may make, by the bound of a single look.

    Raises:
        UsageError: a shadow test's journal is to be judged, the replay has begun already or would be over rows that a
            training saw, or these models were looked at on these candles before.
        InputError: nothing was exported, there are no candles, or the ledger cannot be written.
    """
    if config.evaluate.journal is not None:
        raise UsageError("--register: only a replay can be registered; leave out --journal and evaluate.journal")
    candidate = candidate_model(run)
    incumbent, _ = compared_incumbent(config, candidate)
    rows, forced = unseen_rows(config, run, candidate, incumbent)
    if forced:
        raise UsageError("--register: replay.force takes rows that a training saw, which proves nothing; leave it out")
    models = {
        role: JudgedModel(name=model.name, adapter_sha256=model.sha256)
        for role, model in ((Role.CANDIDATE, candidate), (Role.INCUMBENT, incumbent))
    }
    attempt = attempt_of(_asked(config, run, rows), models, config, source="replay", run=run.path)
    if (known := ledger_of(config).registration(attempt)) is not None:
        reporter.say(f"registered already ({known.registered}): {candidate.name} against {incumbent.name}")
        return known
    _refuse_begun(run, candidate.name, candidate.sha256)
    spent = ledger_of(config).register(attempt)
    first, last = rows["decision_time"][0], rows["decision_time"][-1]
    reporter.say(
        f"registered: {candidate.name} against {incumbent.name}, {len(rows)} decisions, {first:%Y-%m-%d %H:%M} to "
        f"{last:%Y-%m-%d %H:%M} UTC; try {spent.number} on these candles, which may err with {spent.level:.2%}"
    )
    if config.replay.end is None and not config.simulate.enabled:
        reporter.warn(
            "replay.end is not set: with newer candles the replay would have other rows than the registered ones; set "
            f"replay.end={last + config.candle:%Y-%m-%dT%H:%M}"
        )
    return spent


def _asked(config: Config, run: RunFolder, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows as a journal will have them, but for the answers."""
    return rows.select(
        timestamp="decision_time",
        ticker="asset",
        template_sha256=pl.lit(load_template(config.prompt.template).sha256),
        base_sha256=pl.lit(sha256_path(base_gguf(config, run))),
    )


def _refuse_begun(run: RunFolder, name: str, sha256: str | None) -> None:
    for path in sorted(run.journal.parent.glob(f"{run.journal.stem}*{run.journal.suffix}")):
        answered = read_frame(path, problems=Problems())["shadow_adapter"]
        if (answered == sha256).any():
            raise UsageError(f"--register: {path} holds answers of {name} already; register before the replay")
