"""What README.md and docs/*.md tell people to type: command lines, configuration files, configuration keys."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"^(?P<fence>```+)(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=fence)", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`(?!`)([^`]+)`(?!`)")
SHELLS = {"console", "powershell", "bash", ""}
OPERATORS = "|;&<>()"
ASSIGNMENT = re.compile(r"^\w+=")
PROGRAMS = {"apt-get", "candletune", "hf", "make", "pip", "python", "python3"}
"""Programs with which a command in running text begins."""


@dataclass(frozen=True, slots=True)
class Typed:
    """A command as a page has it.

    Attributes:
        page: the page's name.
        words: program and arguments; nothing of another program in the same line.
        prose: it stands in running text, where arguments may be left out.
    """

    page: str
    words: tuple[str, ...]
    prose: bool

    def __str__(self) -> str:
        return " ".join(self.words)

    @property
    def arguments(self) -> tuple[str, ...]:
        """What follows the program's name."""
        return self.words[1:]


def commands(page: Path) -> list[Typed]:
    """Every command of a page, in its code blocks and in its running text."""
    text = page.read_text(encoding="utf-8")
    typed = [
        Typed(page.name, words, prose=False)
        for block in FENCE.finditer(text)
        if block["language"] in SHELLS
        for line in _lines(block["language"], block["body"])
        for words in programs_of(line)
    ]
    for span in SPAN.findall(FENCE.sub("", text)):
        words = tuple(_without_environment(span.split()))
        if words and _program(words[0]) in PROGRAMS and len(words) > 1:
            typed.append(Typed(page.name, (_program(words[0]), *words[1:]), prose=True))
    return typed


def candletune_commands(page: Path) -> list[Typed]:
    """Those that start candletune."""
    return [line for line in commands(page) if line.words[0] == "candletune"]


def toml_blocks(page: Path) -> list[str]:
    """Every configuration of a page."""
    return [block["body"] for block in FENCE.finditer(page.read_text(encoding="utf-8")) if block["language"] == "toml"]


def settings_in_text(page: Path) -> list[tuple[str, str]]:
    """`table.key` and `table.key = value` of the running text, as key and value (empty: none)."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    spans = (re.fullmatch(r"(?:--set )?(\w+\.\w+)(?:\s*=\s*(.+))?", span) for span in SPAN.findall(text))
    return [(match[1], match[2] or "") for match in spans if match]


def _lines(language: str, body: str) -> Iterator[str]:
    """Command lines of a block, a line that goes on in the next one joined; output is left out."""
    lines = iter(body.splitlines())
    for line in lines:
        if language == "console":
            if not line.startswith("$ "):
                continue
            line = line.removeprefix("$ ")
        elif language in {"", "bash"} and _program(line.split(" ")[0]) not in PROGRAMS:
            continue
        elif language == "powershell":
            if line.startswith("$env:"):
                continue
            line = line.replace("\\", "/")
        while _is_open(line):
            line = f"{line.removesuffix(chr(92))}\n{next(lines)}"
        yield line


def _is_open(line: str) -> bool:
    if line.endswith("\\"):
        return True
    try:
        list(_lexer(line))
    except ValueError:
        return True
    return False


def _lexer(line: str) -> "shlex.shlex":
    lexer = shlex.shlex(line, posix=True, punctuation_chars=OPERATORS)
    lexer.whitespace_split = True
    return lexer


def programs_of(line: str) -> Iterator[tuple[str, ...]]:
    """The single programs of a line."""
    words: list[str] = []
    redirected = False
    for word in [*_lexer(line), ";"]:
        if word and set(word) <= set(OPERATORS):
            kept = _without_environment(words)
            if kept and not redirected:
                yield (_program(kept[0]), *kept[1:])
            words, redirected = [], word in {">", ">>", "<"}
        else:
            words.append(word)


def _without_environment(words: list[str]) -> list[str]:
    while words and ASSIGNMENT.match(words[0]):
        words = words[1:]
    return words


def _program(word: str) -> str:
    return re.split(r"[/\\]", word)[-1].removesuffix(".exe")
