"""The anchored parse: what is not an answer is INVALID, never HOLD."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candletune.decisions import DECISIONS
from candletune.prompts.parse import parse_answer


@pytest.mark.parametrize(
    ("text", "action", "reasoning"),
    [
        ("DECISION: BUY - RSI is low.", "BUY", "RSI is low."),
        ("  DECISION: SELL - falling", "SELL", "falling"),
        ("\nDECISION: HOLD - wait\n", "HOLD", "wait"),
        ("DECISION:BUY - tight", "BUY", "tight"),
        ("DECISION: [SELL] - in brackets", "SELL", "in brackets"),
        ("DECISION: HOLD -not spaced", "HOLD", "not spaced"),
        ("DECISION: BUY - first line\nDECISION: SELL - second", "BUY", "first line"),
        ("DECISION: HOLD - a HOLD, not a BUY", "HOLD", "a HOLD, not a BUY"),
        ("DECISION: BUY - a - b - c", "BUY", "a - b - c"),
        ("HOLD, not a BUY", None, ""),
        ("I think DECISION: BUY - late", None, ""),
        ("DECISION: BUY", None, ""),
        ("DECISION: BUY - ", None, ""),
        ("DECISION: BUY -   \nmore", None, ""),
        ("DECISION: [BUY - half a bracket", None, ""),
        ("DECISION: BUY] - half a bracket", None, ""),
        ("DECISION: [BUY/SELL/HOLD] - the format itself", None, ""),
        ("DECISION: BUYING - a longer word", None, ""),
        ("decision: buy - lower case", None, ""),
        ("DECISION: STRONG BUY - another word", None, ""),
        ("DECISION:  BUY - two blanks", None, ""),
        ("DECISION: BUY: no dash", None, ""),
        ("", None, ""),
        ("</s>", None, ""),
    ],
)
def test_parse(text: str, action: str | None, reasoning: str) -> None:
    answer = parse_answer(text)
    assert (answer.action, answer.reasoning) == (action, reasoning)


@given(st.text(max_size=60))
def test_text_before_the_decision_is_never_searched_through(noise: str) -> None:
    if noise.strip():
        assert parse_answer(f"{noise} DECISION: BUY - x").action is None or noise.lstrip().startswith("DECISION:")


@given(st.sampled_from(DECISIONS), st.text(min_size=1, max_size=60))
def test_every_answer_of_the_format_comes_back(action: str, reason: str) -> None:
    first = reason.partition("\n")[0].strip()
    answer = parse_answer(f"DECISION: {action} - {reason}")
    assert answer.action == (action if first else None)
    assert answer.reasoning == first
