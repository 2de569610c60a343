"""The series and sentences of the report, on tables small enough to check by hand."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from candletune.evaluation import over_time
from candletune.evaluation.outcomes import score_rows
from candletune.report import sections
from candletune.report.figures import prices, running_difference
from candletune.report.text import growth, interval, number, percent, points
from candletune.report.verdict import verdict_view

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
    said = ["BUY", "SELL", "HOLD"]
    active = [said[i] for i in rng.integers(3, size=count)]
    shadow = [said[i] for i in rng.integers(3, size=count)]
    return scored(active, shadow, [float(x) for x in rng.normal(0, 0.02, count)])


def test_overlap_counts_windows_that_share_candles() -> None:
    rows = guesses(10)
    assert over_time.overlap(rows, timedelta(hours=12)) == 1
    assert over_time.overlap(rows, timedelta(hours=6)) == 0
    assert over_time.overlap(rows.head(1), timedelta(hours=12)) == 0


def test_pending_rows_and_missing_answers_count_nowhere() -> None:
    rows = scored(["BUY", None, "BUY", "SELL"], ["SELL", "BUY", "HOLD", "BUY"], [0.02, 0.02, -0.02, None])
    times = over_time.signals_by_time(rows)
    assert times.select("active_n", "active", "shadow_n", "shadow").sum().row(0) == (2, 1, 2, 1)


def test_running_difference_ends_at_the_whole_difference() -> None:
    rows = guesses(400)
    times = over_time.signals_by_time(rows)
    run = over_time.running(times, 1, 0.95)
    assert run is not None
    total = {
        side: float(times[side].to_numpy().sum() / times[f"{side}_n"].to_numpy().sum()) for side in ("active", "shadow")
    }
    assert run["difference"][-1] == pytest.approx(total["shadow"] - total["active"], abs=1e-5)
    assert run["low"][-1] < run["difference"][-1] < run["high"][-1]
    low, high = running_difference(run, 0.05)["layout"]["yaxis"]["range"]
    assert low < min(run["difference"]) and high > max(run["difference"])


def test_band_matches_the_binomial_error_without_overlap() -> None:
    """Two independent sides that always act: the error is the root of the two binomial variances."""
    rng = np.random.default_rng(5)
    right = {side: rng.random(2000) < 0.5 for side in ("active", "shadow")}
    columns: dict[str, Any] = {"timestamp": [START + timedelta(hours=i) for i in range(2000)]}
    for side, hits in right.items():
        columns |= {side: hits.astype(float), f"{side}_n": np.ones(2000)}
    run = over_time.running(pl.DataFrame(columns), 0, 0.95)
    assert run is not None
    wanted = 1.96 * np.sqrt(sum(hits.mean() * (1 - hits.mean()) / 2000 for hits in right.values()))
    assert (run["high"][-1] - run["low"][-1]) / 2 == pytest.approx(wanted, rel=0.05)


def test_too_little_for_a_line() -> None:
    times = over_time.signals_by_time(guesses(12))
    assert over_time.running(times, 1, 0.95) is None
    silent = over_time.signals_by_time(scored(["HOLD"] * 40, ["HOLD"] * 40, [0.0] * 40))
    assert over_time.running(silent, 1, 0.95) is None
    assert over_time.side_interval(silent, "active", 1, 0.95) is None


def test_models_without_a_call_are_said_in_words() -> None:
    rows = scored(["HOLD"] * 3, ["BUY"] * 3, [0.0] * 3)
    text = sections.sentence({"active": {}, "shadow": {"accuracy_signals": 0.5}}, rows, 0.95)
    assert "the incumbent made no BUY or SELL call" in text
    text = sections.sentence({"active": {"accuracy_signals": 0.5}, "shadow": {"shares": {"HOLD": 1.0}}}, rows, 0.95)
    assert text.endswith("The candidate only ever said HOLD.")


def test_simpler_method_that_does_as_well_is_named() -> None:
    def entry(accuracy: float | None) -> dict[str, Any]:
        return {"accuracy_signals": accuracy, "signals": 9}

    metrics = {"shadow": entry(0.5), "active": entry(0.9), "baselines": {"RSI rule": entry(0.5)}}
    rows = sections.methods(metrics, {"active": "Incumbent", "shadow": "Candidate"})
    assert "A simpler method does at least as well: RSI rule" in sections.method_sentence(rows)
    metrics["baselines"] = {"RSI rule": entry(0.4), "mute": entry(None)}
    rows = sections.methods(metrics, {"active": "Incumbent", "shadow": "Candidate"})
    assert "above every baseline" in sections.method_sentence(rows)
    assert sections.method_sentence(rows[:2]) == "No baseline was computed."
    metrics["shadow"] = entry(None)
    rows = sections.methods(metrics, {"active": "Incumbent", "shadow": "Candidate"})
    assert "made no BUY or SELL call" in sections.method_sentence(rows)


def test_longest_run_does_not_cross_tickers() -> None:
    rows = scored(["BUY", "BUY", "SELL", "SELL", "SELL"], ["HOLD"] * 5, [0.0] * 5)
    other = rows.with_columns(ticker=pl.lit("ETH"))
    table = {row["label"]: row for row in sections.failures({}, pl.concat([rows, other]))}
    assert table["longest run of one decision"]["active"] == "3 × SELL (BTC)"
    assert table["longest run of one decision"]["shadow"] == "5 × HOLD (BTC)"


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
    view = verdict_view({"verdict": "not enough evidence", "reason": "too little was seen", "criteria": []})
    assert (view["sentence"], view["reason"], view["tone"]) == (
        "Not enough evidence yet.",
        "Too little was seen.",
        "wait",
    )
    assert verdict_view({"verdict": "promote"})["candidate"] == {}


def test_control_is_told_in_words() -> None:
    control = {"chance": 0.31, "low": 0.2, "high": 0.4, "as_good": 0.02, "shifts": 300}
    text = sections.control_sentence({"controls": {"shadow": control}})
    assert f"right 31.0{PERCENT} of the time" in text
    assert f"2.0{PERCENT} of the shifts do as well" in text
    assert sections.control_sentence({"controls": {"shadow": None}}) == ""
    assert sections.control_sentence({}) == ""


def test_intervals_of_the_evaluation_are_used_when_there() -> None:
    sides = {"active": {"value": 0.5, "low": 0.4, "high": 0.6}, "shadow": {"value": None, "low": None, "high": None}}
    assert sections.side_bounds({"comparison": {"sides": sides}}, "active") == sides["active"]
    assert sections.side_bounds({"comparison": {"sides": sides}}, "shadow") is None
    assert sections.side_bounds({}, "active") is None
