"""The series and sentences of the report, on tables small enough to check by hand."""

import re
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from candletune.artifacts import JudgedModel, Metrics, Verdict, VerdictCriterion
from candletune.artifacts.metrics import BaselineMetrics, Comparison, Equity, Interval, ShiftControl, SideMetrics
from candletune.evaluation import over_time
from candletune.evaluation.bounds import grid_of
from candletune.evaluation.outcomes import score_rows
from candletune.evaluation.statistics import Ratio
from candletune.evaluation.times import SideTimes, Times, times_of
from candletune.report import sections, trading
from candletune.report.curves import Curve, curves
from candletune.report.figures import running_difference
from candletune.report.methods import method_sentence, methods_of
from candletune.report.needs import needs
from candletune.report.text import chance, interval, number, percent, points
from candletune.report.verdict import verdict_view
from partly import partly

START = datetime(2025, 1, 1, tzinfo=UTC)
PERCENT = "\N{NO-BREAK SPACE}%"


def scored(active: Sequence[str | None], shadow: Sequence[str | None], returns: Sequence[float | None]) -> pl.DataFrame:
    """One ticker, a row every 6 hours, price 100 throughout."""
    count = len(returns)
    rows = pl.DataFrame(
        {
            "timestamp": [START + timedelta(hours=6 * i) for i in range(count)],
            "ticker": ["BTC"] * count,
            "price": [100.0] * count,
            "active_action": active,
            "shadow_action": shadow,
            "forward_return": returns,
            "active_reasoning": pl.Series([None] * count, dtype=pl.String),
            "shadow_reasoning": pl.Series([None] * count, dtype=pl.String),
        },
        schema_overrides={"active_action": pl.String, "shadow_action": pl.String, "forward_return": pl.Float64},
    )
    return score_rows(rows, 0.01)


def guesses(count: int, seed: int = 1) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    names = ["BUY", "SELL", "HOLD"]
    active = [names[i] for i in rng.integers(3, size=count)]
    shadow = [names[i] for i in rng.integers(3, size=count)]
    return scored(active, shadow, [float(x) for x in rng.normal(0, 0.02, count)])


HORIZON = timedelta(hours=12)


def test_overlap_counts_windows_that_share_candles() -> None:
    rows = guesses(10)
    assert times_of(rows, HORIZON).overlap == 1
    assert times_of(rows, timedelta(hours=6)).overlap == 0
    assert times_of(rows.head(1), HORIZON).overlap == 0
    assert times_of(rows, HORIZON).windows == 5


def test_pending_rows_and_missing_answers_count_nowhere() -> None:
    rows = scored(["BUY", None, "BUY", "SELL"], ["SELL", "BUY", "HOLD", "BUY"], [0.02, 0.02, -0.02, None])
    times = times_of(rows, HORIZON)
    # rows that only one side answered would compare the models on different hours
    assert {side: float(part.signals.sum()) for side, part in times.sides.items()} == {"active": 2, "shadow": 1}
    assert {side: float(part.hits.sum()) for side, part in times.sides.items()} == {"active": 1, "shadow": 0}


def test_running_difference_ends_at_the_whole_difference() -> None:
    times = times_of(guesses(400), HORIZON)
    run = over_time.running(times, 0.95)
    assert run is not None
    total = {
        side: float(times.sides[side].hits.sum() / times.sides[side].signals.sum()) for side in ("active", "shadow")
    }
    gain = run.difference
    assert gain.value[-1] == pytest.approx(total["shadow"] - total["active"], abs=1e-5)
    assert gain.low[-1] < gain.value[-1] < gain.high[-1]
    for side, line in run.sides.items():
        assert line.value[-1] == pytest.approx(total[side], abs=1e-5)
        assert line.low[-1] < line.value[-1] < line.high[-1]
    low, high = running_difference(run, 0.05)["layout"]["yaxis"]["range"]
    assert low < 100 * min(gain.value) and high > 100 * max(gain.value)


def partly_times(signals: NDArray[np.float64], hits: NDArray[np.float64]) -> SideTimes:
    """Only what the running accuracy counts."""
    other = {field.name: np.zeros_like(hits) for field in fields(SideTimes)}
    return SideTimes(**(other | {"signals": signals, "hits": hits}))


def test_band_matches_the_binomial_error_without_overlap() -> None:
    """Two independent sides that always act: the error is the root of the two binomial variances."""
    rng = np.random.default_rng(5)
    hits = {side: (rng.random(2000) < 0.5).astype(float) for side in ("active", "shadow")}
    stamps = tuple(START + timedelta(hours=i) for i in range(2000))
    sides = {side: partly_times(np.ones(2000), values) for side, values in hits.items()}
    nothing = np.zeros(2000)
    times = Times(sides, Ratio(nothing, nothing), nothing, grid_of(np.arange(2000) / 24, 0), stamps)
    run = over_time.running(times, 0.95)
    assert run is not None
    variances = {side: values.mean() * (1 - values.mean()) / 2000 for side, values in hits.items()}
    width = (run.difference.high[-1] - run.difference.low[-1]) / 2
    assert width == pytest.approx(1.96 * np.sqrt(sum(variances.values())), rel=0.05)
    own = run.sides["shadow"]
    assert (own.high[-1] - own.low[-1]) / 2 == pytest.approx(1.96 * np.sqrt(variances["shadow"]), rel=0.05)


def test_too_little_for_a_line() -> None:
    assert over_time.running(times_of(guesses(12), HORIZON), 0.95) is None
    silent = times_of(scored(["HOLD"] * 40, ["HOLD"] * 40, [0.0] * 40), HORIZON)
    assert over_time.running(silent, 0.95) is None


def with_accuracy(active: float | None, shadow: float | None, **shares: float) -> Metrics:
    """Metrics that hold what the sentences read."""
    sides = {
        side: partly(
            SideMetrics,
            **dict.fromkeys(("accuracy_all", "balanced_accuracy", "mean_signed_return")),
            accuracy_signals=accuracy,
            signals=9,
            shares={"BUY": 0.0, "SELL": 0.0, "HOLD": 0.0} | shares,
        )
        for side, accuracy in (("active", active), ("shadow", shadow))
    }
    nothing = Interval(value=None, low=None, high=None)
    comparison = partly(
        Comparison,
        accuracy_signals=nothing,
        sides={"active": nothing, "shadow": Interval(value=0.5, low=0.4, high=0.6)},
    )
    return partly(Metrics, **sides, comparison=comparison, controls={"shadow": None})


def test_models_without_a_call_are_said_in_words() -> None:
    rows = scored(["HOLD"] * 3, ["BUY"] * 3, [0.0] * 3)
    text = sections.lead_sentence(with_accuracy(None, 0.5), rows, 0.95)
    assert "the incumbent made no BUY or SELL call" in text
    text = sections.lead_sentence(with_accuracy(0.5, None, HOLD=1.0), rows, 0.95)
    assert text.endswith("The candidate only ever said HOLD.")


def test_simpler_method_that_does_as_well_is_named() -> None:
    def sentence(candidate: float | None, **baselines: float | None) -> str:
        nothing = Interval(value=None, low=None, high=None)
        entries = {
            name: BaselineMetrics(
                rows=9,
                signals=9,
                accuracy_signals=accuracy,
                accuracy_all=None,
                balanced_accuracy=None,
                mean_signed_return=None,
                interval=nothing,
                lead=nothing,
            )
            for name, accuracy in baselines.items()
        }
        rows = methods_of(with_accuracy(0.9, candidate).model_copy(update={"baselines": entries}))
        assert [row.bounds for row in rows[:2]] == [(0.4, 0.6), None]
        return method_sentence(rows)

    assert "A simpler method does at least as well: rule" in sentence(0.5, rule=0.5)
    assert "above every baseline" in sentence(0.5, rule=0.4, mute=None)
    assert sentence(0.5) == "No baseline was computed."
    assert "made no BUY or SELL call" in sentence(None, rule=0.4)


def test_longest_run_does_not_cross_tickers() -> None:
    rows = scored(["BUY", "BUY", "SELL", "SELL", "SELL"], ["HOLD"] * 5, [0.0] * 5)
    other = rows.with_columns(ticker=pl.lit("ETH"))
    entry = partly(
        SideMetrics,
        shares={"BUY": 0.4, "SELL": 0.6, "HOLD": 0.0},
        status={"ok": 5, "invalid": 0, "skipped": 0, "error": 0},
        flip_rate=None,
        latency_ms=None,
        equity=Equity(net_return=0.0, buy_and_hold=0.0, max_drawdown=0.1, turnover=3.0),
    )
    metrics = partly(Metrics, active=entry, shadow=entry)
    table = {row["label"]: row for row in sections.failures(metrics, pl.concat([rows, other]))}
    assert table["longest run of one decision"]["active"] == "3 × SELL (BTC)"
    assert table["longest run of one decision"]["shadow"] == "5 × HOLD (BTC)"
    assert table["most frequent decision"]["shadow"] == f"SELL, 60.0{PERCENT}"
    assert table["decision never made"]["shadow"] == "HOLD"


def test_worst_calls_and_disagreements() -> None:
    rows = scored(["BUY"] * 4, ["SELL", "SELL", "BUY", "SELL"], [0.05, -0.05, 0.0, 0.01])
    worst = sections.worst_calls(rows)
    assert worst[0]["shadow_signed"] == -0.05
    assert len(sections.disagreements(rows)) == 3
    assert sections.disagreements(rows.head(0)) == []


def test_confident_calls_are_wrong_less_often() -> None:
    """Forty calls: sure ones right, unsure ones wrong; pending rows and HOLD count nowhere."""
    returns = [0.05, -0.05] * 10 + [-0.05, 0.05] * 10 + [0.0, None]
    rows = scored(["HOLD"] * 42, ["BUY", "SELL"] * 20 + ["HOLD", "BUY"], returns)
    chance = [0.9] * 20 + [0.5] * 20 + [0.9, 0.9]
    known = rows.with_columns(shadow_p_buy=pl.Series(chance), shadow_p_sell=pl.Series(chance))
    assert over_time.selective(known, "shadow") == over_time.Selective([0.5, 1.0], [0.0, 0.5])
    no_call = rows.with_columns(active_p_buy=pl.Series(chance), active_p_sell=pl.Series(chance))
    assert over_time.selective(no_call, "active") is None


def test_drawdown_is_below_the_last_peak() -> None:
    rows = scored(["HOLD"] * 4, ["BUY"] * 4, [0.0] * 4).with_columns(price=pl.Series([100.0, 120.0, 90.0, 99.0]))
    curves = over_time.equity_curves(rows, 0.0)
    assert curves.value["market"] == curves.value["shadow"] == [0.2, -0.1, -0.01, -0.01]
    assert curves.fall["market"] == [0.0, -0.25, -0.175, -0.175]
    plain = over_time.equity_curves(rows, 0.0, compounded=False)
    assert plain.value["market"] == [0.2, -0.05, 0.05, 0.05]
    assert plain.fall["market"] == [0.0, -0.25, -0.15, -0.15]
    assert plain.value["active"] == [0.0] * 4


def test_a_long_curve_keeps_its_deepest_point() -> None:
    prices = [100.0] * 2000
    prices[1234] = 50.0
    curves = over_time.equity_curves(
        scored(["HOLD"] * 2000, ["BUY"] * 2000, [0.0] * 2000).with_columns(price=pl.Series(prices)), 0.0
    )
    assert len(curves.time) < 500
    assert min(curves.fall["shadow"]) == -0.5


def criterion(name: str, value: float | None, ends: tuple[float, float] | None, limit: float, **more: Any) -> Any:
    given = {"passed": False, "kind": "evidence", "unit": "points", "description": ""} | more
    return VerdictCriterion(name=name, value=value, interval=ends, limit=limit, **given)


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (criterion("direction", 0.02, (-0.02, 0.06), 0.0), "about 300 more days would lift it there"),
        (criterion("direction", -0.01, (-0.02, 0.0), 0.0), "more of the same would not change that"),
        (criterion("wanted gain", 0.01, (0.0, 0.02), 0.05), "try another candidate"),
        (criterion("months", 1.0, None, 2.0, unit="count"), "1 of at least 2: 1 more are needed"),
        (criterion("net return", None, None, 0.0), "nothing to compare yet"),
        (criterion("largest class", 0.95, None, 0.9, kind="plan"), "use its other decisions more"),
        (criterion("beats RSI rule", 0.01, None, 0.02), "is the limit"),
    ],
)
def test_what_it_would_take(item: VerdictCriterion, text: str) -> None:
    verdict = partly(Verdict, criteria=(item, criterion("log score", 0.0, None, 1.0, decides=False)))
    (line,) = needs(verdict, partly(Metrics, comparison=partly(Comparison, days=100.0)))
    assert text in line


def test_what_came_closest() -> None:
    near = criterion("direction", 0.02, (0.001, 0.039), 0.0, passed=True)
    far = criterion("net return", 0.2, (0.15, 0.25), 0.0, passed=True)
    metrics = partly(Metrics, comparison=partly(Comparison, days=100.0))
    assert needs(partly(Verdict, criteria=(far, near)), metrics)[0].startswith("The closest call was direction")
    bare = criterion("months", 3.0, None, 2.0, unit="count", passed=True)
    assert needs(partly(Verdict, criteria=(bare,)), metrics) == []


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (percent(0.4321), f"43.2{PERCENT}"),
        (percent(-0.0001), f"0.0{PERCENT}"),
        (percent(float("nan")), "–"),
        (points(-0.05), "\N{MINUS SIGN}5.0\N{NO-BREAK SPACE}pp"),
        (number(374.6, 0), "375"),
        (number(12345), "12,345"),
        (interval([0.1, 0.25], 0), f"10 to 25{PERCENT}"),
        (interval(None), "–"),
    ],
)
def test_numbers_as_people_read_them(shown: str, text: str) -> None:
    assert shown == text


def test_verdict_in_words() -> None:
    model = JudgedModel(name="a", adapter_sha256=None)
    gain = VerdictCriterion(
        name="accuracy gain",
        description="",
        value=0.1,
        interval=(0.0, 0.2),
        limit=0.05,
        passed=None,
        kind="plan",
        unit="points",
    )
    verdict = Verdict(
        verdict="not enough evidence",
        reason="too little was seen",
        rule="full",
        criteria=(gain,),
        candidate=model,
        incumbent=model,
        forced=False,
        rows=3,
    )
    view = verdict_view(verdict, partly(Metrics))
    assert (view.sentence, view.reason, view.tone) == ("Not enough evidence yet.", "Too little was seen.", "wait")
    assert (view.passed, view.open, view.criteria[0].state) == (0, 1, "open")
    assert view.criteria[0].interval == f"0.0{PERCENT} to +20.0{PERCENT}".replace("%", "pp")


def test_control_is_told_in_words() -> None:
    control = ShiftControl(accuracy=0.4, chance=0.31, low=0.2, high=0.4, p_value=0.02, shifts=300)
    text = sections.control_sentence(partly(Metrics, controls={"shadow": control}))
    assert f"right 31.0{PERCENT} of the time" in text
    assert f"2.0{PERCENT} of the shifts do as well" in text
    assert sections.control_sentence(partly(Metrics, controls={"shadow": None})) == ""


def test_buy_and_sell_apart_by_hand() -> None:
    """Two BUY calls, one right, and a SELL that lost 3 %; HOLD and a pending outcome count nowhere."""
    rows = scored(["HOLD"] * 5, ["BUY", "BUY", "SELL", "HOLD", "BUY"], [0.04, 0.0, 0.03, 0.05, None])
    table = {(row.key, row.action): row for row in trading.directions(rows, 0.001)}
    buy, sell, none = table["shadow", "BUY"], table["shadow", "SELL"], table["active", "SELL"]
    assert (buy.calls, buy.right) == (2, 0.5)
    assert buy.per_call == pytest.approx(0.02 - 0.002)
    assert (sell.calls, sell.right) == (1, 0.0)
    assert sell.per_call == pytest.approx(-0.03 - 0.002)
    assert (none.calls, none.right, none.per_call) == (0, None, None)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("span", [(0.95, 1.0), (0.267, 0.667), (0.42, 0.65), (0.0, 1.0), (0.5, 0.5004), (0.123, 0.987)])
def test_axes_have_round_numbers(span: tuple[float, float], share: bool) -> None:
    lines = [Curve(0, "a", [(1.0, span[0]), (2.0, span[1])])]
    drawing = str(curves(lines, name="x", label="x", across="step", share=share))
    low, high = map(float, re.findall(r'data-y="(\S+) (\S+)"', drawing)[0])
    texts = re.findall(r'text-anchor="end">([\d.]+)%?</text>', drawing)[:-1]  # the last one is the step's
    values = [float(text) / (100 if share else 1) for text in texts]
    assert low <= span[0] and span[1] <= high
    assert (low, high) == pytest.approx((values[0], values[-1]))
    assert 3 <= len(values) <= 8
    steps = [after - before for before, after in pairwise(values)]
    assert steps == pytest.approx([steps[0]] * len(steps)), "what is written is where it stands"
    assert f"{steps[0]:.0e}"[0] in "125"
    assert not share or 0 <= low < high <= 1


def test_p_values() -> None:
    assert [chance(value) for value in (0.0421, 3e-7, 0.00051, None)] == ["0.042", "< 0.001", "0.001", "–"]
