"""The series and sentences of the report, on tables small enough to check by hand."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta

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
from candletune.report import sections
from candletune.report.figures import prices, running_difference
from candletune.report.methods import method_sentence, methods_of
from candletune.report.text import growth, interval, number, percent, points
from candletune.report.verdict import verdict_view
from partly import partly

START = datetime(2025, 1, 1, tzinfo=UTC)
PERCENT = "\N{NO-BREAK SPACE}%"


def scored(active: list[str | None], shadow: list[str | None], returns: list[float | None]) -> pl.DataFrame:
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
    assert low < min(gain.value) and high > max(gain.value)


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


def test_price_markers_are_filled_where_right() -> None:
    data = prices(scored(["HOLD"] * 3, ["BUY"] * 3, [0.02, 0.0, None]), "BTC")["data"]
    buys = next(trace for trace in data if trace["name"] == "Candidate BUY")
    assert buys["marker"]["symbol"] == ["triangle-up", "triangle-up-open", "triangle-up-open"]
    assert buys["text"] == ["+2.00%: right", "+0.00%: wrong", "outcome open"]


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (percent(0.4321), f"43.2{PERCENT}"),
        (percent(-0.0001), f"0.0{PERCENT}"),
        (percent(float("nan")), "–"),
        (points(-0.05), "\N{MINUS SIGN}5.0\N{NO-BREAK SPACE}pp"),
        (growth(0.123), f"+12.3{PERCENT}"),
        (growth(11390.8), "×\N{NO-BREAK SPACE}11,392"),
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
    view = verdict_view(verdict)
    assert (view.sentence, view.reason, view.tone) == ("Not enough evidence yet.", "Too little was seen.", "wait")
    assert (view.passed, view.open, view.criteria[0].state) == (0, 1, "open")
    assert view.criteria[0].interval == f"0.0{PERCENT} to +20.0{PERCENT}".replace("%", "pp")


def test_control_is_told_in_words() -> None:
    control = ShiftControl(accuracy=0.4, chance=0.31, low=0.2, high=0.4, p_value=0.02, shifts=300)
    text = sections.control_sentence(partly(Metrics, controls={"shadow": control}))
    assert f"right 31.0{PERCENT} of the time" in text
    assert f"2.0{PERCENT} of the shifts do as well" in text
    assert sections.control_sentence(partly(Metrics, controls={"shadow": None})) == ""
