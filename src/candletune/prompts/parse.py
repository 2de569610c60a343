"""Read an answer: anchored at its start, never searched. What does not parse is INVALID, never HOLD."""

import re
from dataclasses import dataclass
from typing import cast

from candletune.decisions import Decision

# The brackets of the demanded format, `[BUY/SELL/HOLD]`, come back from untuned models; both or none.
_ANSWER = re.compile(r"\s*DECISION: ?(?:\[(BUY|SELL|HOLD)\]|(BUY|SELL|HOLD)) ?- ?([^\n]*)(?:\n.*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answer:
    """A parsed answer; `action` is None when the text does not hold to the format."""

    action: Decision | None
    reasoning: str


def parse_answer(text: str) -> Answer:
    """Parse `DECISION: BUY - reason`. The reason is the first line's; an empty one leaves the answer invalid."""
    match = _ANSWER.fullmatch(text)
    if match is None or not match[3].strip():
        return Answer(None, "")
    return Answer(cast(Decision, match[1] or match[2]), match[3].strip())
