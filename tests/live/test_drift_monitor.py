"""Behind a promotion: the replaced model answers in the shadow, a drop is told of, and only a better one comes back."""

import asyncio
import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from click.testing import CliRunner

from candletune.artifacts import DriftLevel, DriftReference, DriftReport, FieldRange, InputLog, LiveState
from candletune.config import Config
from candletune.console import SilentReporter
from candletune.decide import Model
from candletune.decisions import Decision
from candletune.evaluation.drift import alarm_limit
from candletune.hashes import sha256_path
from candletune.journal import Journal, Row, Side
from candletune.live import promotion
from candletune.live.drift import chances, look, read_report, report_path
from candletune.live.inputs import InputWatch
from candletune.live.models import active_model, candidate_model, shadowed_model
from candletune.live.monitor import DriftMonitor
from candletune.live.reference import reference_path
from candletune.live.shadow import Due
from candletune.market.candles import load_candles
from candletune.notify import Event
from candletune.runs import RunFolder
from candletune.status import status_of
from candletune.status_text import print_status
from simulated_run import make_run

pytestmark = pytest.mark.usefixtures("any_file_loads")
LEVEL = DriftLevel(mean=0.4, drop=0.3, deviation=4.0, days=365, rows_a_day=24.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, RunFolder]:
    config, run = make_run(tmp_path_factory.mktemp("drift"), "simulate.years=0.7", rows=2 * 24 * 70, reasons=0)
    return config, run


@pytest.fixture
def promoted(made: tuple[Config, RunFolder], tmp_path: Path) -> Config:
    """A candidate over an incumbent, promoted by hand before the market's last 70 days."""
    config, run = made
    run.gguf.mkdir(exist_ok=True)
    run.adapter_gguf.write_bytes(b"candidate")
    (tmp_path / "old.gguf").write_bytes(b"incumbent")
    live = config.live.model_copy(
        update={"state": tmp_path / "live" / "active.json", "journal": tmp_path / "live" / "log.jsonl"}
    )
    incumbent = config.incumbent.model_copy(update={"adapter": tmp_path / "old.gguf"})
    config = config.model_copy(update={"live": live, "incumbent": incumbent})
    promotion.promote(config, force="a test")
    state = LiveState.read(config.live.state)
    since = (closes(config)[0] - timedelta(minutes=1)).isoformat()
    state.model_copy(update={"active": state.active.model_copy(update={"since": since})}).write(config.live.state)
    return config


def closes(config: Config) -> list[datetime]:
    frame = load_candles(config.data.folder, config.data.pairs[0], "1h").frame
    times: list[datetime] = [date + timedelta(hours=1) for date in frame["date"].to_list()]
    return times[-70 * 24 :]


def reference(config: Config, **changes: Any) -> DriftReference:
    """As if the evaluation had been long enough."""
    state = LiveState.read(config.live.state)
    path = config.live.state.parent / str(state.active.path)
    kept = DriftReference.read(reference_path(path)).model_copy(update={"levels": {"direction": LEVEL}} | changes)
    kept.write(reference_path(path))
    return kept


def live(config: Config, active: float, shadow: float, days: int = 60) -> None:
    """Rows of both models; the numbers are how often each calls the way the price goes."""
    rng = np.random.default_rng(7)
    state = LiveState.read(config.live.state)
    frame = load_candles(config.data.folder, config.data.pairs[0], "1h").frame
    after = (frame["close"].shift(-12) > frame["close"]).to_list()[-70 * 24 :]
    rows = []
    for time, up in zip(closes(config)[: days * 24], after, strict=False):
        sides = []
        for skill, model in ((active, state.active), (shadow, state.previous[-1])):
            action: Decision = "BUY" if (rng.random() < skill) == bool(up) else "SELL"
            chance = {"BUY": 0.2, "SELL": 0.2, "HOLD": 0.2} | {action: 0.6}
            sides.append(Side("ok", action, None, chance, 1.0, model.adapter_sha256))  # type: ignore[arg-type]
        rows.append(Row(time, "BTC", 100.0, "p", "t", "b", active=sides[0], shadow=sides[1]))
    Journal(config.live.journal).append_many(rows)


def test_a_promotion_keeps_what_was_certified(promoted: Config, made: tuple[Config, RunFolder]) -> None:
    state = LiveState.read(promoted.live.state)
    assert state.active.path is not None
    kept = DriftReference.read(reference_path(promoted.live.state.parent / state.active.path))
    assert kept.replaced_sha256 == state.previous[-1].adapter_sha256
    assert set(kept.inputs) == {"BTC", "ETH"}
    rsi = kept.inputs["BTC"]["rsi"]
    assert rsi.low is not None and rsi.high is not None and 0 < rsi.low < rsi.high < 100
    assert kept.inputs["BTC"]["headlines"].missing == 1.0, "the simulated market has none"
    assert kept.levels == {}, "the evaluation is of other hashes"


def test_the_evaluation_of_these_two_is_the_level(made: tuple[Config, RunFolder], tmp_path: Path) -> None:
    from candletune.live.reference import keep_reference

    config, run = made
    path = tmp_path / "new.gguf"
    keep_reference(
        config, run, Model("new", path, "b" * 64, "adapter"), Model("old", tmp_path / "old.gguf", "a" * 64, "adapter")
    )
    kept = DriftReference.read(reference_path(path))
    assert set(kept.levels) == {"direction", "log score"}
    assert kept.levels["direction"].mean > 0.3, "it is right most of the time"
    assert kept.levels["direction"].days >= 60
    assert kept.allowed["BTC"]["headlines"] == (0.0, 1.0)


def test_the_replaced_model_goes_on_in_the_shadow(promoted: Config) -> None:
    run = RunFolder(promoted.run.folder)
    replaced = shadowed_model(promoted, run)
    assert promoted.incumbent.adapter is not None
    assert replaced.sha256 == sha256_path(promoted.incumbent.adapter)
    run.adapter_gguf.write_bytes(b"newer")
    assert shadowed_model(promoted, run).sha256 == candidate_model(run).sha256, "a new export is the candidate again"
    run.adapter_gguf.write_bytes(b"candidate")


@pytest.mark.parametrize(
    ("active", "shadow", "alarm", "better"),
    [(0.7, 0.5, False, None), (0.5, 0.5, True, None), (0.45, 0.7, True, True), (0.45, 0.3, True, False)],
)
def test_an_alarm_and_whether_the_replaced_model_did_better(
    active: float, shadow: float, alarm: bool, better: bool | None, promoted: Config
) -> None:
    reference(promoted)
    live(promoted, active, shadow)
    report = look(promoted)
    assert report is not None
    assert report.days == 60
    assert bool(report.alarms) == alarm
    if alarm:
        assert report.alarms[0].name == "direction"
        assert "of BUY and SELL the right way" in report.alarms[0].seen
    if better is not None or not alarm:
        assert report.replaced_better is better
    assert read_report(promoted) == report
    text = io.StringIO()
    from rich.console import Console

    print_status(status_of(promoted, RunFolder(promoted.run.folder)), Console(file=text, width=200))
    assert ("ALARM since" if alarm else "none in 60 days") in text.getvalue()


class Told(list[tuple[Event, str]]):
    def __call__(self, event: Event, title: str, body: str) -> None:
        self.append((event, f"{title}: {body}"))


def monitor(config: Config, told: Told, at: datetime) -> DriftMonitor:
    return DriftMonitor(config, SilentReporter(), told, clock=lambda: at)


@pytest.mark.parametrize("rolls", [True, False])
def test_people_are_told_once_and_the_better_one_comes_back(rolls: bool, promoted: Config) -> None:
    reference(promoted)
    live(promoted, 0.45, 0.7)
    config = promoted.model_copy(update={"live": promoted.live.model_copy(update={"auto_rollback": rolls})})
    before, told = active_model(config), Told()
    now = closes(config)[-1]
    watch = monitor(config, told, now)
    watch.after([])
    events = [event for event, _ in told]
    assert events == ([Event.DRIFT, Event.ROLLBACK] if rolls else [Event.DRIFT])
    after = active_model(config)
    assert (after.sha256 != before.sha256) == rolls
    if rolls:
        assert promotion.history(config)[-1].reason.startswith("drift: direction")
    watch.after([])
    monitor(config, told, now).after([])
    assert len(told) == len(events), "once, also after a restart"


def test_a_worse_replaced_model_never_comes_back(promoted: Config) -> None:
    reference(promoted)
    live(promoted, 0.45, 0.3)
    config = promoted.model_copy(update={"live": promoted.live.model_copy(update={"auto_rollback": True})})
    told = Told()
    monitor(config, told, closes(config)[-1]).after([])
    assert [event for event, _ in told] == [Event.DRIFT]
    assert promotion.history(config)[-1].what == "promote"


def contexts(config: Config, day: int, **values: Any) -> Sequence[Due]:
    first = closes(config)[0].replace(hour=0) + timedelta(days=day)
    given = {"ticker": "BTC", "price_usd": 30_000.0, "rsi": 50.0, "change_24h": 0.1} | values
    return [Due(first + timedelta(hours=hour), "BTC", 1.0, given) for hour in range(24)]


def test_inputs_that_training_never_saw_are_told_of(promoted: Config) -> None:
    reference(promoted, inputs={"BTC": {"rsi": FieldRange(rows=100, missing=0.0, low=20.0, high=80.0)}})
    told = Told()
    for day in range(12):
        usual = day < 3
        watch = monitor(promoted, told, closes(promoted)[0] + timedelta(days=day + 2))
        watch.after(contexts(promoted, day, rsi=50.0 if usual else 95.0))
    assert [event for event, _ in told] == [Event.DRIFT]
    assert "BTC rsi: 24 of 24" in told[0][1] and "20 to 80" in told[0][1]
    report = read_report(promoted)
    assert report is not None and report.replaced_better is None, "no reason to roll back"


def test_values_that_stay_away_are_told_of_too(promoted: Config) -> None:
    reference(promoted, inputs={"BTC": {"rsi": FieldRange(rows=100, missing=0.0, low=20.0, high=80.0)}})
    told = Told()
    for day in range(12):
        monitor(promoted, told, closes(promoted)[0] + timedelta(days=day + 2)).after(contexts(promoted, day, rsi="N/A"))
    assert "BTC rsi missing" in told[0][1]


def test_counts_of_another_model_are_begun_anew(promoted: Config) -> None:
    path = promoted.live.state.with_name("inputs.json")
    kept = reference(promoted)
    InputLog(adapter_sha256="other", day="2030-01-01").write(path)
    watch = InputWatch(path, kept, 0.005)
    watch.add("BTC", closes(promoted)[0].date(), {"ticker": "BTC", "price_usd": 1.0})
    watch.add("BTC", closes(promoted)[0].date(), {"ticker": "BTC"})  # a broken one counts nowhere
    watch.save()
    assert InputLog.read(path).counts["BTC"]["rsi"].rows == 1
    path.write_text("{")
    InputWatch(path, kept, 0.005).save()
    assert InputLog.read(path).counts == {}


def test_a_broken_file_stops_nothing(promoted: Config) -> None:
    state = LiveState.read(promoted.live.state)
    reference_path(promoted.live.state.parent / str(state.active.path)).write_text("{")
    reporter = SilentReporter()
    watch = DriftMonitor(promoted, reporter, Told(), clock=lambda: datetime.now(UTC))
    watch.after([])
    watch.after([])
    assert len(reporter.warnings) == 1 and "drift: not watched" in reporter.warnings[0]


def test_the_command_leaves_with_4_at_an_alarm(promoted: Config) -> None:
    from candletune.commands.drift import drift

    reference(promoted)
    live(promoted, 0.5, 0.5)
    sets = [
        f"run.folder={promoted.run.folder}",
        f"live.state={promoted.live.state}",
        f"live.journal={promoted.live.journal}",
        "simulate.enabled=true",
    ]
    arguments = [part for text in sets for part in ("--set", text)]
    result = CliRunner().invoke(drift, arguments, standalone_mode=False)
    assert result.return_value == 4, result.output
    assert "ALARM on" in result.output
    result = CliRunner().invoke(drift, [*arguments, "--json"], standalone_mode=False)
    assert DriftReport.model_validate_json(result.output.replace('"version": 1,', "")).alarms
    empty = ["--set", f"live.state={promoted.live.state.with_name('none') / 'x.json'}", "--set", "run.folder=x"]
    result = CliRunner().invoke(drift, empty, standalone_mode=False)
    assert (result.return_value, result.output) == (0, "nothing was promoted, so nothing is watched\n")


def test_a_stricter_budget_raises_the_limit(promoted: Config) -> None:
    strict = promoted.model_copy(update={"live": promoted.live.model_copy(update={"false_alarms": 0.01})})
    limits = [alarm_limit(LEVEL, chances(config)["direction"]) for config in (promoted, strict)]
    assert limits[0] < limits[1]


def test_the_live_page_shows_it(promoted: Config) -> None:
    from candletune.web.review import create_app

    reference(promoted)
    live(promoted, 0.45, 0.7)
    look(promoted)
    app = create_app(promoted, RunFolder(promoted.run.folder), port=8378)

    async def page(path: str) -> str:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1:8378"
        ) as client:
            return (await client.get(path)).text

    text = asyncio.run(page("/live/fragment"))
    assert 'role="alert">Alarm: direction since' in text
    assert "The replaced model did better over those days." in text
    report_path(promoted).write_text("{")
    assert "Drift monitor: " in asyncio.run(page("/live"))
