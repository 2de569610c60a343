"""Whether the models' reasons tell the truth about the row they were written for."""

from collections.abc import Mapping
from typing import Final

import polars as pl

from candletune.artifacts.metrics import FalseClaim, Grounding, SideGrounding
from candletune.config import Config
from candletune.dataset import add_prompts, complete_rows
from candletune.errors import InputError
from candletune.evaluation.statistics import wilson
from candletune.journal import SIDES
from candletune.prompts.context import Context, context_of
from candletune.prompts.grounding import check_reason
from candletune.prompts.template import load_template

FALSE_SHOWN: Final = 3


def grounding(config: Config, scored: pl.DataFrame) -> Grounding | None:
    """By side: reasons, those with a checkable claim, those all of whose claims hold, and a few that are false.

    None when no reason was written, or the candles are gone. A row counts only when its prompt can be rendered again
    to the same hash, so that a reason is never held against other facts.
    """
    written = scored.filter(pl.any_horizontal(pl.col(f"{side}_reasoning").is_not_null() for side in SIDES))
    if written.is_empty():
        return None
    wanted = written.select(asset="ticker", timeframe=pl.lit(config.data.timeframe), decision_time="timestamp")
    try:
        template = load_template(config.prompt.template)
        market = add_prompts(complete_rows(config, wanted), template)
    except InputError:
        return None
    contexts = {row["prompt_sha256"]: template.visible(context_of(row)) for row in market.iter_rows(named=True)}
    sides = {side: _side(written, side, contexts, config.evaluate.confidence) for side in SIDES}
    matched = int(written["prompt_sha256"].is_in(list(contexts)).sum())
    return Grounding(rows=len(written), matched=matched, active=sides["active"], shadow=sides["shadow"])


def _side(written: pl.DataFrame, side: str, contexts: Mapping[str, Context], confidence: float) -> SideGrounding:
    reasons = checked = true = claimed = held = 0
    false: list[FalseClaim] = []
    for row in written.iter_rows(named=True):
        reason, context = row[f"{side}_reasoning"], contexts.get(row["prompt_sha256"])
        if not reason or context is None:
            continue
        reasons += 1
        claims = check_reason(reason, context)
        wrong = [claim.text for claim in claims if not claim.holds]
        claimed, held = claimed + len(claims), held + len(claims) - len(wrong)
        checked += bool(claims)
        true += bool(claims) and not wrong
        if wrong and len(false) < FALSE_SHOWN:
            false.append(FalseClaim(reason=reason, claim="; ".join(wrong)))
    rate = true / checked if checked else None
    return SideGrounding(
        reasons=reasons,
        checked=checked,
        true=true,
        rate=rate,
        interval=wilson(rate, checked, confidence) if rate is not None else None,
        claims=claimed,
        claims_true=held / claimed if claimed else None,
        false=tuple(false),
    )
