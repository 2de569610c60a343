"""What reviewers said: `evaluation/reviews.jsonl`, one line a reviewer and item, always the latest.

Every answer is written before the page hears "saved". The file is small (items times reviewers), so a save replaces it
whole and atomically, under a lock that several processes share.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal, TypedDict

from filelock import FileLock

from candletune.errors import CheckFailed, InputError
from candletune.evaluation.review.sample import Item
from candletune.files import make_folder, write_text
from candletune.hashes import sha256_bytes
from candletune.journal import SIDES

QUALITIES: Final = ("grounded", "sensible", "clear")
SCALE: Final = {1: "no", 2: "partly", 3: "yes"}
Preference = Literal["active", "shadow", "equal"]
PREFERENCES: Final = ("active", "shadow", "equal")


class StaleReview(CheckFailed):
    """The answers on disk are not those that the page was made from."""


class ReviewRecord(TypedDict):
    """A line of the reviews file."""

    schema: int
    item: str
    reviewer: str
    ticker: str
    timestamp: str
    active: dict[str, int]
    shadow: dict[str, int]
    preference: Preference | None
    decision_shown: bool
    complete: bool
    saved: str


@dataclass(frozen=True, slots=True)
class Review:
    """One reviewer's answers to one item, by side, whatever order they were shown in.

    Attributes:
        scores: side -> quality -> 1 (no), 2 (partly), 3 (yes); qualities not answered yet are absent.
        preference: the better reason; None while open.
        decision_shown: the reviewer saw the decisions while judging.
    """

    item: str
    reviewer: str
    ticker: str = ""
    timestamp: str = ""
    scores: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    preference: Preference | None = None
    decision_shown: bool = False

    @property
    def complete(self) -> bool:
        """Every quality of both reasons, and the preference, are answered."""
        return self.preference is not None and all(
            quality in self.scores.get(side, {}) for side in SIDES for quality in QUALITIES
        )

    @property
    def version(self) -> str:
        """Which answers these are: equal for equal answers, whenever they were saved."""
        answers = {side: dict(self.scores.get(side, {})) for side in SIDES}
        return sha256_bytes(json.dumps([answers, self.preference], sort_keys=True).encode())[:16]

    def record(self) -> ReviewRecord:
        """The JSON line."""
        return {
            "schema": 1,
            "item": self.item,
            "reviewer": self.reviewer,
            "ticker": self.ticker,
            "timestamp": self.timestamp,
            "active": dict(self.scores.get("active", {})),
            "shadow": dict(self.scores.get("shadow", {})),
            "preference": self.preference,
            "decision_shown": self.decision_shown,
            "complete": self.complete,
            "saved": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def parse_review(value: Any) -> Review:
    """A record back to a review; `ValueError` when it is none."""
    if not isinstance(value, dict) or value.get("schema") != 1:
        raise ValueError("expected an object with schema 1")
    scores: dict[str, dict[str, int]] = {}
    for side in SIDES:
        given = value.get(side)
        if not isinstance(given, dict) or not all(k in QUALITIES and v in SCALE for k, v in given.items()):
            raise ValueError(f"{side}: expected {', '.join(QUALITIES)} from 1 to 3")
        scores[side] = given
    if value.get("preference") not in (*PREFERENCES, None):
        raise ValueError(f"preference: expected one of {', '.join(PREFERENCES)}")
    names = [value.get(key, "") for key in ("item", "reviewer", "ticker", "timestamp")]
    if not all(isinstance(name, str) for name in names) or not names[0] or not names[1]:
        raise ValueError("item or reviewer is missing")
    item, reviewer, ticker, timestamp = names
    shown = bool(value.get("decision_shown"))
    return Review(item, reviewer, ticker, timestamp, scores, value.get("preference"), shown)


def read_reviews(path: Path) -> list[Review]:
    """All reviews of a file; none when it does not exist.

    Raises:
        InputError: a line is broken.
    """
    if not path.exists():
        return []
    reviews = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if line.strip():
            try:
                reviews.append(parse_review(json.loads(line)))
            except ValueError as error:
                raise InputError(f"{path}:{number}: not a review ({error}); move that line out of the file") from None
    return reviews


class ReviewStore:
    """Reads and replaces one reviews file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = Lock()

    def all(self) -> list[Review]:
        """Every review on disk."""
        return read_reviews(self.path)

    def of(self, reviewer: str) -> dict[str, Review]:
        """One reviewer's reviews by item."""
        return {review.item: review for review in self.all() if review.reviewer == reviewer}

    def save(self, review: Review, *, over: str) -> None:
        """Put `review` in place of the same reviewer's earlier one; on disk when this returns.

        Args:
            review: the answers.
            over: `version` of the answers that the reviewer saw while giving these, a blank review's at first.

        Raises:
            StaleReview: other answers were saved since; nothing is written.
            InputError: a line of the file is broken.
        """
        make_folder(self.path.parent)
        with self._thread, FileLock(self.path.with_name(f".{self.path.name}.lock")):
            # Lines end at line feeds only: a text may hold other characters that Python takes for the end of one.
            lines = self.path.read_text(encoding="utf-8").split("\n") if self.path.exists() else []
            before = Review(review.item, review.reviewer)
            kept = []
            for line, stored in zip(filter(str.strip, lines), self.all(), strict=True):
                if (stored.item, stored.reviewer) == (review.item, review.reviewer):
                    before = stored
                else:
                    kept.append(line)
            if before.version not in (over, review.version):
                raise StaleReview(
                    "these answers were changed elsewhere (another tab?) since this page was loaded, and were not "
                    "replaced; reload the page"
                )
            kept.append(json.dumps(review.record(), ensure_ascii=True, separators=(",", ":")))
            write_text(self.path, "\n".join(kept) + "\n")


def blank(item: Item, reviewer: str) -> Review:
    """A review without answers."""
    return Review(item=item.key, reviewer=reviewer, ticker=item.ticker, timestamp=item.timestamp)
