"""The `verify` stage: certify an export on held-out rows, each criterion with its number and its limit.

A GGUF that loads may still say nothing, something else than the trained model, or the bare base's answers. So the
export is scored on labelled eval rows beside the model exactly as it was trained, over the weights that it was trained
over; and at least 50 prompts are answered in text, as a drop-in answers them. What is odd about the model rather than
about its export (it says one class, it learnt next to nothing) is a finding: it is replayed and judged like any other.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.artifacts import (
    Certificate,
    CertificateCriterion,
    CertificateFinding,
    ExportSummary,
    Fidelity,
    VerifySummary,
)
from candletune.config import Config, VerifyConfig
from candletune.console import Reporter
from candletune.decisions import DECISIONS, Decision
from candletune.engines import base_gguf
from candletune.engines.certify import DoesNotLoad, ExportAnswers, TrainedAnswers, ask_export, ask_trained
from candletune.prompts.parse import parse_answer
from candletune.prompts.template import load_template
from candletune.runs import RunFolder
from candletune.stages.fidelity import calibration_of, compare
from candletune.stages.headlines import NAME as TURNED
from candletune.stages.headlines import headline_prompts, judged, shift_of
from candletune.stages.runner import Stage

LOADS = "loads over the base without an error"
SAME_DECISIONS, LARGEST_GAP = "decisions as trained", "largest probability gap"
ACCURACY_LOST, LOG_LOSS_GAINED = "balanced accuracy lost", "log loss gained"
OTHER_WEIGHTS = {SAME_DECISIONS, LARGEST_GAP, ACCURACY_LOST, LOG_LOSS_GAINED}
"""Criteria that fail where the weights served are not those trained over; a broken file fails them too."""
PARSED, ENDED, PLAIN = "answers that parse", "answers that end themselves", "plain answers as judged"
TIE = 0.01
"""Two decisions whose probabilities differ by no more are tied."""
MOST_ROWS, FEW_ROWS = 500, 200
"""Rows compared by default, and where llama.cpp computes a large base on a CPU, at 1 to 3 seconds a row."""
SMALL_BASE = 64 * 2**20
"""Bytes of a base's GGUF up to which a CPU is fast enough for all of them."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Rows the adapter was not trained on, at the base rates, evenly over the eval period.

    Attributes:
        prompts: of each row.
        labels: index of each row's label in DECISIONS.
        table: the rows themselves.
        asked: rows that are answered in text too.
    """

    prompts: list[str]
    labels: list[int]
    asked: list[int]
    table: pl.DataFrame


def verify(config: Config, run: RunFolder, reporter: Reporter) -> VerifySummary:
    """The stage's work; returns the summary, whose `passed` tells whether every criterion held."""
    merged = run.summary(ExportSummary).merged
    exported, base = run.exported(merged), base_gguf(config, run)
    rows = _held_out(run, rows_wanted(config, base), config.verify.prompts)
    findings: tuple[CertificateFinding, ...] = ()
    shares = chat = fidelity = headlines = None
    try:
        more = headline_prompts(rows.table, load_template(config.prompt.template), config.verify.headline_rows)
        asked = [*rows.prompts, *(more.flat if more else ())]
        answers = ask_export(exported, base, config, asked, reporter, asked=rows.asked, merged=merged)
    except DoesNotLoad as error:
        criteria = [CertificateCriterion(name="loads", value=str(error), limit=LOADS, passed=False)]
    else:
        headlines = None if more is None else shift_of(more, answers.probabilities[len(rows.prompts) :])
        answers = answers.first(len(rows.prompts))
        template = load_template(config.prompt.template).sha256
        criteria = export_criteria(answers, config.verify, template)
        if config.verify.reference != "none":
            trained = ask_trained(config, run.adapter, rows.prompts, reporter)
            calibration = calibration_of(exported)
            fidelity = compare(trained.probabilities, answers.probabilities, rows.labels, trained.storage, calibration)
            criteria += trained_criteria(answers, trained, fidelity, config.verify)
        demanded, odd = judged(headlines, config)
        criteria += demanded
        findings = (*findings_of(answers, config.verify, fidelity), *odd)
        shares, chat = _shares(answers), answers.chat
    if len(rows.prompts) < config.verify.prompts:
        limit = f"at least {config.verify.prompts} (verify.prompts)"
        criteria.append(_criterion("held-out prompts", len(rows.prompts), limit, passed=False))
    certificate = Certificate(
        passed=all(criterion.passed for criterion in criteria),
        file=f"gguf/{exported.name}",
        base=base.name,
        prompts=len(rows.prompts),
        criteria=tuple(criteria),
        findings=findings,
        shares=shares,
        chat=chat,
        fidelity=fidelity,
        headlines=headlines,
        remedy=remedy_of(config, criteria, base.name, None if fidelity is None else fidelity.storage),
    )
    certificate.write(run.certificate)
    _print(certificate, reporter)
    return VerifySummary(headline=_headline(certificate), **dict(certificate))


def rows_wanted(config: Config, base: Path) -> int:
    """How many labelled rows are compared; without a model to compare with, only those that are answered in text.

    Args:
        config: `verify`, and `engine.gpu_layers`.
        base: the base's GGUF.
    """
    import llama_cpp

    if config.verify.reference == "none":
        return config.verify.prompts
    on_card = bool(llama_cpp.llama_supports_gpu_offload()) and config.engine.gpu_layers != 0
    small = not base.is_file() or base.stat().st_size <= SMALL_BASE
    default = MOST_ROWS if on_card or small else FEW_ROWS
    return max(config.verify.rows or default, config.verify.prompts)


def _held_out(run: RunFolder, rows: int, asked: int) -> HeldOut:
    """At most so many rows, and those of them that are answered in text."""
    table = pl.read_parquet(run.natural_eval)
    table = table[_evenly(len(table), rows)]
    labels = [DECISIONS.index(label) for label in table["label"]]
    return HeldOut(table["prompt"].to_list(), labels, _evenly(len(table), asked), table)


def _evenly(count: int, wanted: int) -> list[int]:
    """`wanted` of `count` numbers, evenly spread."""
    wanted = min(wanted, count)
    return [number * count // wanted for number in range(wanted)]


def export_criteria(answers: ExportAnswers, limits: VerifyConfig, template: str) -> list[CertificateCriterion]:
    """What an export must show on its own: its template, texts, an effect, the same answer when asked again.

    Args:
        answers: the export's.
        limits: demands.
        template: hash of the configured template.
    """
    theirs = answers.template_sha256
    changed = float(np.abs(answers.judged - answers.bare).mean())
    return [
        CertificateCriterion(name="loads", value="yes", limit=LOADS, passed=True),
        CertificateCriterion(
            name="template hash",
            value=theirs[:12],
            limit=f"equals the configured template's ({template[:12]})",
            passed=theirs == template,
        ),
        *_text_criteria(answers, limits),
        _criterion("differs from the bare base", changed, "mean probability change above 0", passed=changed > 0),
        CertificateCriterion(
            name="same after a switch and back",
            value="yes" if answers.repeatable else "no",
            limit="equal",
            passed=answers.repeatable,
        ),
    ]


def _text_criteria(answers: ExportAnswers, limits: VerifyConfig) -> list[CertificateCriterion]:
    """What unconstrained answers (no grammar) look like, and whether they say what was judged."""
    count = len(answers.texts)
    said = [parse_answer(text.text).action for text in answers.texts]
    empty = sum(not text.text for text in answers.texts)
    parsed = sum(action is not None for action in said) / count
    ended = sum(text.ended for text in answers.texts) / count
    plain = sum(_says(action, row) for action, row in zip(said, answers.judged, strict=True)) / count
    least, plain_least = f"at least {limits.min_parsed}", f"at least {limits.min_plain_agreement}, of {count} prompts"
    return [
        _criterion("empty answers", empty, "0", passed=empty == 0),
        _criterion(PARSED, parsed, least, passed=parsed >= limits.min_parsed),
        _criterion(ENDED, ended, least, passed=ended >= limits.min_parsed),
        _criterion(PLAIN, plain, plain_least, passed=plain >= limits.min_plain_agreement),
    ]


def _says(action: Decision | None, probabilities: NDArray[np.float64]) -> bool:
    """Whether an answer is the judged decision, or one that is as probable but for rounding.

    Text is generated token by token, and a score read in one pass; a tie may fall either way.
    """
    return action is not None and bool(probabilities[DECISIONS.index(action)] >= probabilities.max() - TIE)


def trained_criteria(
    answers: ExportAnswers, trained: TrainedAnswers, fidelity: Fidelity | None, limits: VerifyConfig
) -> list[CertificateCriterion]:
    """The export against the model as trained; a fidelity of None (a probability is not a number) fails them all.

    The largest gap is that of the prompts answered in text: of more rows it would be larger, and the limit no longer
    the one that is documented for some fifty. `Fidelity.largest_gap` reports all rows'.
    """
    same = sum(ours == theirs for ours, theirs in zip(answers.ids, trained.ids, strict=True))
    count = len(answers.ids)
    gap_limit = limits.max_quantized_gap if answers.quantized else limits.max_probability_gap
    gap = float(np.abs(trained.probabilities[list(answers.asked)] - answers.judged).max())
    agreement = lost = gained = math.nan
    scores = interval = ""
    if fidelity is not None:
        agreement, lost = fidelity.agreement, fidelity.accuracy_lost
        one, other = fidelity.trained, fidelity.served
        gained = other.log_loss - one.log_loss
        interval = (
            f"; {one.balanced_accuracy:.3f} as trained, {other.balanced_accuracy:.3f} as served, 95 % interval of the "
            f"difference {fidelity.interval[0]:.3f} to {fidelity.interval[1]:.3f}, {fidelity.rows} rows"
        )
        scores = f"; {one.log_loss:.3f} as trained, {other.log_loss:.3f} as served"
    least, most = limits.min_agreement, limits.max_accuracy_loss
    return [
        _criterion("prompt ids as in training", same / count, "1.0", passed=same == count),
        _criterion(SAME_DECISIONS, agreement, f"at least {least}, of {count} rows", passed=agreement >= least),
        _criterion(ACCURACY_LOST, lost, f"at most {most}{interval}", passed=lost <= most),
        _criterion(
            LOG_LOSS_GAINED,
            gained,
            f"at most {limits.max_log_loss_gain} nats{scores}",
            passed=gained <= limits.max_log_loss_gain,
        ),
        _criterion(LARGEST_GAP, gap, f"at most {gap_limit}, of {len(answers.asked)} prompts", passed=gap <= gap_limit),
    ]


def findings_of(
    answers: ExportAnswers, limits: VerifyConfig, fidelity: Fidelity | None
) -> tuple[CertificateFinding, ...]:
    """What is odd about the model, or about the rows; a broken export shows in the criteria instead."""
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
    difference = float(np.abs(answers.judged - answers.bare).mean())
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
    if fidelity is not None and fidelity.interval[1] > limits.max_accuracy_loss:
        findings.append(
            CertificateFinding(
                name="rows compared",
                value=fidelity.rows,
                expected=f"enough to rule out a loss above {limits.max_accuracy_loss} (verify.max_accuracy_loss)",
                explanation=f"as far as these rows tell, serving may lose up to {fidelity.interval[1]:.3f} of balanced "
                f"accuracy (95 % interval; measured was {fidelity.accuracy_lost:.3f}). More rows say more: raise "
                "verify.rows, or dataset.natural_eval where it keeps fewer",
            )
        )
    return tuple(findings)


def remedy_of(config: Config, criteria: Sequence[CertificateCriterion], base: str, storage: str | None) -> str:
    """What to do about an export that does not answer as the trained model; empty when every criterion holds.

    Args:
        config: how it was exported.
        criteria: all of them.
        base: name of the base's GGUF.
        storage: of the weights that it was trained over; None: not compared.
    """
    failed = {criterion.name for criterion in criteria if not criterion.passed}
    if not failed:
        return ""
    if failed <= OTHER_WEIGHTS and storage in ("nf4", "fp4"):
        return (
            f"it was trained over {storage.upper()} weights and is served over {base}, which rounds them differently: "
            "train over the served blocks (train.quantization=auto), or serve F16 (base.serve_type)"
        )
    if failed <= OTHER_WEIGHTS and config.export.kind == "merged":
        return f"{config.export.quantize} changed the model too much: set export.quantize to a finer type, such as Q8_0"
    if failed <= OTHER_WEIGHTS and storage is not None:
        return (
            "export again; if that changes nothing, it is llama.cpp, which rounds activations to eight bits over "
            "quantized weights and so turns near ties: serve 16 bits (base.serve_type=F16), build it so that it does "
            "not (docs/gpu.md), or train more steps"
        )
    if failed == {TURNED}:
        return (
            "headlines steer it: serve it without them (data.headlines), train on headlines that say nothing of the "
            "outcome too, or raise verify.max_headline_shift if you trust the source"
        )
    if failed <= {PARSED, ENDED, PLAIN}:
        return "the model does not write the answers it was taught yet: train more steps, or at a higher rate"
    return "export again"


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
    known = certificate.fidelity
    scores = ""
    if known is not None:
        one, other = known.trained.balanced_accuracy, known.served.balanced_accuracy
        scores = f"; balanced accuracy {one:.1%} as trained, {other:.1%} as served"
    return f"{certificate.prompts} prompts, {text}{scores}{noticed}"


def _print(certificate: Certificate, reporter: Reporter) -> None:
    width = max(len(criterion.name) for criterion in certificate.criteria)
    for criterion in certificate.criteria:
        result = "ok  " if criterion.passed else "FAIL"
        reporter.say(f"  {result} {criterion.name:<{width}}  {criterion.shown}  ({criterion.limit})")
    for finding in certificate.findings:
        reporter.warn(
            f"finding: {finding.name} is {finding.value:g}, expected {finding.expected}: {finding.explanation}"
        )
    if certificate.remedy:
        reporter.warn(f"not the trained model: {certificate.remedy}")


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
