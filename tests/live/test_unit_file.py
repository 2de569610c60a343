"""The example's systemd unit: systemd's own check finds nothing to say."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest

from candletune.cli import program

EXAMPLES = Path(__file__).parents[2] / "examples"
UNITS = [EXAMPLES / "freqtrade" / "candletune-shadow.service", EXAMPLES / "service" / "candletune-serve.service"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (apt-get install systemd)")
@pytest.mark.parametrize("source", UNITS, ids=lambda path: path.stem)
def test_systemd_accepts_the_unit(source: Path, tmp_path: Path) -> None:
    program = tmp_path / "candletune" / ".venv" / "bin" / "candletune"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / source.name
    unit.write_text(source.read_text().replace("%h", str(tmp_path)))
    (tmp_path / "runtime").mkdir()
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--user", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path / "runtime"), "HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_windows_task_starts_a_command_that_exists() -> None:
    data = (EXAMPLES / "service" / "candletune-serve.xml").read_bytes()
    assert data.startswith(b"\xff\xfe"), "Windows writes and wants UTF-16 with a byte order mark"
    task = ElementTree.fromstring(data)  # noqa: S314 - our own file
    names = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"
    arguments = shlex.split((task.findtext(f".//{names}Arguments") or "").replace("\\", "/"))
    assert arguments[:2] == ["serve", "--log-json"]
    command = program.get_command(click.Context(program), arguments[0])
    assert command is not None
    assert command.make_context("serve", arguments[1:])
    assert task.findtext(f".//{names}RestartOnFailure/{names}Interval") == "PT1M"
