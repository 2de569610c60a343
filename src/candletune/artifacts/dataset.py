"""`dataset/manifest.json` and `audit/audit.json`: how a dataset was made, and whether it is what it says."""

from collections.abc import Mapping
from typing import ClassVar

from candletune.artifacts.base import Artifact, Moment, Record
from candletune.artifacts.headlines import HeadlineCoverage
from candletune.config import LabelsConfig
from candletune.decisions import Decision

Shares = Mapping[Decision, float]
"""Class -> share of the rows."""


class CandidateRows(Record):
    """Decision times that may become examples, before balancing.

    Attributes:
        rows: how many.
        BUY: share of them labelled so; the other two likewise.
    """

    rows: int
    BUY: float
    SELL: float
    HOLD: float

    def share(self, label: Decision) -> float:
        """Share of one class."""
        share: float = getattr(self, label)
        return share


class Candidates(Record):
    """All decision times that may become examples.

    Attributes:
        rows: how many.
        purged: left out between train and eval.
        by_asset: ticker -> its rows.
        by_timeframe: candle length -> its rows.
        by_month: `2024-06` -> its rows.
    """

    rows: int
    purged: int
    by_asset: Mapping[str, CandidateRows]
    by_timeframe: Mapping[str, CandidateRows] = {}
    by_month: Mapping[str, CandidateRows]


class CandleFile(Record):
    """What reading one pair's candles of one timeframe found.

    Attributes:
        file: name of the file; the shorter timeframe's where there is no own one.
        rows: candles.
        reordered: rows that went back in time; mended.
        duplicates: equal rows; mended.
        gaps: stretches of missing candles.
        missing_candles: candles missing in them.
        zero_volume: candles without volume.
        labelled: decision times with indicators and a label.
        resampled: candles made from those of the shorter timeframe.
    """

    file: str
    rows: int
    reordered: int
    duplicates: int
    gaps: int
    missing_candles: int
    zero_volume: int
    labelled: int
    resampled: int = 0


class SplitSizes(Record):
    """Examples of each split, and eval rows at the base rates."""

    train: int
    eval: int
    natural_eval: int


class DatasetDescription(Record):
    """What can be said of a dataset without its candles.

    Attributes:
        examples: how many.
        effective_per_asset: independent ones, counted within each asset (average uniqueness).
        effective_pooled: the same when assets that move together count once.
        train_rows_overlapping_eval: train rows whose outcome window shares a candle with an eval row's.
        nearest_train_eval_hours: between a train and an eval decision; None when one of the splits is empty.
        duplicate_prompts: prompts that occur before in the file.
        by_asset: ticker -> class -> examples.
        by_month: `2024-06` -> class -> examples.
    """

    examples: int
    effective_per_asset: float
    effective_pooled: float
    train_rows_overlapping_eval: int
    nearest_train_eval_hours: float | None
    duplicate_prompts: int
    by_asset: Mapping[str, Mapping[str, int]]
    by_month: Mapping[str, Mapping[str, int]]


class DatasetAudit(DatasetDescription, Artifact):
    """`audit/audit.json`.

    Attributes:
        rebuilt: rows made again from candles and context cut at their decision time.
        problems: what differs, a line each.
        clean: nothing differs.
        jsonl_sha256: hash of the file that was audited.
    """

    COMMAND: ClassVar[str] = "dataset --audit 300"

    rebuilt: int
    problems: tuple[str, ...]
    clean: bool
    jsonl_sha256: str


class FieldRange(Record):
    """What the train examples of one ticker had under a context key.

    Attributes:
        rows: examples.
        missing: share of them that had no value, or nothing but its neutral placeholder.
        low, high: all but one in a thousand of the numbers lie between them; None where it holds no numbers.
    """

    rows: int
    missing: float
    low: float | None = None
    high: float | None = None


class DatasetFacts(Record):
    """How a dataset was made, but for the long tables.

    Attributes:
        headline: one line for a person.
        template_sha256: hash of the prompt template.
        counts: class -> examples.
        split: examples of each split.
        eval_boundary: when the eval period begins; None: a random split.
        first_decision: of the examples.
        last_decision: of the examples and the natural eval rows.
        train_end: when the last outcome was known; nothing later was learned.
        class_prior: class shares of the train examples.
        natural_prior: base rates of the train period, before balancing.
        largest_template_share: of one reason template among its class.
        problems: what falls short of the settings, a line each.
        label: the labelling rule.
        seed: of the draw.
        candles: ticker (and timeframe, beyond the shortest) -> what reading its file found.
        test_start: decisions from then on are kept out for the replay; None in a file of an earlier candletune.
        test_start_default: it was not configured.
        candles_until: close of the newest candle that was there; None in a file of an earlier candletune.
        test_share: share of the candles kept out.
        context_sources: context file -> share of the train examples it told something about; None in a file of an
            earlier candletune.
        inputs: ticker -> context key -> what the train examples had; empty in a file of an earlier candletune.
        jsonl_sha256: hash of the examples' file.
    """

    headline: str
    template_sha256: str
    counts: Mapping[Decision, int]
    split: SplitSizes
    eval_boundary: Moment | None
    first_decision: Moment
    last_decision: Moment
    train_end: Moment
    class_prior: Shares
    natural_prior: Shares
    largest_template_share: float
    problems: tuple[str, ...]
    label: LabelsConfig
    seed: int
    candles: Mapping[str, CandleFile]
    test_start: Moment | None = None
    test_start_default: bool = False
    candles_until: Moment | None = None
    test_share: float | None = None
    context_sources: Mapping[str, float] | None = None
    inputs: Mapping[str, Mapping[str, FieldRange]] = {}
    jsonl_sha256: str


class DatasetManifest(DatasetFacts, Artifact):
    """`dataset/manifest.json`.

    Attributes:
        candidates: every decision time that could have been chosen.
        audit: overlap, effective sample size and duplicates.
        headlines: what became of their records, and how much of the time they cover; None without, and in a file of an
            earlier candletune.
    """

    COMMAND: ClassVar[str] = "dataset --force"

    candidates: Candidates
    audit: DatasetDescription
    headlines: HeadlineCoverage | None = None
