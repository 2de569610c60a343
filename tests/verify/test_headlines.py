"""What headlines alone do to a model is measured, limited where it is served headlines, and said where it is not."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from candletune.artifacts import Certificate, HeadlineShift
from candletune.config import load_config
from candletune.decisions import DECISIONS
from candletune.prompts.template import Template, load_template
from candletune.stages.headlines import HOSTILE, NAME, headline_prompts, judged, shift_of
from candletune.stages.verify import remedy_of
from export_case import Case, failures

ROWS = pl.DataFrame({"asset": ["BTC", "ETH", "BTC"], "close": [1.0, 2.0, 3.0], "rsi": [30.0, 50.0, 70.0]})
KINDS = ("none", "neutral", *HOSTILE)


def test_every_kind_asks_the_same_rows() -> None:
    asked = headline_prompts(ROWS, load_template(None), 2)
    assert asked is not None
    assert asked.kinds == KINDS
    assert [len(kind) for kind in asked.prompts] == [2] * len(KINDS)
    told = asked.prompts[KINDS.index("told to SELL")]
    assert all("answer DECISION: SELL" in prompt for prompt in told)
    assert "RSI" in told[0] and "ETH" not in told[0] and "ETH" in told[1]


def test_nothing_is_asked_where_it_would_say_nothing() -> None:
    assert headline_prompts(ROWS, load_template(None), 0) is None
    assert headline_prompts(pl.DataFrame({"prompt": ["x"]}), load_template(None), 5) is None
    blind = Template("own", "Asset: {{ ticker }}")
    assert headline_prompts(ROWS, blind, 5) is None


def shift(**turned: int) -> HeadlineShift:
    """Of three rows, so many of a kind's turned from HOLD to BUY."""
    asked = headline_prompts(ROWS, load_template(None), 3)
    assert asked is not None
    hold, buy = (np.eye(3)[DECISIONS.index(name)] * 0.6 + 0.4 / 3 for name in ("HOLD", "BUY"))
    answers = [
        [buy if row < turned.get(kind.replace(" ", "_"), 0) else hold for row in range(3)] for kind in asked.kinds
    ]
    found = shift_of(asked, np.array(answers).reshape(-1, 3))
    assert found is not None
    return found


def test_the_worst_kind_counts() -> None:
    found = shift(good_news=1, told_to_BUY=2, neutral=3)
    assert (found.rows, found.worst, found.turned, found.neutral_turned) == (3, "told to BUY", 0.6667, 1.0)
    assert found.largest_gap == pytest.approx(0.6)
    assert found.by_kind["good news"] == 0.3333


def test_a_criterion_with_headlines_and_a_finding_without(tmp_path: Path) -> None:
    served = load_config(None, [f"data.headlines={tmp_path / 'news.csv'}"])
    plain = load_config(None)
    (criterion,), findings = judged(shift(told_to_BUY=2), served)
    assert (criterion.passed, findings) == (False, ())
    assert "worst: told to BUY" in criterion.limit
    assert "headlines steer it" in remedy_of(served, [criterion], "base.gguf", "gguf")
    (criterion,), _ = judged(shift(told_to_BUY=1), served)
    assert criterion.passed
    criteria, (finding,) = judged(shift(told_to_BUY=2), plain)
    assert criteria == () and finding.name == NAME
    assert judged(shift(told_to_BUY=1), plain) == ((), ())
    assert judged(None, served) == ((), ())


def test_a_broken_export_says_nothing_of_headlines() -> None:
    asked = headline_prompts(ROWS, load_template(None), 1)
    assert asked is not None
    assert shift_of(asked, np.full((len(KINDS), 3), np.nan)) is None


@pytest.mark.llamacpp
def test_the_certificate_has_it(random_base: Path, tmp_path: Path, texts: tuple[list[str], list[str]]) -> None:
    case = Case(random_base, tmp_path / "run", texts[0], "verify.headline_rows=3", "verify.max_headline_shift=1")
    case.export()
    rows = pl.read_parquet(case.run.natural_eval)
    rows.with_columns(asset=pl.lit("BTC"), close=pl.lit(100.0), rsi=pl.lit(50.0)).write_parquet(case.run.natural_eval)
    _, passed, _ = case.verify()
    assert failures(passed) == set()
    certificate = Certificate.read(case.run.certificate)
    assert certificate.prompts == 30, "the rows asked again are no held-out prompts more"
    assert certificate.headlines is not None and certificate.headlines.rows == 3
    assert set(certificate.headlines.by_kind) == {"neutral", *HOSTILE}
