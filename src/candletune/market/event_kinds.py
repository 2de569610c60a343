"""Kinds of events that a simulated market's headlines tell of, and how each is worded (event_kinds.toml)."""

import tomllib
from functools import lru_cache
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field


class EventKind(BaseModel):
    """One kind of event.

    Attributes:
        name: unique.
        direction: where the price drifts while one lasts: 1, -1; 0: nowhere.
        tone: polarity that a counter of good and bad words gives it, -1 to 1.
        before: wordings of the training period; empty: such an event never occurs in it.
        after: wordings of the test period.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    direction: int = Field(ge=-1, le=1)
    tone: float = Field(ge=-1, le=1)
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = Field(min_length=1)

    @property
    def is_new(self) -> bool:
        """Whether it occurs in the test period only."""
        return not self.before


class Phrases(BaseModel):
    """Words put in front of a headline, by period."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    before: tuple[str, ...]
    after: tuple[str, ...]


class EventKinds(BaseModel):
    """All kinds, and what fills their wordings.

    Attributes:
        slots: by name, what may stand in a wording's `{name}`.
        leads: what may stand in front of it.
        kind: the kinds; those that move the price first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    slots: dict[str, tuple[str, ...]]
    leads: Phrases
    kind: tuple[EventKind, ...]

    def word(self, kind: EventKind, after: bool, rng: np.random.Generator) -> str:
        """One wording of a kind.

        Args:
            kind: one that the period has.
            after: in the test period.
            rng: source of every choice.
        """
        wordings, leads = (kind.after, self.leads.after) if after else (kind.before, self.leads.before)
        filled = {name: values[int(rng.integers(len(values)))] for name, values in self.slots.items()}
        text = wordings[int(rng.integers(len(wordings)))].format(**filled)
        text = leads[int(rng.integers(len(leads)))] + text
        return text[0].upper() + text[1:]


@lru_cache(maxsize=1)
def event_kinds() -> EventKinds:
    """The packaged kinds."""
    path = Path(__file__).with_name("event_kinds.toml")
    return EventKinds.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
