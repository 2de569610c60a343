"""What every field must hold to, whichever fields there are."""

import random

import pytest

from candletune.fields import registry
from candletune.fields.field import Field
from candletune.fields.registry import COLUMNS, EXAMPLE, FIELDS, KEYS
from candletune.prompts.context import clean_context, context_of, display_fields
from candletune.prompts.facts import facts_of
from candletune.prompts.grounding import check_reason
from random_market import news, rows_of, walk

by_name = pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)


@by_name
def test_a_field_is_documented_and_displays_the_same_names_whatever_it_is_given(field: Field) -> None:
    assert len(field.source) > 20
    assert set(field.display({})) == set(field.display(EXAMPLE))
    assert all(isinstance(value, str | bool | None) for value in field.display(EXAMPLE).values())


@by_name
def test_an_example_is_a_valid_value(field: Field) -> None:
    for key in field.keys:
        assert key.clean(key.name, key.example) == key.example
        assert key.informs(None) is False
        assert key.raw_value(None) == key.placeholder


def test_a_market_row_has_every_column_and_fills_every_key() -> None:
    rows = rows_of(walk(3, 200), news(3))
    assert tuple(rows.columns) == COLUMNS
    context = context_of(rows.row(-1, named=True))
    assert list(context) == [key.name for key in KEYS]
    # A trader who sends what the row holds gets the very prompt of the row.
    assert display_fields(clean_context(context)) == display_fields(context)


def test_every_phrase_of_every_fact_is_found_and_true() -> None:
    rows = rows_of(walk(5, 260), news(5))
    topics = set()
    for row in random.Random(1).sample(rows.to_dicts(), 40):  # noqa: S311
        context = context_of(row)
        for fact in facts_of(context, display_fields(context)):
            topics.add(fact.topic)
            for phrase in fact.phrases:
                claims = check_reason(phrase, context)
                assert claims, phrase
                assert all(claim.holds for claim in claims), phrase
    assert topics >= {"rsi", "macd", "ema", "bands", "change", "timeframes", "fear_greed"}


def test_two_fields_may_not_share_a_name() -> None:
    with pytest.raises(ValueError, match="two fields define the column rsi; rename one"):
        registry._once("column", ("rsi", "macd_hist", "rsi"))
