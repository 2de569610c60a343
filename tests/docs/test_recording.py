"""The terminal recording of the documentation: well-formed, of commands that exist, and drawn from the cast alone."""

import importlib
import json
import os
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import click
import pytest
from doc_commands import ROOT, Typed, programs_of
from test_commands import parse

import draw_terminal as drawing

CAST = drawing.read_cast(drawing.CAST)
ABSOLUTE = re.compile(r"(?<![\w.:/~-])/(?:[\w.-]+/)*[\w.-]+|[A-Z]:\\")


def recorder() -> Any:
    """tools/record_terminal.py, which needs a pseudo-terminal."""
    if sys.platform == "win32":
        pytest.skip("Windows has no pseudo-terminal module")
    return importlib.import_module("record_terminal")


def typed_lines() -> list[str]:
    """What was typed after the prompts."""
    return [line.removeprefix("$ ") for line in drawing.transcript(CAST).splitlines() if line.startswith("$ ")]


def test_it_is_an_asciicast_of_two_minutes_at_most() -> None:
    header, *events = map(json.loads, drawing.CAST.read_text(encoding="utf-8").splitlines())
    assert (header["version"], header["width"], header["height"]) == (2, 80, 24)
    times = [at for at, _, _ in events]
    assert {kind for _, kind, _ in events} == {"o"}
    assert times == sorted(times)
    assert 30 < times[-1] <= 120


def test_it_names_no_folder_of_a_machine() -> None:
    text = "".join(part for _, part in CAST)
    assert not ABSOLUTE.search(re.sub(r"\x1b\[[\d;?]*[A-Za-z]", " ", text))
    user = os.environ.get("USER") or Path.home().name
    assert not re.search(rf"\b{re.escape(user)}@", text)


@pytest.mark.parametrize("text", ["report: /srv/x/report.html", "in /tmp", "C:\\Users\\x", "(/home/x)"])
def test_a_folder_of_a_machine_is_found(text: str) -> None:
    assert ABSOLUTE.search(text)


def test_each_command_exists() -> None:
    programs: set[str] = set()
    for line in typed_lines():
        for words in () if line.startswith("#") else programs_of(line):
            programs.add(words[0])
            if words[0] == "candletune":
                parse(Typed("recording", words, prose=False))
    assert {"candletune"} <= programs <= {"candletune", "cat", "cd"}
    shown = {line.split()[1] for line in typed_lines() if line.startswith("candletune")}
    assert {"demo", "status", "promote", "signal", "rollback"} <= shown
    with pytest.raises(click.UsageError):
        parse(Typed("recording", ("candletune", "demos"), prose=False))


def test_what_is_played_faster_says_so() -> None:
    """The demo takes minutes, and the recording two at most."""
    assert any(re.fullmatch(r"# \d+ min \d\d s, played \d+ times as fast", line) for line in typed_lines())


def test_pictures_and_page_are_those_of_the_recording() -> None:
    assert drawing.STILL.read_text(encoding="utf-8") == drawing.still(drawing.first_scene(CAST))
    assert drawing.PLAYED.read_text(encoding="utf-8") == drawing.played(CAST)
    page = drawing.PAGE.read_text(encoding="utf-8")
    assert page == drawing.on_page(page, drawing.transcript(CAST))
    assert "verdict: promote" in page, "or the page says something else than the recording shows"


@pytest.mark.parametrize("path", [drawing.STILL, drawing.PLAYED], ids=lambda path: path.name)
def test_pictures_are_whole_and_load_nothing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ET.fromstring(text).tag.endswith("svg")  # noqa: S314 - our own file
    assert not re.search(r"(?:href|src|url)\s*[=(]\s*[\"']?(?!#)", text)
    assert path.stat().st_size < 400_000


def test_the_moving_picture_stands_still_for_those_who_want_that() -> None:
    assert "prefers-reduced-motion:reduce" in drawing.PLAYED.read_text(encoding="utf-8")


def test_a_screen_by_hand() -> None:
    screen = drawing.Screen()
    screen.write("ab\x1b[1;32mc\x1b[0m\r\n12345\r\x1b[2K9\r\n" + "x" * 81)
    assert [("".join(letter for letter, _ in row)) for row in screen.rows] == ["abc", "9", "x" * 80, "x"]
    assert screen.rows[0][2] == ("c", "bold green")
    screen.write("\x1b[1A\x1b[2Kup")
    assert "".join(letter for letter, _ in screen.rows[2]) == " up"
    for unknown in ("\x1b[5;5H", "\x07", "\x1b[38;2;1;2;3m", "\x1b[44m"):
        with pytest.raises(ValueError, match="not known"):
            screen.write(unknown)


def test_a_line_that_nobody_saw_is_left_out() -> None:
    shortened = recorder().shortened
    bar = "\r\x1b[2K".join(["", "1/3", "2/3", "3/3"])
    assert shortened(bar) == "\r\x1b[2K3/3"
    assert shortened("1/3\r\x1b[2Ka\r\x1b[1A\x1b[2Kb\r\x1b[2Kc") == "\r\x1b[2Ka\r\x1b[1A\x1b[2Kb\r\x1b[2Kc"
    hidden = f"\x1b[?25l{bar}\r\x1b[2K\x1b[?25h"
    for text in (f"a\r\nb{bar}", f"{bar}\r\nend", hidden, "plain", "x\r\x1b[2Ky\nz\r\x1b[2K"):
        whole, short = drawing.Screen(), drawing.Screen()
        whole.write(text)
        short.write(shortened(text))
        assert short.rows == whole.rows, repr(text)
        assert text.count("\x1b[?25") == shortened(text).count("\x1b[?25")


def test_pauses_are_short_and_long_scenes_fast() -> None:
    tool = recorder()
    output = tool.Output([(0.0, "a"), (50.0, "b"), (50.5, "c\n"), (51.0, "d")], 60.0)
    played, faster = tool.paced(output, 1.0)
    assert "".join(text for _, text in played) == "abc\nd"
    assert played[-1][0] <= 1.0 + 2 * tool.STEP
    assert faster == pytest.approx(60.0, rel=0.05)
    played, faster = tool.paced(tool.Output([(0.1, "a")], 0.2), 5.0)
    assert faster == pytest.approx(2.0)


def test_a_command_is_recorded(tmp_path: Path) -> None:
    """A terminal of 80 columns; what fails ends the recording; what names a folder of the machine is refused."""
    tool = recorder()
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    output = tool.run("tput cols 2>/dev/null || stty size | cut -d' ' -f2; printf 'ü\\n'", tmp_path, environment)
    assert "".join(text for _, text in output.pieces).split() == ["80", "ü"]
    with pytest.raises(SystemExit, match="exit code 3"):
        tool.run("exit 3", tmp_path, environment)
    with pytest.raises(SystemExit, match="names a folder"):
        tool.write_cast([(0.0, f"in {tmp_path}")], tmp_path / "x.cast")
    with pytest.raises(SystemExit, match="more than 120"):
        tool.write_cast([(121.0, "late")], tmp_path / "x.cast")
    tool.write_cast([(0.5, "ü\r\n")], tmp_path / "x.cast")
    assert drawing.read_cast(tmp_path / "x.cast") == [(0.5, "ü\r\n")]
    assert (ROOT / "tools" / "record_terminal.py").is_file()
