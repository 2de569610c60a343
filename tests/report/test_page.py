"""The report of a small run: the verdict first, quoted text stays text, no network, and numbers that add up."""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from candletune import assets
from candletune.artifacts import Certificate, CertificateCriterion, DecisionScores, Fidelity, Metrics, Verdict
from candletune.config import Config
from candletune.console import SilentReporter
from candletune.errors import InputError
from candletune.evaluation.over_time import equity_curves
from candletune.files import read_json
from candletune.report import calls
from candletune.report.content import report_content
from candletune.report.page import render
from candletune.runs import RunFolder
from candletune.stages.evaluate import STAGE as EVALUATE
from candletune.stages.report import STAGE
from candletune.stages.runner import run_stage
from simulated_run import HOSTILE, make_run

Made = tuple[Config, RunFolder]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    config, run = make_run(tmp_path_factory.mktemp("report"), reason=HOSTILE)
    with run.lock():
        run_stage(STAGE, config, run, SilentReporter())
    return config, run


@pytest.fixture(scope="module")
def html(made: Made) -> str:
    return made[1].file("report", "index.html").read_text(encoding="utf-8")


def without_plotly(html: str) -> str:
    """The page less plotly.js, the longest script."""
    longest = max(re.findall(r"<script>.*?</script>", html, re.DOTALL), key=len)
    return html.replace(longest, "")


def figures(html: str) -> dict[str, dict[str, object]]:
    found = re.search(r'id="figures">(.*?)</script>', html, re.DOTALL)
    assert found
    value: dict[str, dict[str, object]] = json.loads(found[1])
    return value


def test_verdict_comes_first_in_words(made: Made, html: str) -> None:
    verdict = read_json(made[1].file("evaluation", "verdict.json"))
    head = html[html.index("<body>") : html.index("<section")]
    words = {"promote": "Promote the candidate.", "keep": "Keep the incumbent."}
    assert f"<h1>{words.get(verdict['verdict'], 'Not enough evidence yet.')}</h1>" in head
    assert "BUY and SELL calls were right" in head
    assert "These candles are simulated" in head
    for criterion in verdict["criteria"]:
        assert criterion["description"].replace("'", "&#39;") in html


def test_what_the_verdict_spent_and_when_the_trainings_ended_is_said(html: str) -> None:
    head = html[html.index("<body>") : html.index("<section")]
    assert "This is try 1 on these candles." in head
    for role in ("candidate", "incumbent"):
        assert f"When the {role}&#39;s training ended is unknown" in head


def test_quoted_text_stays_text(html: str) -> None:
    page = without_plotly(html)
    assert "owned" in page
    assert "<img" not in page
    assert page.count("</script>") == 5


def test_nothing_is_loaded_from_a_network(html: str) -> None:
    page = without_plotly(html)
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", page)
    assert "@import" not in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page


def test_every_place_has_its_figure(html: str) -> None:
    places = set(re.findall(r'data-plot="([\w-]+)"', html))
    assert {"difference", "running", "equity", "calibration", "shares", "months", "methods", "selective"} <= places
    assert places <= set(figures(html))


def test_equity_curve_ends_at_the_metric(made: Made) -> None:
    config, run = made
    curves = equity_curves(pl.read_parquet(run.scored), config.evaluate.fee)
    metrics = read_json(run.metrics)
    for side in ("active", "shadow"):
        assert curves.value[side][-1] == pytest.approx(metrics[side]["equity"]["net_return"], abs=1e-4)
        assert -min(curves.fall[side]) == pytest.approx(metrics[side]["equity"]["max_drawdown"], abs=1e-4)
    assert curves.value["market"][-1] == pytest.approx(metrics["shadow"]["equity"]["buy_and_hold"], abs=1e-4)


def packed(html: str) -> dict[str, Any]:
    found = re.search(r'id="calls-data">(.*?)</script>', html, re.DOTALL)
    assert found
    value: dict[str, Any] = json.loads(found[1])
    return value


def unpacked(text: str, kind: str) -> Any:
    return np.frombuffer(base64.b64decode(text), dtype=kind)


def test_every_call_is_in_the_page_on_its_candles_close(made: Made, html: str) -> None:
    """All rows of the journal, none thinned, and each at the close that the candle files have."""
    scored = pl.read_parquet(made[1].scored).sort("timestamp", "ticker")
    data = packed(html)
    times = unpacked(data["time"], "<u4")
    assert times.tolist() == scored["timestamp"].dt.epoch("s").to_list()
    codes = {"BUY": 0, "SELL": 1, "HOLD": 2}
    assert unpacked(data["shadow_action"], "u1").tolist() == [codes[name] for name in scored["shadow_action"]]
    right = unpacked(data["shadow_right"], "u1")
    assert (right == 1).sum() == scored.filter(pl.col("forward_return").is_not_null())["shadow_correct"].sum()
    tickers = unpacked(data["ticker"], "u1")
    for index, ticker in enumerate(data["tickers"]):
        candles = data["candles"][ticker]
        levels = unpacked(candles["values"], "<u2").reshape(-1, 4)
        assert levels.min() >= 1, "the simulated market has no gap"
        mine = tickers == index
        place = (times[mine].astype(int) - candles["start"]) // candles["step"]
        close = candles["low"] + (levels[place, 3] - 1.0) / (calls.LEVELS - 1) * candles["size"]
        assert close == pytest.approx(unpacked(data["price"], "<f4")[mine], abs=candles["size"] / calls.LEVELS)


def test_reasons_come_with_prompt_and_claims(made: Made, html: str) -> None:
    explained = packed(html)["explained"]
    scored = pl.read_parquet(made[1].scored).sort("timestamp", "ticker")
    assert len(explained) == scored["shadow_reasoning"].is_not_null().sum() == 12
    for row, entry in explained.items():
        assert entry["shadow"][0] == scored["shadow_reasoning"][int(row)]
        assert hashlib.sha256(entry["prompt"].encode()).hexdigest() == scored["prompt_sha256"][int(row)]


def test_without_candles_the_calls_are_shown_all_the_same(made: Made, tmp_path: Path) -> None:
    config, run = made
    gone = config.model_copy(update={"data": config.data.model_copy(update={"folder": tmp_path})})
    view = calls.calls_view(gone, pl.read_parquet(run.scored))
    assert not view.candles
    assert (view.rows, view.explained, view.with_reasons) == (400, 12, 12)
    explained: Any = view.data["explained"]
    assert all(entry["prompt"] is None and entry["shadow"][1] == [] for entry in explained.values())


def test_a_simulated_market_is_called_that_and_compounds_nothing(made: Made, html: str) -> None:
    page = without_plotly(html)
    assert "data-simulated" in page[:200]
    assert "Net return a call, simulated" in page
    assert "Calmar" not in page
    config, run = made
    real = config.model_copy(update={"simulate": config.simulate.model_copy(update={"enabled": False})})
    view = report_content(real, run)
    assert view.trading.compounded
    assert "Calmar" in render("report.html.j2", **vars(view))


def test_up_to_date_report_is_not_written_again(made: Made) -> None:
    config, run = made
    with run.lock():
        assert run_stage(STAGE, config, run, SilentReporter()).skipped


def test_missing_parts_are_said_not_faked(tmp_path: Path, made: Made) -> None:
    config, run = made
    bare = RunFolder(tmp_path / "bare")
    bare.path.mkdir()
    (bare.path / "evaluation").mkdir()
    bare.scored.write_bytes(run.scored.read_bytes())
    Metrics.read(run.metrics).model_copy(update={"grounding": None, "baselines": {}}).write(bare.metrics)
    Verdict.read(run.verdict).model_copy(update={"forced": True}).write(bare.verdict)
    STAGE.work(config, bare, SilentReporter())
    page = bare.file("report", "index.html").read_text(encoding="utf-8")
    assert "No certificate" in page
    assert "No dataset manifest" in page
    assert "No reason could be checked" in page
    assert "No baseline was computed" in page
    assert "Forced: part of this replay was seen in training" in page
    assert "nan" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL).lower().split()


def test_the_certificate_says_what_serving_costs_and_what_to_do(tmp_path: Path, made: Made) -> None:
    config, run = made
    other = RunFolder(tmp_path / "other")
    for path in (run.scored, run.metrics, run.verdict):
        target = other.path / path.relative_to(run.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    fidelity = Fidelity(
        rows=480,
        storage="nf4",
        trained=DecisionScores(balanced_accuracy=0.663, log_loss=0.81),
        served=DecisionScores(balanced_accuracy=0.612, log_loss=0.87),
        accuracy_lost=0.051,
        interval=(0.02, 0.082),
        agreement=0.94,
        largest_gap=0.4,
    )
    Certificate(
        passed=False,
        file="gguf/custom-trading-lora.gguf",
        base="base.gguf",
        prompts=480,
        criteria=(CertificateCriterion(name="decisions as trained", value=0.94, limit="at least 0.98", passed=False),),
        fidelity=fidelity,
        remedy="train over the served blocks (train.quantization=auto)",
    ).write(other.certificate)
    STAGE.work(config, other, SilentReporter())
    page = other.report.read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    assert "On 480 labelled rows the model as trained reaches a balanced accuracy of 66.3 %" in page
    assert "61.2 % (0.870) as served; 94.0 % of the decisions are the same" in page
    assert "What to do:</b> train over the served blocks (train.quantization=auto)." in page


def test_plotly_is_the_bundle_that_npm_has_in_full() -> None:
    """The file is as `docs/_plotly.py` fetched it, and stands in the page unchanged: nothing in it ends the script."""
    content = (assets.FOLDER / assets.PLOTLY).read_bytes()
    assert hashlib.sha256(content).hexdigest() == assets.PLOTLY_SHA256
    assert assets.asset(assets.PLOTLY).encode() == content
    assert assets.PLOTLY_PACKAGE.rpartition("@")[2].encode() in content[:120]


def test_the_dataset_card_is_in_the_page(html: str) -> None:
    """A mailed report has no folder beside it: the card is inside, and no link leads out of the file."""
    assert set(re.findall(r'data-plot="(card_[a-z_]+)"', html)) <= set(figures(html))
    assert "Examples, as the model sees them" in html
    assert [link for link in re.findall(r'href="([^"]+)"', without_plotly(html)) if link[0] != "#"] == ["data:,"]


def test_missing_evaluation_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"verdict\.json"):
        STAGE.work(Config(), RunFolder(tmp_path), SilentReporter())


def test_a_shadow_weeks_report_lies_beside_the_replays(made: Made, tmp_path: Path) -> None:
    config, run = made
    before = run.report.read_bytes()
    journal = tmp_path / "ab_test_log.jsonl"
    journal.write_bytes(run.journal.read_bytes())
    shadow = config.model_copy(
        update={"evaluate": config.evaluate.model_copy(update={"journal": journal, "baselines": False})}
    )
    with run.lock():
        run_stage(EVALUATE, shadow, run, SilentReporter())
        run_stage(STAGE, shadow, run, SilentReporter())
        assert run_stage(STAGE, config, run, SilentReporter()).skipped
    assert run.report.read_bytes() == before
    page = run.shadow_report.read_text(encoding="utf-8")
    assert f"This page is about the journal {journal}" in page


def test_what_was_kept_out_for_the_replay_is_shown(html: str) -> None:
    assert "<dt>Kept out for the replay from</dt><dd>2022-06-01 00:00 UTC on</dd>" in html
