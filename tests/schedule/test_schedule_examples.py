"""The examples for cron, systemd and the Windows Task Scheduler: each parses, and its command is one candletune has."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest

from candletune.cli import program

FOLDER = Path(__file__).parents[2] / "examples" / "schedule"
TASK = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"


def check(arguments: list[str]) -> None:
    """The program takes these arguments: `retrain` with a configuration."""
    assert arguments[0] == "retrain"
    command = program.get_command(click.Context(program), "retrain")
    assert command is not None
    context = command.make_context("retrain", arguments[1:])
    assert str(context.params["config_path"]).endswith("candletune.toml")


def test_crontab() -> None:
    (line,) = [line for line in (FOLDER / "crontab").read_text().splitlines() if line and not line.startswith("#")]
    match = re.fullmatch(r"(\d+|\*) (\d+|\*) (\d+|\*) (\d+|\*) ([0-7]|\*) (.+)", line)
    assert match is not None
    assert "%" not in match[6], "cron ends the command at a percent sign"
    words = shlex.split(match[6])
    assert words[0].endswith("/bin/candletune")
    check(words[1 : words.index(">>")])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (apt-get install systemd)")
def test_systemd_accepts_service_and_timer(tmp_path: Path) -> None:
    executable = tmp_path / "candletune" / ".venv" / "bin" / "candletune"
    executable.parent.mkdir(parents=True)
    executable.write_text("#!/bin/sh\n")
    executable.chmod(0o755)
    units = []
    for ending in ("service", "timer"):
        source = FOLDER / f"candletune-retrain.{ending}"
        units.append(tmp_path / source.name)
        units[-1].write_text(source.read_text().replace("%h", str(tmp_path)))
    (tmp_path / "runtime").mkdir()
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--user", *map(str, units)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path / "runtime"), "HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    calendar = re.search(r"^OnCalendar=(.+)$", units[1].read_text(), re.M)
    assert calendar is not None
    subprocess.run(["systemd-analyze", "calendar", calendar[1]], check=True, capture_output=True)


def test_systemd_service_runs_a_command_that_exists() -> None:
    start = re.search(r"^ExecStart=(.+)$", (FOLDER / "candletune-retrain.service").read_text(), re.M)
    assert start is not None
    check(shlex.split(start[1])[1:])


def test_task_scheduler() -> None:
    data = (FOLDER / "candletune-retrain.xml").read_bytes()
    assert data.startswith(b"\xff\xfe"), "Windows writes and wants UTF-16 with a byte order mark"
    task = ElementTree.fromstring(data)  # noqa: S314 - our own file
    assert task.tag == f"{TASK}Task"
    # The schema wants its parts in this order.
    parts = [child.tag.removeprefix(TASK) for child in task]
    assert parts == ["RegistrationInfo", "Triggers", "Principals", "Settings", "Actions"]
    assert task.findtext(f"{TASK}Settings/{TASK}MultipleInstancesPolicy") == "IgnoreNew"
    principal = task.find(f"{TASK}Principals/{TASK}Principal")
    actions = task.find(f"{TASK}Actions")
    assert principal is not None and actions is not None
    assert actions.get("Context") == principal.get("id")
    execute = f"{TASK}Exec/{TASK}"
    assert (actions.findtext(f"{execute}Command") or "").endswith(r"\Scripts\candletune.exe")
    check(shlex.split((actions.findtext(f"{execute}Arguments") or "").replace("\\", "/")))
