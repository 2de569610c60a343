"""A journal and the candles that followed become metrics and a verdict."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from candletune.artifacts import JudgedModel, Metrics, TrySpent, Verdict
from candletune.config import Config
from candletune.console import Reporter
from candletune.evaluation.beside import with_the_rest
from candletune.evaluation.measure import measure, notes_of
from candletune.evaluation.outcomes import join_outcomes, score_rows
from candletune.evaluation.rule import criteria_of, decide
from candletune.evaluation.source import evaluation_files, models_of, open_journal
from candletune.evaluation.tries import attempt_of, ledger_of, level_of, note_of, spend
from candletune.evaluation.unseen import check_unseen, provenance_notes
from candletune.journal import Role
from candletune.runs import RunFolder

Models = dict[Role, JudgedModel]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an evaluation found.

    Attributes:
        scored: the journal's rows with outcomes, in time order.
    """

    scored: pl.DataFrame
    metrics: Metrics
    verdict: Verdict


def judge(config: Config, run: RunFolder, reporter: Reporter) -> Judgement:
    """Score the journal, measure, and decide.

    Raises:
        InputError: the journal cannot be judged (see `source.open_journal`), one of the models was trained on its rows,
            or candles are missing.
    """
    rows, left_out, remarked = open_journal(config, run, reporter)
    models = models_of(rows, config, run)
    ends = check_unseen(rows, models, config, run, reporter)
    scored = score_rows(join_outcomes(rows, config), config.evaluate.move)
    del rows
    source = evaluation_files(config, run).source
    spent = spend(attempt_of(scored, models, config, source=source, run=run.path), config)
    metrics = measure(scored, config, left_out, remarked, level_of(spent, config))
    metrics = with_the_rest(metrics, scored, models, config, run, reporter)
    verdict = verdict_of(scored, metrics, models, config, spent)
    return Judgement(
        scored,
        metrics,
        verdict.model_copy(
            update={
                "notes": (*verdict.notes, *provenance_notes(ends, models)),
                "source": source,
                "decided": datetime.now(UTC).isoformat(timespec="seconds"),
                "training_ends": ends,
            }
        ),
    )


def verdict_of(
    scored: pl.DataFrame, metrics: Metrics, models: Mapping[Role, JudgedModel], config: Config, spent: TrySpent | None
) -> Verdict:
    """What the rule says of the metrics; when and about which files it was asked is the caller's to add."""
    criteria = criteria_of(metrics, config.evaluate)
    verdict, reason = decide(criteria, metrics)
    return Verdict(
        verdict=verdict,
        reason=reason,
        rule=config.evaluate.criteria,
        criteria=tuple(criteria),
        candidate=models[Role.CANDIDATE],
        incumbent=models[Role.INCUMBENT],
        forced=bool(scored["forced"].any()),
        rows=len(scored),
        notes=(*notes_of(metrics, config.evaluate), *(() if spent is None else (note_of(spent),))),
        spent=spent,
    )


def keep_verdict(verdict: Verdict, config: Config, run: RunFolder) -> None:
    """Write the verdict under a name of its own, `<utc>-<candidate>-<incumbent>.json`, so that none is ever lost.

    The ledger hears of it too.
    """
    if verdict.spent is not None:
        ledger_of(config).say(verdict.spent.try_id, verdict.verdict, verdict.reason)
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    models = "-".join(_short(model) for model in (verdict.candidate, verdict.incumbent))
    verdict.write(run.verdicts / f"{moment}Z-{models}.json")


def _short(model: JudgedModel) -> str:
    """Eight characters of the adapter's hash; `barebase` without one."""
    return "barebase" if model.adapter_sha256 is None else model.adapter_sha256[:8]
