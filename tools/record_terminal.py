#!/usr/bin/env python3
"""The terminal recording of the documentation: real commands in a terminal of 80 columns and 24 lines.

Usage: python tools/record_terminal.py    (Linux; minutes: it runs a whole demo)

Each command of `SCENES` runs in a new folder, in a pseudo-terminal; what it prints is written as it came, to
docs/recording/terminal.cast (asciicast v2: `asciinema play` shows it). Three things are not as they were: the letters
of a command are typed by this program; a pause is at most `IDLE` seconds; and a scene that takes longer than its
`seconds` is played faster, which a comment in the recording says, with the time it really took. A progress bar that
was drawn several times within an eighth of a second is kept once. A recording that names a folder of this machine is
refused. tools/draw_terminal.py draws it.
"""

import codecs
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from draw_terminal import CAST, COLUMNS, LINES, PROMPT, draw

IDLE = 1.0
LIMIT = 120.0
"""Seconds: the longest pause that is kept, and how long a recording may be."""
SLOW = 30.0
"""Seconds that a command takes at least whose comment says so; what is quicker has lost pauses alone."""
STEP = 0.125
"""Seconds between two looks at what a command prints: what came in between is one event."""
MACHINE = re.compile(r"(?<![\w.:/])/(?:[\w.-]+/)+[\w.-]*|(?<![\w.:/])/(?:home|root|tmp|usr|opt|var)\b")
"""A folder of some machine."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One command.

    Attributes:
        command: what is typed.
        folder: below the recording's own, where it runs.
        seconds: it is played in so many at most.
        read: seconds to read what it printed.
        before: a comment that is typed first.
    """

    command: str
    folder: str = "."
    seconds: float = 6.0
    read: float = 4.0
    before: str = ""


SCENES = (
    Scene("candletune demo", seconds=40, read=8),
    Scene("candletune status", folder="runs/demo", read=6, before="cd runs/demo"),
    Scene("candletune promote", folder="runs/demo", read=4),
    Scene("cat context.json", folder="runs/demo", read=3),
    Scene("candletune signal < context.json", folder="runs/demo", read=6),
    Scene("candletune rollback", folder="runs/demo", read=4),
)


CONTEXT = """{"ticker": "BTC", "price_usd": 97000, "rsi": 88.4, "macd_hist": 61.3,
"ema_bullish": true, "ema_gap_pct": 1.62, "bb_position": "near upper band",
"change_24h": 6.8, "fear_greed": 50, "fear_greed_class": "Neutral",
"timeframe_summary":
"4h bullish RSI 95 (+1.8%) | 12h bullish RSI 96 (+4.9%) | 1d bullish RSI 84"}
"""
"""What a trader's program would send; no real moment."""


@dataclass(slots=True)
class Output:
    """What a command printed: pieces with the seconds after which they came, and how long it ran."""

    pieces: list[tuple[float, str]] = field(default_factory=list)
    seconds: float = 0.0


def run(command: str, folder: Path, environment: dict[str, str]) -> Output:
    """Run a command in a pseudo-terminal and keep what it prints.

    Raises:
        SystemExit: it failed.
    """
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    began, output = time.monotonic(), Output()
    decoder = codecs.getincrementaldecoder("utf-8")()
    started = ["bash", "-c", f"set -o pipefail; {command}"]
    with subprocess.Popen(  # noqa: S603
        started, cwd=folder, env=environment, stdin=there, stdout=there, stderr=there, start_new_session=True
    ) as process:
        os.close(there)
        while data := _read(here, process):
            if text := decoder.decode(data):
                output.pieces.append((time.monotonic() - began, text))
    os.close(here)
    output.seconds = time.monotonic() - began
    if process.returncode:
        print("".join(text for _, text in output.pieces))
        raise SystemExit(f"error: {command}: exit code {process.returncode}")
    return output


def _read(terminal: int, process: "subprocess.Popen[bytes]") -> bytes:
    """The next bytes; none at the end."""
    while True:
        ready, _, _ = select.select([terminal], [], [], 0.2)
        if ready:
            try:
                return os.read(terminal, 65536)
            except OSError:  # Linux: the last program has closed it
                return b""
        if process.poll() is not None:
            return b""


def paced(output: Output, seconds: float) -> tuple[list[tuple[float, str]], float]:
    """Pieces at the times at which they are played, and how many times as fast that is."""
    played: list[tuple[float, str]] = []
    now = before = 0.0
    for at, text in output.pieces:
        now += min(IDLE, at - before)
        before = at
        played.append((now, text))
    scale = min(1.0, seconds / now) if now else 1.0
    return list(_in_steps((at * scale, text) for at, text in played)), output.seconds / max(now * scale, 0.1)


def _in_steps(pieces: Iterable[tuple[float, str]]) -> Iterator[tuple[float, str]]:
    """One piece a step of time, without what nobody would see."""
    step, held = 0, ""
    for at, text in pieces:
        if held and int(at / STEP) != step:
            yield (step + 1) * STEP, shortened(held)
            held = ""
        step, held = int(at / STEP), held + text
    if held:
        yield (step + 1) * STEP, shortened(held)


def shortened(text: str) -> str:
    """The same text without lines that are erased in it before anybody sees them: a progress bar, drawn anew."""
    parts = text.split("\r\x1b[2K")
    last = len(parts) - 1
    seen = [
        place == last or "\n" in part or "\x1b[?" in part or bool(re.search(r"\x1b\[\d*A", part))
        for place, part in enumerate(parts)
    ]
    kept = [part for place, part in enumerate(parts) if seen[place]]
    return "\r\x1b[2K".join(kept if seen[0] else ["", *kept])


def typed(text: str, now: float) -> Iterator[tuple[float, str]]:
    """A command's letters after the prompt, a few at a time."""
    yield now, PROMPT
    now += 0.4
    for place in range(0, len(text), 4):
        yield now, text[place : place + 4]
        now += STEP
    yield now + 0.2, "\r\n"


def record(scenes: Sequence[Scene], folder: Path) -> list[tuple[float, str]]:
    """Run every scene below a folder; returns what is shown, with its times."""
    environment = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
        "HOME": str(folder),
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count())),
        **{key: os.environ[key] for key in ("PYTHONPATH",) if key in os.environ},
    }
    shown: list[tuple[float, str]] = []
    now = 0.5
    for scene in scenes:
        for text in (scene.before, scene.command):
            if text:
                shown += typed(text, now)
                now = shown[-1][0]
        if "context.json" in scene.command:
            (folder / scene.folder / "context.json").write_text(CONTEXT, encoding="utf-8")
        output = run(scene.command, folder / scene.folder, environment)
        pieces, faster = paced(output, scene.seconds)
        shown += [(now + at, text) for at, text in pieces]
        now = shown[-1][0] + 0.3
        if output.seconds > SLOW and faster >= 2:
            shown += typed(f"# {_duration(output.seconds)}, played {faster:.0f} times as fast", now)
            now = shown[-1][0]
        now += scene.read
        print(f"{scene.command}: {output.seconds:.1f} s, played in {pieces[-1][0]:.1f} s", flush=True)
    return [*shown, (now, PROMPT)]


def _duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} seconds" if whole < 90 else f"{whole // 60} min {whole % 60:02d} s"


def write_cast(shown: Sequence[tuple[float, str]], path: Path) -> None:
    """Write a recording.

    Raises:
        SystemExit: it is longer than two minutes, or names a folder of this machine.
    """
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", " ", "".join(part for _, part in shown))
    if found := MACHINE.search(text):
        raise SystemExit(f"error: the recording names a folder of this machine: {found[0]}")
    if shown[-1][0] > LIMIT:
        raise SystemExit(f"error: the recording takes {shown[-1][0]:.0f} s, more than {LIMIT:.0f}")
    header = {"version": 2, "width": COLUMNS, "height": LINES, "title": "candletune", "idle_time_limit": IDLE}
    lines = [json.dumps(header), *(json.dumps([round(at, 3), "o", part], ensure_ascii=False) for at, part in shown)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """See the module."""
    with tempfile.TemporaryDirectory() as folder:
        write_cast(record(SCENES, Path(folder)), CAST)
    draw()


if __name__ == "__main__":
    main()
