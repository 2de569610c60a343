"""Which reasonings people judge: decision times at which both models gave one, with the facts they were given."""

import hashlib
import json
import random
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from candletune.config import Config
from candletune.errors import InputError
from candletune.evaluation.grounding import Rendered, rendered_again
from candletune.journal import SIDES, Problems, RowRecord, SideName, parse_time, read_rows
from candletune.prompts.grounding import Claim, check_reason
from candletune.runs import RunFolder

Checked = tuple[Claim, ...]
"""What of a reason a machine has checked, in reading order."""
_FACT = re.compile(r"^(?P<name>[A-Z0-9][^:\n]{0,40}): (?P<value>\S.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Item:
    """One decision time under review.

    Attributes:
        key: hash of what is judged, so that a review never counts for another text.
        prompt: what both models read; None when the candles it was made from are gone or changed.
        reasons, actions: by side ("active", "shadow"); which is which stays on the server.
        adapters: hash by side of the adapter that answered; None: the bare base.
        claims: by side, what of the reason can be checked, and whether it is true; empty without the candles.
    """

    key: str
    ticker: str
    timestamp: str
    price: float
    prompt: str | None
    reasons: Mapping[str, str]
    actions: Mapping[str, str]
    adapters: Mapping[str, str | None]
    claims: Mapping[str, Checked] = field(default_factory=dict)

    @property
    def facts(self) -> list[tuple[str, str]]:
        """The prompt's `Name: value` lines; empty when a template has none."""
        lines = [(match["name"], match["value"]) for match in _FACT.finditer(self.prompt or "")]
        return [(name, value) for name, value in lines if name != "DECISION"]

    def order(self, reviewer: str, seed: int) -> tuple[str, str]:
        """The sides in the order this reviewer sees them: random, but the same after a reload."""
        digest = hashlib.sha256(f"{seed}\0{reviewer}\0{self.key}".encode()).digest()
        return ("active", "shadow") if digest[0] & 1 else ("shadow", "active")


def load_sample(config: Config, run: RunFolder, *, prompts: bool = True, reviewed: Collection[str] = ()) -> list[Item]:
    """The items to review: `evaluation/review_sample.jsonl`, or drawn from a journal.

    The journal is `review.journal`, or the replay's, or where there is neither the shadow test's (`live.journal`). A
    shadow test's grows while people review it, so its items are drawn by their hashes: a new row pushes out few of
    those before it, and what is reviewed stays.

    Args:
        config: gives the sample's size, the seed, the journal, and the candles prompts are rendered from.
        run: whose replay.
        prompts: False leaves out prompts that are not in the rows, since rendering them takes seconds.
        reviewed: keys of items that a growing journal's sample keeps.

    Raises:
        InputError: neither file exists, or no row has reasons of both models.
    """
    shadow = config.review.journal
    replayed = run.review_sample.is_file() or run.journal.is_file()
    if shadow is None and not replayed and config.live.journal.is_file():
        shadow = config.live.journal
    if shadow is not None:
        rows, source = list(_sound_rows(shadow)), shadow
    elif run.review_sample.is_file():
        rows, source = _written_rows(run.review_sample), run.review_sample
    elif run.journal.is_file():
        rows, source = list(read_rows(run.journal)), run.journal
    else:
        raise InputError(f"{run.journal}: no such file; run `candletune replay` first, or name a journal (--journal)")
    usable = [row for row in rows if all(_reason(row, side) for side in SIDES)]
    if not usable:
        remedy = "shadow rows have reasons as they come" if shadow else "replay with --set replay.reasons=50"
        raise InputError(f"{source}: no row has reasons of both models; {remedy}")
    usable.sort(key=lambda row: (row["timestamp"], row["ticker"]))
    count = min(len(usable), config.review.items)
    if shadow is None:
        chosen = random.Random(config.seed).sample(usable, count)  # noqa: S311 - a sample
    else:
        usable.sort(key=lambda row: _rank(config.seed, _key(row)))
        chosen = usable[:count] + [row for row in usable[count:] if _key(row) in reviewed]
    rendered = _rendered(config, chosen) if prompts else {}
    return [_item(row, rendered) for row in chosen]


def _sound_rows(path: Path) -> Iterator[RowRecord]:
    """A journal's rows, a ticker and time once; lines that are none are left out, as the evaluation counts them."""
    seen = set()
    for row in read_rows(path, problems=Problems()):
        key = row["ticker"], row["timestamp"]
        if key not in seen:
            seen.add(key)
            yield row


def _rank(seed: int, key: str) -> str:
    return hashlib.sha256(f"{seed}\0{key}".encode()).hexdigest()


def _written_rows(path: Path) -> list[RowRecord]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            if not {"timestamp", "ticker", *SIDES} <= row.keys():
                raise ValueError("keys are missing")
        except (ValueError, AttributeError) as error:
            raise InputError(
                f"{path}:{number}: not a review row ({error}); run `candletune evaluate --force`"
            ) from None
        rows.append(row)
    return rows


def _reason(row: RowRecord, side: SideName) -> str:
    answer = row[side]
    return str(answer.get("reasoning") or "").strip() if answer.get("action") else ""


def _key(row: RowRecord) -> str:
    judged = "\0".join((row["ticker"], row["timestamp"], *(_reason(row, side) for side in SIDES)))
    return hashlib.sha256(judged.encode()).hexdigest()[:16]


def _item(row: RowRecord, rendered: Mapping[str, Rendered]) -> Item:
    reasons: dict[str, str] = {side: _reason(row, side) for side in SIDES}
    known = rendered.get(row.get("prompt_sha256", ""))
    claims = {} if known is None else {side: tuple(check_reason(text, known.context)) for side, text in reasons.items()}
    return Item(
        key=_key(row),
        ticker=row["ticker"],
        timestamp=row["timestamp"],
        price=float(row.get("price") or 0.0),
        prompt=row.get("prompt") or (known.prompt if known else None),
        reasons=reasons,
        actions={side: row[side].get("action") or "" for side in SIDES},
        adapters={side: row[side].get("adapter_sha256") for side in SIDES},
        claims=claims,
    )


def _rendered(config: Config, rows: Sequence[RowRecord]) -> dict[str, Rendered]:
    """Prompts and facts by hash, made again from the candles; a row whose prompt comes out different has none."""
    named = {"ticker": [row["ticker"] for row in rows], "timestamp": [parse_time(row["timestamp"]) for row in rows]}
    return rendered_again(config, pl.DataFrame(named)) or {}
