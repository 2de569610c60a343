#!/usr/bin/env python3
"""Words that readers stumbled over, in the documentation and in what candletune says: part of `make lint`.

One term for one thing (docs/glossary.md), and no phrase that reads as translated. Code in backticks and in fences is
left out. Usage: python tools/check_words.py
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RULES = {
    r"\bunbeaten\b": "say which baseline does as well",
    r"\blife's\b|\bin life\b": "the market's, at the base rates",
    r"\b(own|natural|other|life's) class shares\b|\bnatural prior\b": "base rates",
    r"\beffective number\b": "effective sample size",
    r"\bdeepest fall\b": "maximum drawdown",
    r"\breasons? (is|are) why\b": "what decided",
    r"\bwritten token\b|\bread token\b|\bprice of (a|one) token\b": "time to generate a token, to read one",
    r"\bforetel(l|ls|lable)\b|\bforetold\b": "predict",
    r"\bby lot\b": "at random",
    r"\bflatter(s|ing)?\b": "say it plainly",
    r"\bwhoever\b": "anyone who, or whatever",
    r"\bbehind (the|its|their) (training|step|running step|last row|last candle|decision)\b": "after",
    r"×\s?\d[\d,]{3,}": "no return of a simulated market as a multiple",
    r"\bshelf\b|\bthe house\b": "the field's words",
}
"""A pattern, and what to say instead."""
FENCE = re.compile(r"^(`{3,}).*?^\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]+`")


def pages() -> list[Path]:
    """What people read."""
    return sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])


def spoken() -> list[Path]:
    """Templates of pages that candletune writes."""
    return sorted((ROOT / "src").rglob("*.j2"))


def prose(text: str) -> str:
    """A page without its code, line for line."""
    return CODE.sub("", FENCE.sub(lambda block: "\n" * block[0].count("\n"), text))


def faults(text: str) -> Iterator[tuple[int, str, str]]:
    """Line, the words, and what to say instead. A phrase may go over the end of a line."""
    joined = prose(text).replace("\n", " ")
    for pattern, instead in RULES.items():
        for found in re.finditer(pattern, joined, re.IGNORECASE):
            yield _line(text, found.start()), found[0], instead


def _line(text: str, position: int) -> int:
    lengths = 0
    for number, line in enumerate(prose(text).splitlines(), 1):
        lengths += len(line) + 1
        if position < lengths:
            return number
    return 1


def main() -> int:
    """Say each, and leave with 1 where there is one."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {words}: {instead}"
        for path in (*pages(), *spoken())
        for line, words, instead in faults(path.read_text(encoding="utf-8"))
    ]
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
