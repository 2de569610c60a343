"""Each coin left out of training in turn: what is trained on, what is asked, and what is compared."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from candletune.artifacts.coins import Coins
from candletune.artifacts.metrics import Interval
from candletune.cli import main
from candletune.commands.coins import coins as coins_command
from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.errors import UsageError
from candletune.evaluation.tries import ledger_of
from candletune.experiments.coins import folds as folds_module
from candletune.experiments.coins.folds import plan_folds
from candletune.experiments.coins.run import leave_one_out
from candletune.experiments.coins.table import coins_text
from candletune.journal import read_frame
from candletune.runs import RunFolder
from candletune.stages.pipeline import prepare

PAIRS = ("BTC/USDT:USDT", "ETH/USDT:USDT")


def settings(folder: Path) -> list[str]:
    return [
        f"run.folder={folder / 'run'}",
        f"live.state={folder / 'live' / 'active.json'}",
        "simulate.enabled=true",
        "simulate.years=0.6",
        "simulate.signal=1",
        "dataset.per_class=60",
        "dataset.natural_eval=40",
        "replay.stride=4",
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Config, RunFolder, Coins]]:
    config = load_config(None, settings(tmp_path_factory.mktemp("coins")))
    run = RunFolder(config.run.folder)
    with run.lock():
        config = prepare(config, run, SilentReporter())
        yield config, run, leave_one_out(config, run, SilentReporter(), "boosting")


def test_a_coin_is_asked_about_by_a_training_that_never_saw_it(made: tuple[Config, RunFolder, Coins]) -> None:
    config, run, found = made
    whole = read_frame(run.coins / "folds/all/replay/ab_test_log.jsonl")
    assert set(whole["ticker"]) == {"BTC", "ETH"}
    for coin, other in (("BTC", "ETH"), ("ETH", "BTC")):
        fold = RunFolder(run.coins / "folds" / coin)
        assert set(pl.read_parquet(fold.meta)["asset"]) == {other}
        asked = read_frame(fold.journal)
        assert set(asked["ticker"]) == {coin}
        assert asked["timestamp"].to_list() == whole.filter(ticker=coin)["timestamp"].to_list()
        assert asked["shadow_action"].to_list() != whole.filter(ticker=coin)["shadow_action"].to_list()
        assert pl.read_parquet(fold.meta)["decision_time"].max() < asked["timestamp"].min()  # type: ignore[operator]
    assert [coin.pair for coin in found.coins] == list(config.data.pairs) == list(PAIRS)


def test_both_answers_are_compared_on_the_same_times(made: tuple[Config, RunFolder, Coins]) -> None:
    _, run, found = made
    for coin in found.coins:
        assert 100 < coin.rows <= read_frame(run.coins / coin.unseen.folder / "replay/ab_test_log.jsonl").height
        assert coin.unseen.folder == f"folds/{coin.ticker}"
        assert coin.seen.accuracy_signals is not None
        assert coin.unseen.accuracy_signals is not None
        assert coin.gain.value == pytest.approx(coin.unseen.accuracy_signals - coin.seen.accuracy_signals, abs=1e-9)
        assert coin.unseen.balanced_accuracy is not None
        assert coin.unseen.balanced_accuracy > 0.45, "both coins have the planted signal, so it carries over"


def test_nothing_is_judged_and_a_second_time_changes_nothing(made: tuple[Config, RunFolder, Coins]) -> None:
    config, run, found = made
    assert ledger_of(config).tries() == {}
    assert not list(run.path.rglob("verdict.json"))
    before = {path: path.stat().st_mtime_ns for path in run.coins.rglob("*.parquet")}
    content = run.coins_record.read_bytes()
    assert leave_one_out(config, run, SilentReporter(), "boosting") == found == Coins.read(run.coins_record)
    assert {path: path.stat().st_mtime_ns for path in run.coins.rglob("*.parquet")} == before
    assert run.coins_record.read_bytes() == content


def test_with_a_language_model_every_fold_is_a_whole_training(
    made: tuple[Config, RunFolder, Coins], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run, _ = made
    done: list[tuple[str, tuple[str, ...], Path | None]] = []

    def record(stage: Any, own: Config, *_: Any) -> Any:
        done.append((stage.name, own.data.pairs, own.base.gguf))

    monkeypatch.setattr(folds_module, "run_stage", record)
    for name in ("show", "refuse_unverified"):
        monkeypatch.setattr(folds_module, name, lambda *_: None)
    base = Path("/base.gguf")
    _, without_btc, _ = plan_folds(config, run.coins / "elsewhere", "llm", base)
    without_btc.train(SilentReporter())
    without_btc.replay(SilentReporter())
    assert done == [
        *((name, PAIRS[1:], base) for name in ("base", "dataset", "train", "export", "verify")),
        ("replay", PAIRS[:1], base),
    ]


@pytest.mark.parametrize(
    ("setting", "words"),
    [("data.pairs=BTC/USDT:USDT", "two or more"), ("replay.force=true", "nothing that a training")],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, setting: str, words: str) -> None:
    config = load_config(None, [*settings(tmp_path), setting])
    with pytest.raises(UsageError, match=words):
        leave_one_out(config, RunFolder(config.run.folder), SilentReporter(), "boosting")
    assert not (tmp_path / "run" / "coins").exists()


def test_the_table_says_what_was_found(made: tuple[Config, RunFolder, Coins]) -> None:
    found = made[2]
    one, other = found.coins
    text = coins_text(found.model_copy(update={"coins": (one.model_copy(update={"finding": "worse"}), other)}))
    assert "Clearly worse on BTC when training never saw it" in text
    assert max(map(len, text.splitlines())) <= 96
    nothing = Interval(value=None, low=None, high=None)
    silent = {"gain": nothing, "adjusted": None, "finding": "one of them makes no BUY or SELL call"}
    text = coins_text(found.model_copy(update={"coins": (one.model_copy(update=silent),)}))
    assert "Nothing can be said of BTC." in text


def test_the_command_gives_its_result_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["coins", "--model", "boosting", "--json", "--set", f"run.folder={tmp_path / 'run'}"])
    assert caught.value.code == 2, "no candles are named"
    assert '"exit_code": 2' in capsys.readouterr().out
    assert "--model" in CliRunner().invoke(coins_command, ["--help"]).output
