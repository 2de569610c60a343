"""What one row shows, as short noun phrases that cite values and are true of the row.

Reasons are built from these phrases and the grounding checker judges by the same bounds: both are the fields' own.
"""

import random
from collections.abc import Mapping
from typing import Any

from candletune.fields.field import Fact
from candletune.fields.registry import FIELDS


def facts_of(context: Mapping[str, Any], shown: Mapping[str, Any]) -> list[Fact]:
    """The facts of a row: `context` holds raw values, `shown` the same values as the prompt displays them."""
    facts = (field.fact(context, shown) for field in FIELDS if field.fact is not None)
    return [fact for fact in facts if fact is not None]


def say(fact: Fact, rng: random.Random) -> str:
    """One of the fact's phrases."""
    return fact.phrases[int(rng.random() * len(fact.phrases))]
