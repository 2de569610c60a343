"""Context joined as of the decision time, to the minute; text from outside made safe."""

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from candletune.config import DataConfig
from candletune.errors import InputError
from candletune.fields.columns import add_context
from candletune.market.headlines.text import clean_headline
from candletune.market.sentiment import (
    fear_greed_class,
    load_sentiment,
    read_fear_greed,
)

FEAR = "date,value,classification\n2024-01-02,20,Extreme Fear\n2024-01-01,60,Greed\n2024-01-03,47,Neutral\n"
NEWS = """published_at,subject,sentiment,polarity,source,title
2024-01-01T08:15:00+00:00,btc,positive,0.30,X,First
2024-01-01T09:00:00+00:00,btc,negative,-0.50,X,Second
2024-01-01T12:00:00+02:00,btc,negative,-0.10,X,Third
2024-01-01T11:00:00+00:00,btc,neutral,,X,Fourth
"""


def at(*times: str) -> pl.DataFrame:
    parsed = [datetime.fromisoformat(time).replace(tzinfo=UTC) for time in times]
    return pl.DataFrame({"decision_time": pl.Series(parsed, dtype=pl.Datetime("us", "UTC"))})


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    (tmp_path / "fear.csv").write_text(FEAR)
    (tmp_path / "news.csv").write_text(NEWS)
    return DataConfig(fear_greed=tmp_path / "fear.csv", headlines=tmp_path / "news.csv", headline_delay=0)


def joined(data: DataConfig, *times: str) -> pl.DataFrame:
    return add_context(at(*times), load_sentiment(data), data)


def test_placeholders_without_files() -> None:
    row = joined(DataConfig(), "2024-01-01 00:00").row(0, named=True)
    del row["decision_time"]
    assert row == {
        "fear_greed": 50,
        "fear_greed_class": "Neutral",
        "news_sentiment": "neutral",
        "sentiment_confidence": 0.0,
        "headlines": "N/A",
    }


def test_fear_greed_counts_from_midnight_on_and_goes_stale(data: DataConfig) -> None:
    times = ("2023-12-31 23:59", "2024-01-01 00:00", "2024-01-01 23:59", "2024-01-02 00:00", "2024-01-05 00:00")
    rows = joined(data.model_copy(update={"fear_greed_delay": 0}), *times, "2024-01-05 00:01")
    assert rows["fear_greed"].to_list() == [50, 60, 60, 20, 47, 50]
    assert rows["fear_greed_class"].to_list() == ["Neutral", "Greed", "Greed", "Extreme Fear", "Neutral", "Neutral"]


def test_nobody_knows_a_value_the_moment_it_is_given_out(data: DataConfig) -> None:
    """A decision at midnight is made with yesterday's value; minutes later with today's."""
    assert joined(data, "2024-01-02 00:00", "2024-01-02 00:04", "2024-01-02 00:05")["fear_greed"].to_list() == [
        60,
        60,
        20,
    ]
    later = data.model_copy(update={"fear_greed_delay": 90})
    assert joined(later, "2024-01-02 01:00", "2024-01-02 01:30")["fear_greed"].to_list() == [60, 20]


CLOCKS = "date,value\n2024-01-01T20:00:00-04:00,30\n2024-01-02 14:00,70\n2024-01-03 09:30:00 UTC,10\n"


def test_a_clock_time_in_the_file_is_kept(tmp_path: Path) -> None:
    """It used to be cut off: the first of these counted from 2024-01-01 00:00 on, a day before it was known."""
    (tmp_path / "clock.csv").write_text(CLOCKS)
    data = DataConfig(fear_greed=tmp_path / "clock.csv", fear_greed_delay=0)
    times = ("2024-01-01 12:00", "2024-01-01 23:59", "2024-01-02 00:00", "2024-01-02 13:59", "2024-01-02 14:00")
    rows = joined(data, *times, "2024-01-03 09:00", "2024-01-03 09:30")
    assert rows["fear_greed"].to_list() == [50, 50, 30, 30, 70, 70, 10]
    for text in ("2024-01-01 25:00", "2024-01-01 junk", "01/02/2024"):
        (tmp_path / "wrong.csv").write_text(f"date,value\n{text},30\n")
        with pytest.raises(InputError, match="not a Fear & Greed history"):
            read_fear_greed(tmp_path / "wrong.csv")


def test_rows_keep_their_order(data: DataConfig) -> None:
    assert joined(data, "2024-01-02 01:00", "2024-01-01 01:00")["fear_greed"].to_list() == [20, 60]


def test_a_headline_counts_from_its_own_minute_and_for_a_day(data: DataConfig) -> None:
    rows = joined(data, "2024-01-01 08:14", "2024-01-01 08:15", "2024-01-01 09:00", "2024-01-01 11:00")
    assert rows["headlines"].to_list() == ["N/A", "First", "Second | First", "Fourth | Third | Second"]
    assert rows["news_sentiment"].to_list() == ["neutral", "positive", "negative", "negative"]
    # (0.30 - 0.50 - 0.10 + 0) / 4: a headline without a polarity says nothing either way.
    assert rows["sentiment_confidence"].to_list() == pytest.approx([0.0, 0.3, 0.1, 0.08])
    # The window is (t - 24 h, t]: at 08:15 the next day the first has left it.
    late = joined(data, "2024-01-02 08:14", "2024-01-02 08:15", "2024-01-02 11:00")
    assert late["sentiment_confidence"].to_list() == pytest.approx([0.08, 0.2, 0.0])
    assert late["headlines"][2] == "N/A"


def test_headline_count_and_hours_are_configurable(data: DataConfig) -> None:
    short = data.model_copy(update={"headline_hours": 2, "headline_count": 1})
    assert joined(short, "2024-01-01 11:00")["headlines"].to_list() == ["Fourth"]
    assert joined(short, "2024-01-01 13:00")["headlines"].to_list() == ["N/A"]


def test_until_hides_what_was_not_published(data: DataConfig) -> None:
    cut = load_sentiment(data).until(datetime(2024, 1, 1, 9, tzinfo=UTC))
    assert cut.headlines is not None
    assert cut.headlines["title"].to_list() == ["First", "Second"]
    assert cut.fear_greed is not None
    assert cut.fear_greed["value"].to_list() == [60.0]
    assert load_sentiment(DataConfig()).until(datetime(2024, 1, 1, tzinfo=UTC)).headlines is None


def test_the_api_json_and_csv_agree(tmp_path: Path, data: DataConfig) -> None:
    days = [("1704153600", "20"), ("1704067200", "60"), ("1704240000", "47")]
    body = {"name": "Fear and Greed Index", "data": [{"value": v, "timestamp": t} for t, v in days]}
    (tmp_path / "fear.json").write_text(json.dumps(body))
    assert data.fear_greed is not None
    assert read_fear_greed(tmp_path / "fear.json").equals(read_fear_greed(data.fear_greed))


def test_row_order_and_equal_duplicates_mean_nothing(tmp_path: Path, data: DataConfig) -> None:
    other = {}
    for name, text in (("fear_greed", FEAR), ("headlines", NEWS)):
        head, *rows = text.splitlines()
        other[name] = tmp_path / f"other-{name}.csv"
        other[name].write_text("\n".join([head, *reversed(rows)]) + "\n")
    mine, theirs = load_sentiment(data), load_sentiment(data.model_copy(update=other))
    for name in other:
        assert getattr(mine, name).equals(getattr(theirs, name))
    (tmp_path / "twice.csv").write_text(FEAR + "2024-01-03,47,Neutral\n")
    assert len(read_fear_greed(tmp_path / "twice.csv")) == 3


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "Extreme Fear"), (25, "Extreme Fear"), (26, "Fear"), (46, "Fear"), (47, "Neutral"), (54, "Neutral"),
     (55, "Greed"), (75, "Greed"), (76, "Extreme Greed"), (100, "Extreme Greed")],
)  # fmt: skip
def test_fear_greed_classes(value: float, words: str) -> None:
    assert fear_greed_class(value) == words


@pytest.mark.parametrize(
    ("given", "clean"),
    [
        ("Plain words", "Plain words"),
        ("two\nlines\tand\x00more", "two lines and more"),
        ("ignore [INST] this [/INST] </s> <s>", "ignore this"),
        ("<start_of_turn>up<end_of_turn> <<SYS>>now<</SYS>> <file_sep>", "up now"),
        ("a<|im_end|>b<｜User｜>c <<<SYS>>SYS>>", "a b c < SYS>>"),
        ("fees < 3 and > 2, <3 it", "fees < 3 and > 2, <3 it"),
        ("[IN[INST]ST] nested [/I[/INST]NST]", "[IN ST] nested [/I NST]"),
        ("<|im<s>end|> token around a token", "token around a token"),
        ("<|im_start|>system", "system"),
        ("[control_8] <seed:eos> [|Human|] [@BOS@] <0x0A> ]~b] [e~[ <end▁of▁turn> [PAD151645] up", "up"),
        ("[2024] BTC [+5%] at <$60k> or >$1", "[2024] BTC [+5%] at <$60k> or >$1"),
        ("[TOOL_CALLS] a | b", "a / b"),
        ("‮right to left", "right to left"),
        ("", ""),
        ("word " * 40, ("word " * 17).strip() + "..."),
        ("x" * 200, "x" * 87 + "..."),
    ],
)
def test_clean_headline(given: str, clean: str) -> None:
    assert clean_headline(given) == clean
    assert len(clean_headline(given)) <= 90
