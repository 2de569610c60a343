"""`candletune status`, for people and for programs."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from candletune.artifacts import Verdict
from candletune.artifacts.metrics import Interval
from candletune.config import Config
from candletune.evaluation.compare import days_to_evidence
from candletune.evaluation.live import live_view
from candletune.gguf.catalogue import CatalogueEntry, record
from candletune.hashes import sha256_path
from candletune.journal import Journal
from candletune.runs import RunFolder
from candletune.status import JournalStatus, RunStatus, status_of
from candletune.status_text import print_status
from simulated_run import live_row, make_run


def shown(status: RunStatus) -> str:
    out = io.StringIO()
    print_status(status, Console(file=out, width=200, highlight=False))
    return out.getvalue()


def test_new_run_folder(tmp_path: Path) -> None:
    config = Config().model_copy(update={"live": Config().live.model_copy(update={"state": tmp_path / "no.json"})})
    status = status_of(config, RunFolder(tmp_path))
    assert set(status.stages.values()) == {None}
    assert "acts now      the bare base (no adapter), from configuration" in shown(status)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, RunFolder]:
    config, run = make_run(tmp_path_factory.mktemp("status"))
    Journal(config.live.journal).append_many([live_row(config, hours) for hours in range(48)])
    return config, run


def test_finished_run(made: tuple[Config, RunFolder]) -> None:
    status = status_of(*made)
    text = shown(status)
    assert (evaluated := status.stages["evaluate"]) is not None
    assert status.verdict is not None
    assert evaluated.headline in text.replace("\n", " ") or status.verdict.verdict in text
    assert "evidence 3 of 50" in text


def test_status_and_live_page_agree_on_a_simulated_market(made: tuple[Config, RunFolder], tmp_path: Path) -> None:
    """`status` reads the configuration as it is written, whose data folder is not the simulated one."""
    config, run = made
    written = config.model_copy(update={"data": config.data.model_copy(update={"folder": tmp_path})})
    journal = status_of(written, run).journal
    assert journal == status_of(config, run).journal
    view = live_view(config)
    assert isinstance(journal, JournalStatus)
    assert view.comparison is not None
    assert (journal.effective, journal.accuracy) == (
        view.comparison.effective,
        {side: model.accuracy for side, model in view.sides.items()},
    )
    assert journal.effective > 0


def test_a_shadow_tests_verdict_stands_beside_the_replays(made: tuple[Config, RunFolder]) -> None:
    _, run = made
    verdict = Verdict.read(run.verdict).model_copy(update={"verdict": "not enough evidence", "reason": "two days"})
    verdict.write(run.shadow_verdict)
    lines = {line[:13].strip(): line[13:].strip() for line in shown(status_of(*made)).splitlines()}
    assert (
        lines["shadow says"]
        == "not enough evidence: two days (try 1 on these candles: 2.50\N{NO-BREAK SPACE}% of 5\N{NO-BREAK SPACE}%)"
    )
    assert lines["tries"].startswith("1 on record in ")
    assert lines["verdict"] != lines["shadow says"]


def test_a_broken_ledger_is_said(made: tuple[Config, RunFolder]) -> None:
    config, run = made
    broken = run.file("broken.jsonl")
    broken.write_text("{}\n")
    config = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"ledger": broken})})
    assert "unreadable: " in shown(status_of(config, run))


def test_the_base_is_no_adapter(made: tuple[Config, RunFolder]) -> None:
    folder = made[1].file("gguf")
    folder.mkdir()
    for name in ("base.gguf", "base-20260101-1a2b3c4d.gguf", "custom-trading-lora.gguf"):
        (folder / name).write_bytes(name.encode())
    lines = [line for line in shown(status_of(*made)).splitlines() if ".gguf" in line]
    assert [line.split()[0] for line in lines] == ["base", "base", "adapter"], "older versions too"


def test_a_merged_model_is_no_adapter(made: tuple[Config, RunFolder]) -> None:
    """By the catalogue, older versions under their own names too; by its name what was put there by hand."""
    folder = made[1].file("gguf")
    folder.mkdir(exist_ok=True)
    older = folder / "custom-trading-merged-20260101-00000000.gguf"
    older.write_bytes(b"older")
    (folder / "custom-trading-merged.gguf").write_bytes(b"newer")
    name, digest = "custom-trading-merged.gguf", sha256_path(older)
    record(folder, CatalogueEntry(file=name, sha256=digest, kind="merged", exported="2026-01-01T00:00:00+00:00"))
    found = status_of(*made)
    kinds = {Path(item.file).name: item.kind for item in found.adapters}
    assert kinds[older.name] == kinds["custom-trading-merged.gguf"] == "merged"
    assert sum(line.startswith("merged ") for line in shown(found).splitlines()) == 2


def test_broken_state_is_said(made: tuple[Config, RunFolder]) -> None:
    config, run = made
    config.live.state.write_text("{")
    assert "unknown:" in shown(status_of(config, run))
    config.live.state.unlink()


def test_days_left_follow_from_the_pace(made: tuple[Config, RunFolder]) -> None:
    view = live_view(made[0])
    comparison = view.comparison
    assert view.comparison is not None and comparison is not None
    assert view.needed == 50
    # 48 hours with a BUY or SELL of the candidate in two of three: 32 calls whose windows of 12 hours overlap
    assert 32 / 12 <= view.comparison.effective <= 48 / 12
    days = view.comparison.days
    assert view.days_left >= 60 - days

    def left(**changes: Any) -> float:
        return days_to_evidence(comparison.model_copy(update=changes), made[0])

    known = {"days": 100.0, "effective": 20.0, "days_needed": None}
    assert left(**known) == pytest.approx(100 * (50 / 20 - 1))
    assert left(**known | {"effective": 70.0}) == 0
    assert left(**known | {"effective": 70.0, "days": 20.0}) == 40  # two months
    better, worse = (Interval(value=value, low=-0.2, high=0.2) for value in (0.05, -0.05))
    needed = known | {"effective": 70.0, "days_needed": 250.0}
    assert left(**needed, beyond_chance=better) == 150
    assert left(**needed, beyond_chance=worse) == 0  # no time is enough for a loss to become a gain
