"""The `verify` stage: certify an export on held-out prompts, each criterion with its number and its limit.

A GGUF that loads may still say nothing, something else than the trained model, or the bare base's answers. So the
export is asked at least 50 prompts it was not trained on, and compared with the Transformers model.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.base.quiet import quiet
from candletune.config import Config
from candletune.console import Reporter
from candletune.engines import Engine, Generation, base_gguf
from candletune.errors import CandletuneError
from candletune.files import write_json
from candletune.gguf.header import read_header
from candletune.prompts.parse import parse_answer
from candletune.prompts.template import load_template
from candletune.runs import RunFolder
from candletune.stages.runner import Stage

PLAIN_TYPES = (0, 1, 32)
"""`general.file_type` of F32, F16 and BF16 models; anything else is quantized."""
CANDIDATE = "candidate"


@dataclass(frozen=True, slots=True)
class Criterion:
    """One line of the certificate; `limit` says in words what is demanded of `value`."""

    name: str
    value: float | str
    limit: str
    passed: bool


@dataclass(frozen=True, slots=True)
class Answers:
    """What an export answered: decision probabilities (n, 3) with the adapter on, and texts."""

    probabilities: NDArray[np.float64]
    texts: list[Generation]


def verify(config: Config, run: RunFolder, reporter: Reporter) -> dict[str, Any]:
    """The stage's work; returns the summary, whose `passed` tells whether every criterion held."""
    prompts = _prompts(config, run)
    merged = run.stage_summary("export")["kind"] == "merged"
    exported = run.exported(merged)
    try:
        criteria = _examine(config, run, reporter, prompts, exported, merged=merged)
    except CandletuneError as error:
        criteria = [Criterion("loads", str(error), "loads over the base without an error", passed=False)]
    if len(prompts) < config.verify.prompts:
        limit = f"at least {config.verify.prompts} (verify.prompts)"
        criteria.append(Criterion("held-out prompts", float(len(prompts)), limit, passed=False))
    failed = [criterion for criterion in criteria if not criterion.passed]
    record = {
        "version": 1,
        "passed": not failed,
        "file": f"gguf/{exported.name}",
        "base": base_gguf(config, run).name,
        "prompts": len(prompts),
        "criteria": [asdict(criterion) for criterion in criteria],
    }
    write_json(run.certificate, record)
    _print(criteria, reporter)
    said = "every criterion held" if not failed else f"FAILED: {failed[0].name} is {_show(failed[0].value)}"
    return {"headline": f"{len(prompts)} prompts, {said}", **record}


def _prompts(config: Config, run: RunFolder) -> list[str]:
    """Held-out prompts, evenly over the eval period."""
    rows = pl.read_parquet(run.natural_eval)["prompt"].to_list()
    wanted = min(config.verify.prompts, len(rows))
    return [rows[index * len(rows) // wanted] for index in range(wanted)]


def _examine(
    config: Config, run: RunFolder, reporter: Reporter, prompts: list[str], exported: Path, *, merged: bool
) -> list[Criterion]:
    from candletune.engines.llama_cpp import LlamaCppEngine

    limits = config.verify
    criteria = [_template_criterion(config, exported)]
    engine_config = config.engine.model_copy(update={"grammar": False, "temperature": 0.0})
    engine = LlamaCppEngine(exported if merged else base_gguf(config, run), engine_config)
    try:
        adapter = None if merged else CANDIDATE
        if adapter:
            engine.add_adapter(adapter, exported)
        criteria.insert(0, Criterion("loads", "yes", "loads over the base without an error", passed=True))
        engine.use(adapter)
        answers = Answers(engine.score(prompts), _generate(engine, prompts, reporter))
        criteria += _text_criteria(answers.texts, limits.min_parsed)
        used = len(set(answers.probabilities.argmax(axis=1).tolist()))
        criteria.append(
            Criterion("classes used", float(used), f"at least {limits.min_classes}", passed=used >= limits.min_classes)
        )
        base = _bare_base(config, run, engine, prompts, merged=merged)
        difference = float(np.abs(answers.probabilities - base).mean())
        criteria.append(
            Criterion(
                "differs from the bare base",
                round(difference, 6),
                f"mean probability change at least {limits.min_difference}",
                passed=difference >= limits.min_difference,
            )
        )
        engine.use(adapter)
        again = engine.score(prompts)
        equal = bool(np.array_equal(again, answers.probabilities))
        criteria.append(Criterion("same after a switch and back", "yes" if equal else "no", "equal", passed=equal))
        file_type = engine.base.fields.get("general.file_type")
        quantized = file_type not in PLAIN_TYPES
        ids = [engine.prompt_ids(prompt) for prompt in prompts]
    finally:
        engine.close()
    return criteria + _reference_criteria(config, run, reporter, prompts, ids, answers, quantized=quantized)


def _bare_base(
    config: Config, run: RunFolder, engine: Engine, prompts: list[str], *, merged: bool
) -> NDArray[np.float64]:
    from candletune.engines.llama_cpp import LlamaCppEngine

    if not merged:
        engine.use(None)
        return engine.score(prompts)
    bare = LlamaCppEngine(base_gguf(config, run), config.engine)
    try:
        return bare.score(prompts)
    finally:
        bare.close()


def _generate(engine: Engine, prompts: list[str], reporter: Reporter) -> list[Generation]:
    texts = []
    with reporter.task("verify: answers", len(prompts)) as task:
        for prompt in prompts:
            texts.append(engine.generate(prompt))
            task.advance()
    return texts


def _text_criteria(texts: list[Generation], min_parsed: float) -> list[Criterion]:
    """What unconstrained answers (no grammar) look like."""
    empty = sum(not text.text for text in texts)
    parsed = sum(parse_answer(text.text).action is not None for text in texts) / len(texts)
    ended = sum(text.ended for text in texts) / len(texts)
    return [
        Criterion("empty answers", float(empty), "0", passed=empty == 0),
        Criterion("answers that parse", round(parsed, 4), f"at least {min_parsed}", passed=parsed >= min_parsed),
        Criterion("answers that end themselves", round(ended, 4), f"at least {min_parsed}", passed=ended >= min_parsed),
    ]


def _template_criterion(config: Config, exported: Path) -> Criterion:
    ours = load_template(config.prompt.template).sha256
    theirs = read_header(exported).manifest.get("template_sha256", "none")
    return Criterion(
        "template hash", str(theirs)[:12], f"equals the configured template's ({ours[:12]})", passed=theirs == ours
    )


@quiet()
def _reference_criteria(
    config: Config,
    run: RunFolder,
    reporter: Reporter,
    prompts: list[str],
    ids: list[list[int]],
    answers: Answers,
    *,
    quantized: bool,
) -> list[Criterion]:
    """Against the Transformers model with the trained adapter, which is what was meant to be exported."""
    from candletune.base.find import resolve_base
    from candletune.engines.transformers import TransformersEngine

    limits = config.verify
    if limits.reference == "none":
        return []
    base = resolve_base(config, reporter)
    reference = TransformersEngine(config, base.path, "nf4" if limits.reference == "nf4" else "none")
    try:
        same = sum(reference.prompt_ids(prompt) == row for prompt, row in zip(prompts, ids, strict=True))
        reference.add_adapter(CANDIDATE, run.adapter)
        reference.use(CANDIDATE)
        expected = reference.score(prompts)
    finally:
        reference.close()
    agreement = float((expected.argmax(axis=1) == answers.probabilities.argmax(axis=1)).mean())
    gap = float(np.abs(expected - answers.probabilities).max())
    gap_limit = limits.max_quantized_gap if quantized else limits.max_probability_gap
    least = limits.min_agreement
    return [
        Criterion("prompt ids as in training", same / len(prompts), "1.0", passed=same == len(prompts)),
        Criterion("decisions as Transformers", round(agreement, 4), f"at least {least}", passed=agreement >= least),
        Criterion("largest probability gap", round(gap, 6), f"at most {gap_limit}", passed=gap <= gap_limit),
    ]


def _show(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _print(criteria: list[Criterion], reporter: Reporter) -> None:
    width = max(len(criterion.name) for criterion in criteria)
    for criterion in criteria:
        mark = "ok  " if criterion.passed else "FAIL"
        reporter.say(f"  {mark} {criterion.name:<{width}}  {_show(criterion.value)}  ({criterion.limit})")


def _inputs(config: Config, run: RunFolder) -> Mapping[str, Path]:
    merged = run.stage_summary("export")["kind"] == "merged"
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
)
