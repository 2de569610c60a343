"""The `verify` stage: certify an export on held-out prompts, each criterion with its number and its limit.

A GGUF that loads may still say nothing, something else than the trained model, or the bare base's answers. So the
export is asked at least 50 prompts it was not trained on, and compared with the Transformers model. What is odd about
the model rather than about its export (it says one class, it learnt next to nothing) is a finding: it is replayed and
judged like any other.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from candletune.artifacts import Certificate, CertificateCriterion, CertificateFinding, ExportSummary, VerifySummary
from candletune.config import Config, VerifyConfig
from candletune.console import Reporter
from candletune.decisions import DECISIONS, Decision
from candletune.engines import Generation, base_gguf
from candletune.engines.certify import DoesNotLoad, ExportAnswers, ReferenceAnswers, ask_export, ask_reference
from candletune.prompts.parse import parse_answer
from candletune.prompts.template import load_template
from candletune.runs import RunFolder
from candletune.stages.runner import Stage

LOADS = "loads over the base without an error"
SAME_DECISIONS, LARGEST_GAP = "decisions as Transformers", "largest probability gap"
"""Criteria of a quantized model that only rounding can fail."""


def verify(config: Config, run: RunFolder, reporter: Reporter) -> VerifySummary:
    """The stage's work; returns the summary, whose `passed` tells whether every criterion held."""
    prompts = _prompts(config, run)
    merged = run.summary(ExportSummary).merged
    exported, base = run.exported(merged), base_gguf(config, run)
    findings: tuple[CertificateFinding, ...] = ()
    shares = chat = None
    try:
        answers = ask_export(exported, base, config, prompts, reporter, merged=merged)
    except DoesNotLoad as error:
        criteria = [CertificateCriterion(name="loads", value=str(error), limit=LOADS, passed=False)]
    else:
        template = load_template(config.prompt.template).sha256
        criteria = export_criteria(answers, config.verify, template)
        findings = findings_of(answers, config.verify)
        shares, chat = _shares(answers), answers.chat
        if config.verify.reference != "none":
            reference = ask_reference(config, run.adapter, prompts, reporter)
            criteria += reference_criteria(answers, reference, config.verify)
    if len(prompts) < config.verify.prompts:
        limit = f"at least {config.verify.prompts} (verify.prompts)"
        criteria.append(
            CertificateCriterion(name="held-out prompts", value=float(len(prompts)), limit=limit, passed=False)
        )
    certificate = Certificate(
        passed=all(criterion.passed for criterion in criteria),
        file=f"gguf/{exported.name}",
        base=base.name,
        prompts=len(prompts),
        criteria=tuple(criteria),
        findings=findings,
        shares=shares,
        chat=chat,
    )
    certificate.write(run.certificate)
    _print(certificate, reporter)
    return VerifySummary(headline=_headline(certificate), **dict(certificate))


def _prompts(config: Config, run: RunFolder) -> list[str]:
    """Held-out prompts, evenly over the eval period."""
    rows = pl.read_parquet(run.natural_eval)["prompt"].to_list()
    wanted = min(config.verify.prompts, len(rows))
    return [rows[index * len(rows) // wanted] for index in range(wanted)]


def export_criteria(answers: ExportAnswers, limits: VerifyConfig, template: str) -> list[CertificateCriterion]:
    """What an export must show on its own: its template, texts, an effect, the same answer when asked again.

    Args:
        answers: the export's.
        limits: demands.
        template: hash of the configured template.
    """
    theirs = answers.template_sha256
    changed = float(np.abs(answers.probabilities - answers.bare).mean())
    return [
        CertificateCriterion(name="loads", value="yes", limit=LOADS, passed=True),
        CertificateCriterion(
            name="template hash",
            value=theirs[:12],
            limit=f"equals the configured template's ({template[:12]})",
            passed=theirs == template,
        ),
        *_text_criteria(answers.texts, limits.min_parsed),
        _criterion("differs from the bare base", changed, "mean probability change above 0", passed=changed > 0),
        CertificateCriterion(
            name="same after a switch and back",
            value="yes" if answers.repeatable else "no",
            limit="equal",
            passed=answers.repeatable,
        ),
    ]


def _text_criteria(texts: list[Generation], min_parsed: float) -> list[CertificateCriterion]:
    """What unconstrained answers (no grammar) look like."""
    empty = sum(not text.text for text in texts)
    parsed = sum(parse_answer(text.text).action is not None for text in texts) / len(texts)
    ended = sum(text.ended for text in texts) / len(texts)
    least = f"at least {min_parsed}"
    return [
        _criterion("empty answers", empty, "0", passed=empty == 0),
        _criterion("answers that parse", parsed, least, passed=parsed >= min_parsed),
        _criterion("answers that end themselves", ended, least, passed=ended >= min_parsed),
    ]


def reference_criteria(
    answers: ExportAnswers, reference: ReferenceAnswers, limits: VerifyConfig
) -> list[CertificateCriterion]:
    """The export against the trained model."""
    same = sum(ours == theirs for ours, theirs in zip(answers.ids, reference.ids, strict=True))
    count = len(answers.ids)
    agreement = float((reference.probabilities.argmax(axis=1) == answers.probabilities.argmax(axis=1)).mean())
    gap = float(np.abs(reference.probabilities - answers.probabilities).max())
    gap_limit = limits.max_quantized_gap if answers.quantized else limits.max_probability_gap
    least = limits.min_agreement
    return [
        _criterion("prompt ids as in training", same / count, "1.0", passed=same == count),
        _criterion(SAME_DECISIONS, agreement, f"at least {least}", passed=agreement >= least),
        _criterion(LARGEST_GAP, gap, f"at most {gap_limit}", passed=gap <= gap_limit),
    ]


def findings_of(answers: ExportAnswers, limits: VerifyConfig) -> tuple[CertificateFinding, ...]:
    """What is odd about the model; a broken export shows in the criteria instead."""
    findings = []
    shares = _shares(answers)
    used = [name for name, share in (shares or {}).items() if share]
    if shares and len(used) < limits.min_classes:
        findings.append(
            CertificateFinding(
                name="classes used",
                value=len(used),
                expected=f"at least {limits.min_classes} (verify.min_classes)",
                explanation=f"the model answers {' or '.join(used)} to every held-out prompt. The export is as "
                "trained; the training may have collapsed, or found nothing that tells the classes apart. The replay "
                "judges it: expect `keep`, and look at the eval accuracy by step in the report",
            )
        )
    difference = float(np.abs(answers.probabilities - answers.bare).mean())
    if difference < limits.min_difference:
        findings.append(
            CertificateFinding(
                name="mean change against the bare base",
                value=round(difference, 6),
                expected=f"at least {limits.min_difference} (verify.min_difference)",
                explanation="the adapter hardly changes what the base answers: it learnt next to nothing. The replay "
                "judges it; more steps or a higher train.learning_rate would change more",
            )
        )
    return tuple(findings)


def _shares(answers: ExportAnswers) -> dict[Decision, float] | None:
    """Share of each decision; None when a probability is not a number."""
    if not np.isfinite(answers.probabilities).all():
        return None
    counts = np.bincount(answers.probabilities.argmax(axis=1), minlength=len(DECISIONS))
    return {name: round(float(counts[k] / counts.sum()), 4) for k, name in enumerate(DECISIONS)}


def _criterion(name: str, value: float, limit: str, *, passed: bool) -> CertificateCriterion:
    """A criterion of a number, which a broken export may make NaN."""
    shown = round(float(value), 6) if math.isfinite(value) else "not a number"
    return CertificateCriterion(name=name, value=shown, limit=limit, passed=passed)


def _headline(certificate: Certificate) -> str:
    failed = [criterion for criterion in certificate.criteria if not criterion.passed]
    text = "every criterion held" if not failed else f"FAILED: {failed[0].name} is {failed[0].shown}"
    noticed = "".join(f"; finding: {finding.name} {finding.value:g}" for finding in certificate.findings)
    return f"{certificate.prompts} prompts, {text}{noticed}"


def _print(certificate: Certificate, reporter: Reporter) -> None:
    width = max(len(criterion.name) for criterion in certificate.criteria)
    for criterion in certificate.criteria:
        result = "ok  " if criterion.passed else "FAIL"
        reporter.say(f"  {result} {criterion.name:<{width}}  {criterion.shown}  ({criterion.limit})")
    for finding in certificate.findings:
        reporter.warn(
            f"finding: {finding.name} is {finding.value:g}, expected {finding.expected}: {finding.explanation}"
        )


def _inputs(config: Config, run: RunFolder) -> Mapping[str, Path]:
    merged = run.summary(ExportSummary).merged
    return {
        "export": run.exported(merged),
        "base.gguf": base_gguf(config, run),
        "adapter": run.adapter,
        "natural_eval": run.natural_eval,
    } | ({"prompt.template": config.prompt.template} if config.prompt.template else {})


STAGE = Stage(
    name="verify",
    title="Certify the export",
    tables=("verify", "engine", "base", "prompt"),
    inputs=_inputs,
    outputs=("verify/verify.json",),
    work=verify,
    summary=VerifySummary,
)
