"""Read an answer: anchored at its start, never searched. What does not parse is INVALID, never HOLD."""

import re
from dataclasses import dataclass

from candletune.decisions import Decision

_ANSWER = re.compile(r"\s*DECISION: ?\[?(BUY|SELL|HOLD)\]?(?: ?- ?(.*))?\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answer:
    """A parsed answer; `action` is None when the text does not hold to the format."""

    action: Decision | None
    reasoning: str


def parse_answer(text: str) -> Answer:
    """Parse `DECISION: BUY - reason`. The reason is the first line's; an empty one leaves the answer invalid."""
    match = _ANSWER.fullmatch(text)
    if match is None or match[2] is None:
        return Answer(None, "")
    reasoning = match[2].strip().partition("\n")[0].strip()
    if not reasoning:
        return Answer(None, "")
    action: Decision = match[1]  # type: ignore[assignment]
    return Answer(action, reasoning)
