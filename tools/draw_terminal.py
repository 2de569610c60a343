#!/usr/bin/env python3
"""Pictures and text of the terminal recording, from docs/recording/terminal.cast alone.

Usage: python tools/draw_terminal.py    (tools/record_terminal.py does it after recording)

terminal.svg is the screen after the first command, terminal-played.svg all of it: it plays without a script, and opened
by itself it pauses and seeks by keyboard. The text goes into docs/recording.md. tests/docs holds them to the recording.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "recording"
CAST, STILL, PLAYED = FOLDER / "terminal.cast", FOLDER / "terminal.svg", FOLDER / "terminal-played.svg"
PAGE = ROOT / "docs" / "recording.md"
COLUMNS, LINES = 80, 24
PROMPT = "\x1b[1;32m$\x1b[0m "


def read_cast(path: Path) -> list[tuple[float, str]]:
    """What a recording shows, with its times."""
    _, *lines = path.read_text(encoding="utf-8").splitlines()
    return [(event[0], event[2]) for event in map(json.loads, lines)]


Cell = tuple[str, str]
"""A letter and the classes of its style."""
SEQUENCE = re.compile(r"\x1b\[(\??)([\d;]*)([A-Za-z])|\x1b\]8;[^\x1b]*\x1b\\|[\x00-\x1f]|[^\x00-\x1f\x1b]+|\x1b")
NAMES = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")


class Screen:
    """A terminal that knows what candletune writes: text, colours, and a last line that is drawn anew.

    Attributes:
        rows: every line since the beginning, those that have scrolled away among them.
        changed: numbers of the lines that changed since it was emptied.
    """

    def __init__(self) -> None:
        self.rows: list[list[Cell]] = [[]]
        self.changed: set[int] = set()
        self._row = self._column = 0
        self._style: set[str] = set()

    @property
    def top(self) -> int:
        """The first line in view."""
        return max(0, len(self.rows) - LINES)

    def write(self, text: str) -> None:
        """Show text.

        Raises:
            ValueError: a control sequence that this terminal does not know.
        """
        for found in SEQUENCE.finditer(text):
            part = found[0]
            if found[3]:
                self._control(found[1], found[2], found[3])
            elif part == "\r":
                self._column = 0
            elif part == "\n":
                self._down()
            elif part >= " ":
                for letter in part:
                    self._put(letter)
            elif not part.startswith("\x1b]8;"):
                raise ValueError(f"{part!r} is not known to this terminal")

    def _put(self, letter: str) -> None:
        if self._column == COLUMNS:
            self._column = 0
            self._down()
        row = self.rows[self._row]
        row.extend([(" ", "")] * (self._column + 1 - len(row)))
        row[self._column] = (letter, " ".join(sorted(self._style)))
        self._column += 1
        self.changed.add(self._row)

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self.rows):
            self.rows.append([])
            self.changed.add(self._row)

    def _control(self, private: str, numbers: str, letter: str) -> None:
        if private and numbers == "25":
            return  # the cursor, which is not drawn
        if letter == "m":
            self._set_style([int(number or 0) for number in numbers.split(";")])
        elif letter == "K":
            row = self.rows[self._row]
            del row[0 if numbers == "2" else self._column :]
            self.changed.add(self._row)
        elif letter == "A":
            self._row = max(self.top, self._row - int(numbers or 1))
        else:
            raise ValueError(f"{private}{numbers}{letter} is not known to this terminal")

    def _set_style(self, numbers: list[int]) -> None:
        while numbers:
            number = numbers.pop(0)
            if number == 0:
                self._style.clear()
            elif number in (1, 2, 3):
                self._style.add(("bold", "dim", "italic")[number - 1])
            elif 30 <= number <= 37:
                self._colour(NAMES[number - 30])
            elif 90 <= number <= 97:
                self._colour(f"bright-{NAMES[number - 90]}")
            elif number == 39:
                self._colour("")
            elif number == 38 and numbers[:1] == [5]:
                self._colour(f"c{numbers[1]}")
                del numbers[:2]
            else:
                raise ValueError(f"style {number} is not known to this terminal")

    def _colour(self, name: str) -> None:
        self._style = {part for part in self._style if part in {"bold", "dim", "italic"}} | ({name} if name else set())


@dataclass(slots=True)
class Line:
    """One state of one line.

    Attributes:
        row: its number since the beginning.
        since: seconds at which it is first seen.
        until: seconds at which another state takes its place; None: it stays.
        cells: what it shows.
    """

    row: int
    since: float
    until: float | None
    cells: list[Cell]


def states(shown: Sequence[tuple[float, str]]) -> tuple[list[Line], list[tuple[float, int]], Screen]:
    """Every state of every line, when the view moved to which first line, and the screen at the end."""
    screen, lines, moves = Screen(), [], [(0.0, 0)]
    latest: dict[int, Line] = {}
    for at, text in shown:
        screen.changed.clear()
        screen.write(text)
        for row in sorted(screen.changed):
            if (old := latest.get(row)) is not None:
                if old.cells == screen.rows[row]:
                    continue
                old.until = at
            latest[row] = Line(row, at, None, list(screen.rows[row]))
            lines.append(latest[row])
        if screen.top != moves[-1][1]:
            moves.append((at, screen.top))
    return [line for line in lines if any(letter != " " for letter, _ in line.cells)], moves, screen


WIDE, HIGH, SIZE, MARGIN, BAR = 8.4, 18, 14, 16, 30
WIDTH, HEIGHT = round(COLUMNS * WIDE) + 2 * MARGIN, LINES * HIGH + MARGIN + BAR + 10
COLOURS = {
    "red": "#ff7b72",
    "green": "#56d364",
    "yellow": "#e3b341",
    "blue": "#79c0ff",
    "magenta": "#d2a8ff",
    "cyan": "#56d4dd",
    "white": "#e6edf3",
    "black": "#8b949e",
}
STYLE = (
    "text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#d7dee6;"
    "white-space:pre}.bold{font-weight:700}.dim{fill:#9aa4af}.italic{font-style:italic}"
    + "".join(f".{name},.bright-{name}{{fill:{colour}}}" for name, colour in COLOURS.items())
)
MOTION = """@keyframes v{from,to{visibility:visible}}@keyframes p{from{transform:scaleX(0)}}
.l{visibility:hidden;animation:v linear}.e{animation:w .01s linear both}@keyframes w{from{visibility:hidden}}
.p{transform-origin:%(margin)spx 0;animation:p %(seconds).2fs linear}
.s{animation:s %(seconds).2fs step-end}@keyframes s{%(moves)s}
@media (prefers-reduced-motion:reduce){.e,.s,.p{animation:none}.l{display:none}}"""
SCRIPT = """
const help = document.getElementById("help"), all = () => document.getAnimations();
const now = () => Math.max(...all().map((one) => Number(one.currentTime) || 0));
let paused = false;
const pause = () => { paused = !paused; all().forEach((one) => paused ? one.pause() : one.play()); };
const go = (to) => all().forEach((one) => {
  one.currentTime = Math.max(0, Math.min(END, to));
  if (!paused) one.play();
});
document.documentElement.addEventListener("click", pause);
addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -5000, ArrowRight: 5000 }[event.key];
  if (event.key === " ") pause(); else if (step) go(now() + step); else if (event.key === "Home") go(0); else return;
  event.preventDefault();
});
help.style.visibility = "visible";
"""
HELP = "Space or click: pause    ← →: 5 seconds    Home: from the start"


def colours_used(lines: Iterable[Line]) -> str:
    """Rules for the colours of the 256 that the lines have."""
    used = {part for line in lines for _, style in line.cells for part in style.split() if re.fullmatch(r"c\d+", part)}
    return "".join(f".{name}{{fill:{_of_256(int(name[1:]))}}}" for name in sorted(used))


def _of_256(number: int) -> str:
    if number < 16:
        return COLOURS[NAMES[number % 8]]
    if number >= 232:
        return "#" + f"{max(8 + 10 * (number - 232), 110):02x}" * 3
    steps = (0, 95, 135, 175, 215, 255)
    parts = (number - 16) // 36, (number - 16) // 6 % 6, (number - 16) % 6
    return "#" + "".join(f"{steps[part]:02x}" for part in parts)


def drawn(line: Line, top: int = 0) -> str:
    """The texts of a line: each run of one style has the width of its letters in whatever font there is."""
    parts, place = [], 0
    y = BAR + MARGIN + (line.row - top) * HIGH
    while place < len(line.cells):
        style, start = line.cells[place][1], place
        while place < len(line.cells) and line.cells[place][1] == style:
            place += 1
        text = "".join(letter for letter, _ in line.cells[start:place])
        stripped = text.strip(" ")
        if not stripped:
            continue
        start += len(text) - len(text.lstrip(" "))
        named = f' class="{style}"' if style else ""
        long = f' textLength="{len(stripped) * WIDE:.1f}" lengthAdjust="spacingAndGlyphs"' if len(stripped) > 1 else ""
        parts.append(
            f'<text x="{MARGIN + start * WIDE:.1f}" y="{y}"{named}{long}>{escape(stripped, quote=False)}</text>'
        )
    return "".join(parts)


def framed(style: str, inside: str, about: str, after: str = "") -> str:
    """A terminal's window around lines."""
    dots = "".join(f'<circle cx="{18 + 18 * place}" cy="15" r="5" fill="#4b5563"/>' for place in range(3))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'style="max-width:100%;height:auto" role="img" aria-labelledby="t"><title id="t">{escape(about)}</title>'
        f"<style>{style}</style>"
        f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="9" fill="#0d1117" stroke="#4b5563"/>{dots}'
        f'<clipPath id="c"><rect y="{BAR + 4}" width="{WIDTH}" height="{LINES * HIGH}"/></clipPath>'
        f'<g clip-path="url(#c)">{inside}</g>{after}</svg>\n'
    )


def still(shown: Sequence[tuple[float, str]]) -> str:
    """The screen at the end, as a picture."""
    lines, _, screen = states(shown)
    seen = [line for line in lines if line.until is None and line.row >= screen.top]
    text = "".join(drawn(line, screen.top) for line in seen)
    return framed(STYLE + colours_used(seen), text, "A terminal after candletune demo: stages, results and the verdict")


def played(shown: Sequence[tuple[float, str]]) -> str:
    """All of it, moving. Without motion (a reader's wish, or no support) it is the screen at the end."""
    lines, moves, _ = states(shown)
    end = shown[-1][0]
    parts = []
    for line in lines:
        if line.until is None:
            timed = f'class="e" style="animation-delay:{line.since:.2f}s"'
        else:
            seconds = line.until - line.since
            timed = f'class="l" style="animation-delay:{line.since:.2f}s;animation-duration:{seconds:.2f}s"'
        parts.append(f"<g {timed}>{drawn(line)}</g>")
    frames = "".join(f"{at / end:.4%}{{transform:translateY(-{top * HIGH}px)}}" for at, top in moves)
    motion = MOTION % {"margin": MARGIN, "seconds": end, "moves": frames}
    last = f"transform:translateY(-{moves[-1][1] * HIGH}px)"
    inside = f'<g class="s" style="{last}">{"".join(parts)}</g>'
    progress = f'<rect class="p" x="{MARGIN}" y="{HEIGHT - 6}" width="{WIDTH - 2 * MARGIN}" height="2" fill="#56d364"/>'
    hint = (
        f'<text id="help" x="{WIDTH - MARGIN}" y="19" text-anchor="end" class="dim" visibility="hidden">{HELP}</text>'
    )
    script = f"<script><![CDATA[const END = {end * 1000:.0f};{SCRIPT}]]></script>"
    style = STYLE + colours_used(lines) + motion
    return framed(style, inside, "A terminal: candletune from a demo to a verdict and back", progress + hint + script)


def transcript(shown: Sequence[tuple[float, str]]) -> str:
    """What is on the screen at the end and what has scrolled away, without styles."""
    screen = states(shown)[2]
    return "\n".join("".join(letter for letter, _ in row).rstrip() for row in screen.rows).strip()


def first_scene(shown: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """What is shown until the second command is typed."""
    prompts = [place for place, (_, text) in enumerate(shown) if text.endswith(PROMPT)]
    comment = shown[prompts[1] + 1][1].startswith("#")
    return list(shown[: prompts[2 if comment else 1]])


def on_page(page: str, text: str) -> str:
    """The page with another text in its block."""
    return re.sub(r"(```text\n).*?(\n```)", lambda found: f"{found[1]}{text}{found[2]}", page, count=1, flags=re.DOTALL)


def draw() -> None:
    """Pictures and text, from the recording."""
    shown = read_cast(CAST)
    STILL.write_text(still(first_scene(shown)), encoding="utf-8")
    PLAYED.write_text(played(shown), encoding="utf-8")
    PAGE.write_text(on_page(PAGE.read_text(encoding="utf-8"), transcript(shown)), encoding="utf-8")


if __name__ == "__main__":
    draw()
