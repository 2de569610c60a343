"""One loop writes to a journal: a second one is refused, and never takes the first one's question for a dead one."""

import json
from pathlib import Path

import pytest
from programs import run_program, settings

from candletune.commands.shadow import shadow
from candletune.errors import UsageError
from candletune.live.shadow import hold_journal


def test_a_second_loop_is_refused_until_the_first_one_ends(tmp_path: Path) -> None:
    first = hold_journal(tmp_path / "live" / "log.jsonl")
    with pytest.raises(UsageError, match=r"log\.jsonl: another `candletune shadow` writes to this journal"):
        hold_journal(tmp_path / "live" / "log.jsonl")
    hold_journal(tmp_path / "live" / "other.jsonl").release()
    first.release()
    hold_journal(tmp_path / "live" / "log.jsonl").release()


def test_the_command_refuses_emits_nothing_and_leaves_the_question_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = json.dumps({"ticker": "BTC", "price_usd": 1.0, "timestamp": "2025-01-01T00:00:00Z"})
    asked = tmp_path / "log.jsonl.asking"
    asked.write_text("BTC 2025-01-01T00:00:00+00:00")
    held = hold_journal(tmp_path / "log.jsonl")
    with pytest.raises(UsageError, match="another `candletune shadow`"):
        run_program(shadow, [*settings(tmp_path), "--stdin"], line, monkeypatch, tmp_path)
    assert asked.is_file()
    assert not (tmp_path / "log.jsonl").exists()
    held.release()
    for number in (1, 2):  # the command itself gives it back
        sent = line.replace("T00", f"T0{number}")
        (answer,), _ = run_program(shadow, [*settings(tmp_path), "--stdin"], sent, monkeypatch, tmp_path)
        assert answer["status"] == "ok"
