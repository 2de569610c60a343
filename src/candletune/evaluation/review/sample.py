"""Which reasonings people judge: decision times at which both models gave one, with the facts they were given."""

import hashlib
import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from candletune.config import Config
from candletune.errors import InputError
from candletune.journal import parse_time, read_rows
from candletune.runs import RunFolder

SIDES = ("active", "shadow")
_FACT = re.compile(r"^(?P<name>[A-Z0-9][^:\n]{0,40}): (?P<value>\S.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Item:
    """One decision time under review.

    Attributes:
        key: hash of what is judged, so that a review never counts for another text.
        prompt: what both models read; None when the candles it was made from are gone or changed.
        reasons, actions: by side ("active", "shadow"); which is which stays on the server.
        adapters: hash by side of the adapter that answered; None: the bare base.
    """

    key: str
    ticker: str
    timestamp: str
    price: float
    prompt: str | None
    reasons: Mapping[str, str]
    actions: Mapping[str, str]
    adapters: Mapping[str, str | None]

    @property
    def facts(self) -> list[tuple[str, str]]:
        """The prompt's `Name: value` lines; empty when a template has none."""
        found = [(match["name"], match["value"]) for match in _FACT.finditer(self.prompt or "")]
        return [(name, value) for name, value in found if name != "DECISION"]

    def order(self, reviewer: str, seed: int) -> tuple[str, str]:
        """The sides in the order this reviewer sees them: random, but the same after a reload."""
        digest = hashlib.sha256(f"{seed}\0{reviewer}\0{self.key}".encode()).digest()
        return ("active", "shadow") if digest[0] & 1 else ("shadow", "active")


def load_sample(config: Config, run: RunFolder, *, prompts: bool = True) -> list[Item]:
    """The items to review: `evaluation/review_sample.jsonl`, or drawn from the replay's journal.

    Args:
        config: gives the sample's size, the seed, and the candles prompts are rendered from.
        run: whose replay.
        prompts: False leaves out prompts that are not in the rows, since rendering them takes seconds.

    Raises:
        InputError: neither file exists, or no row has reasons of both models.
    """
    written = run.review_sample
    journal = run.journal
    if written.is_file():
        rows, source = _written_rows(written), written
    elif journal.is_file():
        rows, source = list(read_rows(journal)), journal
    else:
        raise InputError(f"{journal}: no such file; run `candletune replay` first")
    usable = [row for row in rows if all(_reason(row, side) for side in SIDES)]
    if not usable:
        raise InputError(f"{source}: no row has reasons of both models; replay with --set replay.reasons=50")
    usable.sort(key=lambda row: (row["timestamp"], row["ticker"]))
    chosen = random.Random(config.seed).sample(usable, min(len(usable), config.review.items))  # noqa: S311 - a sample
    rendered = _prompts(config, [row for row in chosen if not row.get("prompt")]) if prompts else {}
    return [_item(row, rendered) for row in chosen]


def _written_rows(path: Path) -> list[dict[str, Any]]:
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


def _reason(row: Mapping[str, Any], side: str) -> str:
    answer = row[side]
    return str(answer.get("reasoning") or "").strip() if answer.get("action") else ""


def _item(row: Mapping[str, Any], prompts: Mapping[str, str]) -> Item:
    reasons = {side: _reason(row, side) for side in SIDES}
    mark = "\0".join((row["ticker"], row["timestamp"], *reasons.values()))
    return Item(
        key=hashlib.sha256(mark.encode()).hexdigest()[:16],
        ticker=row["ticker"],
        timestamp=row["timestamp"],
        price=float(row.get("price") or 0.0),
        prompt=row.get("prompt") or prompts.get(row.get("prompt_sha256", "")),
        reasons=reasons,
        actions={side: row[side]["action"] for side in SIDES},
        adapters={side: row[side].get("adapter_sha256") for side in SIDES},
    )


def _prompts(config: Config, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Prompts by hash, rendered anew from the candles; a row whose prompt comes out different gets none."""
    if not rows:
        return {}
    from candletune.dataset import decision_rows

    times = [parse_time(row["timestamp"]) for row in rows]
    try:
        frame = decision_rows(config, start=min(times), end=max(times) + timedelta(microseconds=1))
    except InputError:
        return {}
    wanted = {row["prompt_sha256"] for row in rows}
    return {
        digest: prompt for digest, prompt in frame.select("prompt_sha256", "prompt").iter_rows() if digest in wanted
    }
