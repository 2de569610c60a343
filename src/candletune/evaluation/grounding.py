"""Whether the models' reasons tell the truth about the row they were written for."""

from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a row's models read, made again from the candles: the prompt, and the facts as the template shows them."""

    prompt: str
    context: Context


def rendered_again(config: Config, rows: pl.DataFrame) -> dict[str, Rendered] | None:
    """By `prompt_sha256`, the prompts of journal rows; of a row whose prompt comes out different there is another hash.

    None when the candles are gone or have changed.
    """
    wanted = rows.select(asset="ticker", timeframe=pl.lit(config.data.timeframe), decision_time="timestamp")
    try:
        template = load_template(config.prompt.template)
        market = add_prompts(complete_rows(config, wanted), template)
    except InputError:
        return None
    return {
        row["prompt_sha256"]: Rendered(row["prompt"], template.visible(context_of(row)))
        for row in market.iter_rows(named=True)
    }


def grounding(config: Config, scored: pl.DataFrame) -> Grounding | None:
    """By side: reasons, those with a checkable claim, those all of whose claims hold, and a few that are false.

    None when no reason was written, or the candles are gone. A row counts only when its prompt can be rendered again
    to the same hash, so that a reason is never held against other facts.
    """
    written = with_reasons(scored)
    rendered = None if written.is_empty() else rendered_again(config, written)
    if rendered is None:
        return None
    contexts = {digest: row.context for digest, row in rendered.items()}
    sides = {side: _side(written, side, contexts, config.evaluate.confidence) for side in SIDES}
    matched = int(written["prompt_sha256"].is_in(list(contexts)).sum())
    return Grounding(rows=len(written), matched=matched, active=sides["active"], shadow=sides["shadow"])


def with_reasons(scored: pl.DataFrame) -> pl.DataFrame:
    """The rows with a reason of either model."""
    return scored.filter(pl.any_horizontal(pl.col(f"{side}_reasoning").is_not_null() for side in SIDES))


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
