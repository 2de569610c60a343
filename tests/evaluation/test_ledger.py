"""The ledger of tries: one error budget for a stretch of candles, whoever asks and however often."""

import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from candletune.artifacts import JudgedModel
from candletune.artifacts.ledger import TryLine
from candletune.config import Config, load_config
from candletune.errors import InputError, UsageError
from candletune.evaluation import ledger as ledger_module
from candletune.evaluation.budget import alpha_for
from candletune.evaluation.ledger import Attempt, Ledger
from candletune.evaluation.tries import CLOSES, closes_of


def test_however_many_tries_come_their_levels_stay_within_the_budget() -> None:
    assert alpha_for(1, 0.05) == 0.025
    assert alpha_for(2, 0.05) == pytest.approx(0.05 * 0.15)
    assert 0.0399 < sum(alpha_for(k, 0.05) for k in range(1, 10_000)) < 0.04
    for count in range(1, 30):  # tries on record from when the k-th had budget / (k (k + 1))
        earlier = sum(0.05 / (k * (k + 1)) for k in range(1, count + 1))
        assert earlier + sum(alpha_for(k, 0.05) for k in range(count + 1, 10_000)) < 0.05
    for number, budget in ((0, 0.05), (1, 0.0), (1, 1.0)):
        with pytest.raises(ValueError, match="budget"):
            alpha_for(number, budget)


START = datetime(2025, 1, 1, tzinfo=UTC)


def attempt(candidate: str = "a", *, start: int = 0, days: int = 30, known: int = 100, **changes: Any) -> Attempt:
    """A try of some days from a day on; each market's closes are its own."""
    begin, end = START + timedelta(days=start), START + timedelta(days=start + days)
    market = changes.pop("market", 1.0)
    closes = {"BTC": {f"{begin + timedelta(days=n):%Y-%m-%d}": market + start + n for n in range(days)}}
    values: dict[str, Any] = {
        "candidate": JudgedModel(name=candidate, adapter_sha256=candidate * 64),
        "incumbent": JudgedModel(name="old", adapter_sha256=None),
        "source": "replay",
        "start": begin.isoformat(),
        "end": end.isoformat(),
        "rows": days * 24,
        "known": known,
        "closes": closes,
        "settings": {"move": 0.01},
        "budget": 0.05,
        "run": "run",
    }
    return Attempt(**(values | changes))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "live" / "ledger.jsonl")


def test_every_further_candidate_gets_a_smaller_part(ledger: Ledger) -> None:
    numbers = [ledger.look(attempt(name)) for name in "abcd"]
    assert [spent.number for spent in numbers] == [1, 2, 3, 4]
    assert [spent.level for spent in numbers] == pytest.approx([0.025, 0.0075, 0.0025, 0.00125])


def test_the_same_look_again_is_no_new_try_and_writes_nothing(ledger: Ledger) -> None:
    first = ledger.look(attempt("a"))
    ledger.look(attempt("b"))
    before = ledger.path.read_bytes()
    assert ledger.look(attempt("a")) == first
    assert ledger.peek(attempt("a")) == first
    assert ledger.peek(attempt("c")).number == 3
    assert ledger.path.read_bytes() == before


@pytest.mark.parametrize(
    "changes",
    [{"settings": {"move": 0.02}}, {"incumbent": JudgedModel(name="x", adapter_sha256="f" * 64)}, {"start": 3}],
)
def test_another_rule_another_incumbent_or_another_beginning_is_another_try(
    changes: dict[str, Any], ledger: Ledger
) -> None:
    ledger.look(attempt("a"))
    assert ledger.look(attempt("a", **changes)).number == 2


@pytest.mark.parametrize(
    "changes",
    [{"start": 31}, {"market": 500.0}, {"closes": {"ETH": {"2025-01-02": 2.0}}}],
    ids=["later candles", "another market", "another ticker"],
)
def test_other_candles_have_a_budget_of_their_own(changes: dict[str, Any], ledger: Ledger) -> None:
    ledger.look(attempt("a"))
    assert ledger.look(attempt("b", **changes)).number == 1


def test_where_no_midnight_is_common_the_candles_are_taken_for_the_same(ledger: Ledger) -> None:
    ledger.look(attempt("a"))
    assert ledger.look(attempt("b", closes={"BTC": {}})).number == 2


def test_a_growing_test_is_one_try_and_meets_those_that_were_there_first(ledger: Ledger) -> None:
    shadow = ledger.look(attempt("a", days=30))
    assert shadow.number == 1
    assert ledger.look(attempt("b", start=10, days=20)).number == 2  # the shadow test was there first
    assert ledger.look(attempt("a", days=40, known=140)).number == 1  # new candles, which nobody else has seen
    assert ledger.look(attempt("c", start=45, days=10)).number == 1
    later = ledger.look(attempt("a", days=60, known=200))
    assert (later.number, later.try_id) == (2, shadow.try_id)  # these were c's before
    assert len([line for line in ledger.path.read_text().splitlines() if '"look"' in line]) == 5


def test_on_no_candle_do_the_levels_add_up_to_more_than_the_budget(ledger: Ledger) -> None:
    rng = random.Random(5)  # noqa: S311
    for _ in range(120):
        name = rng.choice("abcdefghij")
        ledger.look(attempt(name, start=rng.choice((0, 7, 20, 33)), days=rng.randint(5, 60), known=rng.randint(1, 99)))
    lines = [TryLine.model_validate_json(line) for line in ledger.path.read_text().splitlines()]
    for day in range(100):
        moment = (START + timedelta(days=day, hours=12)).isoformat()
        highest: dict[str, float] = {}
        for line in lines:
            if line.start <= moment < line.end:
                highest[line.try_id] = max(highest.get(line.try_id, 0.0), line.level)
        assert sum(highest.values()) <= 0.05 + 1e-12


def test_a_registered_replay_may_use_the_bound_of_one_look_once(ledger: Ledger) -> None:
    registered = ledger.register(attempt("a", known=0))
    assert ledger.look(attempt("b")).number == 2  # the registration has its place already
    first = ledger.look(attempt("a", known=90))
    assert (first.number, first.registered) == (1, registered.registered)
    assert first.registered is not None
    assert ledger.look(attempt("a", known=90)) == first
    again = ledger.look(attempt("a", known=100))  # more outcomes are known by now: a second look
    assert again.registered is None
    assert again.number == 3


def test_what_was_looked_at_cannot_be_registered(ledger: Ledger) -> None:
    ledger.look(attempt("a", start=5))
    with pytest.raises(UsageError, match="a was looked at on these candles already"):
        ledger.register(attempt("a", known=0))
    ledger.register(attempt("a", start=60, known=0))  # nobody has seen those
    ledger.register(attempt("b", known=0))
    before = ledger.path.read_bytes()
    ledger.register(attempt("b", known=0))
    assert ledger.path.read_bytes() == before


def test_other_rows_than_the_registered_ones_are_another_try(ledger: Ledger) -> None:
    ledger.register(attempt("a", known=0))
    fewer = ledger.look(attempt("a", rows=100))
    assert (fewer.number, fewer.registered) == (2, None)


def test_a_torn_line_is_set_aside_and_its_try_was_none(ledger: Ledger) -> None:
    ledger.look(attempt("a"))
    whole = ledger.path.read_bytes()
    ledger.look(attempt("b"))
    torn = ledger.path.read_bytes()[: len(whole) + 40]
    ledger.path.write_bytes(torn)
    assert list(ledger.tries()) == [attempt("a").try_id]
    assert ledger.look(attempt("c")).number == 2
    assert ledger.path.with_name("ledger.jsonl.torn").read_bytes().rstrip() == torn[len(whole) :]


@pytest.mark.parametrize("at", range(0, 4000, 97))
def test_wherever_a_line_is_cut_the_next_try_finds_a_whole_ledger(at: int, ledger: Ledger) -> None:
    for name in "abc":
        ledger.look(attempt(name, days=10))
    data = ledger.path.read_bytes()[:at]
    ledger.path.write_bytes(data)
    assert ledger.look(attempt("d", days=10)).number == data.count(b"\n") + 1


@pytest.mark.parametrize("text", ["{}", "no json", '{"event": "verdict", "try_id": "x", "at": "", "verdict": "keep"}'])
def test_a_broken_line_is_named_and_nothing_goes_on(text: str, ledger: Ledger) -> None:
    ledger.look(attempt("a"))
    before = ledger.path.read_text()
    ledger.path.write_text(before + text + "\n")
    for call in (lambda: ledger.tries(), lambda: ledger.look(attempt("b"))):
        with pytest.raises(InputError, match=r"ledger\.jsonl:2: not a line of the ledger"):
            call()
    orphan = '{"event": "verdict", "try_id": "x", "at": "", "verdict": "keep", "reason": ""}'
    ledger.path.write_text(before + orphan + "\n")
    with pytest.raises(InputError, match="a verdict about no try"):
        ledger.tries()


def test_what_a_look_came_to_is_on_record(ledger: Ledger) -> None:
    spent = ledger.look(attempt("a"))
    ledger.say(spent.try_id, "keep", "not met: flip rate")
    size = ledger.path.stat().st_size
    ledger.say(spent.try_id, "keep", "not met: flip rate")
    assert ledger.path.stat().st_size == size
    assert ledger.tries()[spent.try_id].verdict == "keep"
    ledger.look(attempt("a", days=50, known=200))
    assert ledger.tries()[spent.try_id].verdict == "keep"


def test_a_ledger_that_cannot_be_written_gives_no_verdict(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.look(attempt("a"))
    before = ledger.path.read_bytes()

    def full(handle: int, data: bytes) -> None:
        os.write(handle, data[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ledger_module, "append", full)
    with pytest.raises(InputError, match="no verdict is given off the record"):
        ledger.look(attempt("b"))
    assert ledger.path.read_bytes() == before
    monkeypatch.undo()
    ledger.path.unlink()
    ledger.path.mkdir()
    with pytest.raises(InputError, match="cannot be"):
        ledger.look(attempt("b"))
    with pytest.raises(InputError, match="cannot be read"):
        ledger.tries()


def test_programs_that_write_at_once_get_numbers_of_their_own(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as pool:
        spent = list(pool.map(lambda name: Ledger(ledger.path).look(attempt(name)).number, "abcdefghijklmnop"))
    assert sorted(spent) == list(range(1, 17))


def test_a_ledger_somebody_holds_is_said(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.look(attempt("a"))
    monkeypatch.setattr(ledger_module, "PATIENCE", 0.0)
    with FileLock(ledger.path.with_name("ledger.jsonl.lock")), pytest.raises(UsageError, match="another program"):
        ledger.look(attempt("b"))


def real(shared_data: Path, timeframe: str) -> Config:
    settings = [f"data.timeframe={timeframe}", "data.context_timeframes=['12h', '1d']"]
    return load_config(None, [f"data.folder='{shared_data}'", *settings])


def test_a_market_is_known_again_on_longer_candles_and_in_longer_ranges(shared_data: Path) -> None:
    start, end = datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 6, 1, tzinfo=UTC)
    hourly = closes_of(real(shared_data, "1h"), ["BTC", "ETH"], start, end)
    assert closes_of(real(shared_data, "4h"), ["BTC", "ETH"], start, end) == hourly
    assert len(hourly["BTC"]) == 47  # every second of 93 midnights
    years = closes_of(real(shared_data, "1h"), ["BTC"], datetime(2020, 1, 1, tzinfo=UTC), end)["BTC"]
    assert 32 <= len(years) <= CLOSES
    common = years.keys() & hourly["BTC"].keys()
    assert common
    assert all(years[day] == hourly["BTC"][day] for day in common)
    assert hourly["BTC"] != hourly["ETH"]
    assert closes_of(real(shared_data, "1h"), ["DOGE"], start, end) == {"DOGE": {}}


WRITER = """
import sys
from pathlib import Path
from candletune.evaluation.ledger import Ledger
from test_ledger import attempt
for name in sys.argv[2]:
    print(Ledger(Path(sys.argv[1])).look(attempt(name)).number)
"""


def test_processes_that_write_at_once_get_numbers_of_their_own(ledger: Ledger) -> None:
    """One of them is killed at some moment: what it put on record counts, and the others go on."""
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(ledger.path), names],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": paths},
        )
        for names in ("abcdefgh", "ijklmnop", "qrstuvwx")
    ]
    assert started[2].stdout is not None
    started[2].stdout.readline()
    started[2].kill()
    numbers = [int(line) for process in started[:2] for line in process.communicate()[0].split()]
    started[2].communicate()
    assert len(set(numbers)) == len(numbers) == 16
    found = ledger.tries()
    assert sorted(entry.line.number for entry in found.values()) == list(range(1, len(found) + 1))
    assert 17 <= len(found) <= 24
