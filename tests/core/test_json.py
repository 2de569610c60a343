"""`--json`: every command with a result has it, one object goes to standard output, and errors are objects too."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from candletune.cli import main, program

NO_RESULT = {
    "init": "writes a file",
    "signal": "answers in JSON anyway",
    "serve": "serves until it is stopped",
    "shadow": "answers in JSON lines anyway",
    "review": "serves until it is stopped",
    "template show": "prints a template",
    "template from-fstring": "prints a template",
    "completion": "prints a shell script",
}
"""Commands without `--json`, and why."""
OTHERS = {"compare", "walk", "sweep", "ui"}
"""Print tables of their own, and write the same as JSON files."""


def every_command(group: click.Group = program, before: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from every_command(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    out, err = capsys.readouterr()
    (line,) = out.splitlines()
    assert isinstance(caught.value.code, int)
    return caught.value.code, json.loads(line), err


def test_every_command_with_a_result_has_it() -> None:
    without = {
        name
        for name, command in every_command()
        if not any("--json" in parameter.opts for parameter in command.params) and name.split()[0] not in OTHERS
    }
    assert without == set(NO_RESULT)


def test_a_stage_says_its_summary(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    settings = (
        f"run.folder={tmp_path}",
        "simulate.enabled=true",
        "simulate.years=0.6",
        "dataset.per_class=10",
        "dataset.natural_eval=10",
    )
    given = [word for text in settings for word in ("--set", text)]
    code, first, err = said(capsys, "dataset", "--json", *given)
    assert (code, first["command"], first["up_to_date"]) == (0, "dataset", False)
    assert sum(first["summary"]["counts"].values()) == 30 and first["summary"]["headline"] in err
    code, again, _ = said(capsys, "dataset", "--json", "--audit", "2", *given)
    assert (code, again["up_to_date"], again["audit"]["rebuilt"]) == (0, True, 2)
    assert again["summary"] == first["summary"]


def test_an_error_is_an_object_and_a_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, answer, err = said(capsys, "report", "--json", "--set", f"run.folder={tmp_path / 'none'}")
    assert code == answer["exit_code"] == 3
    assert err == f"error: {answer['error']}\n"
    code, answer, _ = said(capsys, "report", "--json", "--sets", "a=b")
    assert code == answer["exit_code"] == 2 and "--set" in answer["error"]


def test_a_check_that_says_no_has_its_result_and_nothing_else(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    journal = tmp_path / "ab.jsonl"
    journal.write_text("no row\n", encoding="utf-8")
    code, answer, err = said(capsys, "journal", "check", str(journal), "--json")
    assert code == 4 and [fault["line"] for fault in answer["faults"]] == [1] and "error: " in err


def test_doctor_gives_its_findings(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, answer, _ = said(
        capsys, "doctor", "--json", "--set", f"data.folder={tmp_path / 'none'}", "--set", "base.model=tiny"
    )
    assert code == 4 and {finding["level"] for finding in answer["findings"]} >= {"ok", "problem"}


def test_template_commands(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from candletune.prompts.template import load_template

    file = tmp_path / "mine.j2"
    file.write_text(load_template().text, encoding="utf-8")
    _, answer, _ = said(capsys, "template", "fields", "--json")
    assert {"field", "source"} <= answer["fields"][0].keys()
    code, answer, err = said(capsys, "template", "check", str(file), "--json")
    assert code == 0 and len(answer["sha256"]) == 64 and "sound" in err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["completion", shell])
    assert caught.value.code == 0
    assert "_CANDLETUNE_COMPLETE" in capsys.readouterr().out


def test_completion_needs_a_known_shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    with pytest.raises(SystemExit) as caught:
        main(["completion"])
    assert caught.value.code == 2 and "bash, zsh and fish" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("candletune tr", "train"),
        ("candletune train --no", "--no-preflight"),
        ("candletune train --set train.lea", "train.learning_rate="),
        ("candletune train --set learning", "train.learning_rate="),
    ],
)
def test_completion_knows_commands_options_and_keys(words: str, offered: str) -> None:
    typed = words.split()
    environment = os.environ | {
        "_CANDLETUNE_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(typed) - 1),
    }
    code = "from candletune.cli import main; main([])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert f"plain,{offered}" in done.stdout.splitlines()
