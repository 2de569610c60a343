"""Fear & Greed downloads against a local server: retries, and nothing good on disk is ever lost."""

from pathlib import Path

import pytest

from candletune.errors import CandletuneError, InputError, UsageError
from candletune.market.fetch_fear_greed import fetch_fear_greed
from candletune.market.retry import Busy, ask
from fetch_server import Answer, Server, history, in_turn, no_wait


def test_a_history_is_written_as_the_dataset_reads_it(server: Server, tmp_path: Path) -> None:
    server.answer = in_turn((200, history((0, 30), (1, 76))))
    found = fetch_fear_greed(tmp_path / "new" / "fear.csv", url=server.url)
    assert (found.added, found.total, found.differing) == (2, 2, 0)
    text = (tmp_path / "new" / "fear.csv").read_text()
    assert text == "date,value,classification\n2024-01-01,30,Fear\n2024-01-02,76,Extreme Greed\n"


def test_days_are_added_and_old_ones_stay(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "fear.csv"
    target.write_text("date,value,classification\n2023-12-31,11,Extreme Fear\n2024-01-01,30,Fear\n")
    server.answer = in_turn((200, history((0, 99), (1, 40))))
    found = fetch_fear_greed(target, url=server.url)
    assert (found.added, found.total, found.differing) == (1, 3, 1)
    assert [line.split(",")[1] for line in target.read_text().splitlines()[1:]] == ["11", "30", "40"]


def test_a_clock_time_on_disk_stays(server: Server, tmp_path: Path) -> None:
    """It used to be written back as its day, which is up to a day too early."""
    target = tmp_path / "fear.csv"
    target.write_text("date,value\n2023-12-31 20:15,11\n2024-01-01T09:00:00+02:00,30\n")
    server.answer = in_turn((200, history((0, 30), (1, 40))))
    found = fetch_fear_greed(target, url=server.url)
    assert (found.added, found.total, found.differing) == (1, 3, 0)
    dates = [line.split(",")[0] for line in target.read_text().splitlines()[1:]]
    assert dates == ["2023-12-31T20:15:00+00:00", "2024-01-01T07:00:00+00:00", "2024-01-02"]


@pytest.mark.parametrize("bad", [(503, b""), (429, b""), (200, b"<html>busy</html>"), (200, b'{"data": []}'), (0, b"")])
def test_it_asks_again(server: Server, tmp_path: Path, bad: Answer) -> None:
    waits: list[float] = []
    server.answer = in_turn(bad, bad, (200, history((0, 30))))
    assert fetch_fear_greed(tmp_path / "fear.csv", url=server.url, wait=waits.append).added == 1
    assert waits == [1.0, 2.0]
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("bad", "asked", "words"),
    [
        ((500, b""), 5, "no usable answer in 5 attempts (HTTP 500); try again later"),
        ((200, b"<html>"), 5, "not a Fear & Greed history"),
        ((200, b'{"data": [{"timestamp": "x", "value": "1"}]}'), 5, "not a Fear & Greed history"),
        ((200, b'{"data": []}'), 5, "an empty history"),
        ((404, b""), 1, "HTTP 404"),
        ((200, history((0, 30), (1, 400))), 1, "value 400.0 on 2024-01-02 is not from 0 to 100; nothing was changed"),
        ((200, b" " * 20_000_001), 1, "more than 20,000,000 bytes"),
    ],
)
def test_a_bad_answer_changes_nothing(server: Server, tmp_path: Path, bad: Answer, asked: int, words: str) -> None:
    target = tmp_path / "fear.csv"
    target.write_text("date,value\n2024-01-01,30\n")
    server.answer = in_turn(bad)
    with pytest.raises(InputError) as raised:
        fetch_fear_greed(target, url=server.url, wait=no_wait)
    assert words in str(raised.value)
    assert len(server.requests) == asked
    assert target.read_text() == "date,value\n2024-01-01,30\n"
    assert [path.name for path in tmp_path.iterdir()] == ["fear.csv"]


def test_a_broken_file_is_not_overwritten(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "fear.csv"
    target.write_text("date,value\n2024-01-01,high\n")
    with pytest.raises(InputError, match="not a Fear & Greed history"):
        fetch_fear_greed(target, url=server.url)
    assert server.requests == []


def test_wrong_targets_and_addresses(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.csv"):
        fetch_fear_greed(tmp_path / "fear.json")
    with pytest.raises(UsageError, match="http or https"):
        fetch_fear_greed(tmp_path / "fear.csv", url="file:///etc/passwd")


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="refused"):
        fetch_fear_greed(tmp_path / "fear.csv", url="http://127.0.0.1:9", wait=no_wait)


def test_asking_gives_up_with_the_last_reason() -> None:
    def never() -> int:
        raise Busy("line one\nline two")

    with pytest.raises(CandletuneError, match=r"^someone: no usable answer in 5 attempts \(line one line two\)"):
        ask(never, "someone", wait=no_wait)
