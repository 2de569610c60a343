"""`evaluation/metrics.json`: everything that was measured on a journal."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from candletune.artifacts.base import Artifact, Record
from candletune.artifacts.replay_control import ReplayControl
from candletune.decisions import Decision


class Interval(Record):
    """An estimate with its interval; None where it is undefined (no signals, say)."""

    value: float | None
    low: float | None
    high: float | None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Both ends, when both are known."""
        return None if self.low is None or self.high is None else (self.low, self.high)


class CalibrationPoint(Record):
    """Rows of one confidence bin: their mean confidence and the share that was right."""

    confidence: float
    accuracy: float
    rows: int


class Equity(Record):
    """Acting on the decisions, after fees; shares of the capital."""

    net_return: float
    buy_and_hold: float
    max_drawdown: float
    turnover: float


class SideMetrics(Record):
    """One model's metrics; whatever is scored, on rows that both models answered.

    Attributes:
        rows: of the journal.
        pending: rows without an outcome yet.
        status: rows by status (ok, invalid, skipped, error).
        coverage: share of rows answered.
        shares: share of each decision among the answers.
        signals: BUY and SELL decisions with a known outcome.
        accuracy_signals: share of them that were right.
        accuracy_all: share of all answers with a known outcome that were right.
        direction: share of the signals whose price moved the called way at all.
        mean_signed_return: mean return in the called direction, a fraction.
        flip_rate: share of consecutive decisions of a ticker that differ.
        confusion: rows are outcomes, columns decisions, both BUY, SELL, HOLD.
        recall, precision: by decision; None where nothing would count.
        balanced_accuracy: mean recall of the classes that occurred.
        brier: sum over the classes of the labels' own rule (Brier 1950); 0 is perfect, 2/3 knows nothing.
        log_loss: mean negative log probability of what happened, natural logarithm.
        calibration: by confidence bin.
        calibration_error: mean distance of confidence and accuracy, by the labels' own rule.
        calibration_chance: what exact probabilities would show on as many independent rows.
        calibration_regimes: the error by regime.
        latency_ms: mean milliseconds a decision.
    """

    rows: int
    pending: int
    status: Mapping[str, int]
    coverage: float
    shares: Mapping[Decision, float]
    signals: int
    accuracy_signals: float | None
    accuracy_all: float | None
    direction: float | None
    mean_signed_return: float | None
    flip_rate: float | None
    confusion: tuple[tuple[int, ...], ...]
    recall: Mapping[Decision, float | None]
    precision: Mapping[Decision, float | None]
    balanced_accuracy: float | None
    brier: float | None
    log_loss: float | None
    calibration: tuple[CalibrationPoint, ...]
    calibration_error: float | None
    equity: Equity
    latency_ms: float | None
    calibration_chance: float | None = None
    calibration_regimes: Mapping[str, float] = {}


class Comparison(Record):
    """The candidate against the incumbent, paired in time, on rows that both answered.

    An interval "at every look" misses the truth at some look, at either end, with a chance of `alpha`, however often
    one looks and whatever the regimes; the others hold at one look, with `evaluate.confidence`.

    Attributes:
        accuracy_signals: the gain in BUY/SELL accuracy.
        sides: each side's own BUY/SELL accuracy.
        standard_error: of the gain, knowing the overlap.
        sequential: the gain at every look.
        beyond_chance: the gain in graded accuracy beyond a coin at the same hours, free of drift, at every look.
        direction: the candidate's mean return in the called direction minus the period's mean, each counted up to
            `evaluate.move`, at every look.
        signed_return: the candidate's mean return in the called direction as it is.
        flips: relative increase of the flip rate; unknown where the incumbent never flips, or acts in less than a tenth
            of the candidate's calls.
        net_return: what acting on the candidate earned more, over the whole time, after fees and funding; at every look
            with an error of 2 (1 - `evaluate.confidence`).
        drawdown: maximum drawdown of the capital by side, and of `holding`.
        log_score: mean log probability of the outcome's class, candidate minus incumbent, at every look.
        against: `incumbent`, or `coin` where the incumbent acts so seldom that its accuracy cannot be known.
        effective: independent observations the gain rests on.
        overlap: later decision times whose windows share candles with one.
        block: mean length of a bootstrap block, in decision times (the baselines' intervals).
        days: from the first decision time with an outcome to the last.
        days_needed: days until the models could be told apart, if gain and noise stay; None: never, or unknown.
        agreement: share of rows both answered on which they agree.
        coverage: share of rows both answered.
        windows: outcome windows that lie side by side without overlapping (None in a file of an earlier candletune).
        months: whole stretches of thirty days (None in a file of an earlier candletune).
        alpha: error that an end at every look may spend (None in a file of an earlier candletune).
        one_look: a registered replay: its bounds are those of one look.
    """

    accuracy_signals: Interval
    sides: Mapping[str, Interval]
    standard_error: float | None
    sequential: Interval
    beyond_chance: Interval
    direction: Interval
    signed_return: Interval
    flips: Interval
    net_return: Interval
    drawdown: Mapping[str, float]
    log_score: Interval
    against: Literal["incumbent", "coin"]
    effective: float
    overlap: int
    block: float
    days: float
    days_needed: float | None
    agreement: float | None
    coverage: float
    windows: float | None = None
    months: int | None = None
    alpha: float | None = None
    one_look: bool = False


class GroupSide(Record):
    """One model on a part of the rows."""

    signals: int
    accuracy_signals: float | None


class GroupMetrics(Record):
    """Both models on a ticker's, a month's or a regime's rows."""

    rows: int
    active: GroupSide
    shadow: GroupSide


class ShiftControl(Record):
    """BUY/SELL accuracy against outcomes shifted in time.

    Attributes:
        accuracy: unshifted.
        chance: mean under the shifts.
        low, high: 2.5 and 97.5 % points under the shifts.
        p_value: share of the shifts that do as well as the unshifted decisions.
        shifts: their number.
    """

    accuracy: float
    chance: float
    low: float
    high: float
    p_value: float
    shifts: int


class Wording(Record):
    """How many reasons a model wrote, and how many different ones."""

    written: int
    distinct: int


class Disagreement(Record):
    """A row on which the models differ."""

    timestamp: str
    ticker: str
    price: float
    active_action: Decision
    shadow_action: Decision
    forward_return: float | None
    active_reasoning: str | None
    shadow_reasoning: str | None


class LinesLeftOut(Record):
    """Lines of the journal that were left out."""

    torn: int
    broken: int
    duplicates: int


class RowsRemarked(Record):
    """Rows of the journal that count, and are remarkable; `moved` ones were not stamped with a candle's close."""

    out_of_order: int
    late: int
    moved: int = 0


class FalseClaim(Record):
    """A reason, and what in it is not true of its row."""

    reason: str
    claim: str


class SideGrounding(Record):
    """Whether one model's reasons are true.

    Attributes:
        reasons: held against their rows.
        checked: of these, with a claim that can be checked.
        true: of these, without a false claim.
        rate: true / checked, and its interval.
        claims: checkable claims in all.
        claims_true: share of them that hold.
        false: a few that do not.
    """

    reasons: int
    checked: int
    true: int
    rate: float | None
    interval: tuple[float, float] | None
    claims: int
    claims_true: float | None
    false: tuple[FalseClaim, ...]


class Grounding(Record):
    """Rows with a reason, and how many of their prompts could be rendered again."""

    rows: int
    matched: int
    active: SideGrounding
    shadow: SideGrounding


class BaselineMetrics(Record):
    """A baseline on the same rows, and the candidate's lead over it.

    Attributes:
        interval: of its own BUY/SELL accuracy.
        lead: the candidate's BUY/SELL accuracy minus its own, paired.
        p_value: how often such a lead comes of no true one; None where a side makes no call.
        adjusted: the same, all baselines asked at once (Holm 1979).
    """

    rows: int
    signals: int
    accuracy_signals: float | None
    accuracy_all: float | None
    balanced_accuracy: float | None
    mean_signed_return: float | None
    interval: Interval
    lead: Interval
    p_value: float | None = None
    adjusted: float | None = None


class Rate(Record):
    """A share over items with its interval; None without items."""

    rate: float | None
    interval: tuple[float, float]
    items: int


class Preference(Record):
    """Which reason reviewers preferred, in answers; and over items where a choice was made."""

    active: int
    shadow: int
    equal: int
    shadow_preferred: Rate


class ReviewerAgreement(Record):
    """Pairs of reviewers of one item: share of equal preferences, and Scott's pi (1955)."""

    pairs: int
    share: float
    pi: float | None


class ReviewSummary(Record):
    """What reviewers said of the reasons.

    Attributes:
        items: reviewed.
        sample: items that could be.
        reviews: complete ones.
        reviewers: their names.
        unblinded: reviews whose reviewer saw the decision.
        rates: share of full marks by side and quality.
        differences: candidate minus incumbent, by quality.
    """

    items: int
    sample: int
    reviews: int
    reviewers: tuple[str, ...]
    unblinded: int
    rates: Mapping[str, Mapping[str, Rate]]
    differences: Mapping[str, Interval]
    preference: Preference
    agreement: ReviewerAgreement | None


class Metrics(Artifact):
    """Everything measured on a journal. `active` is the incumbent, `shadow` the candidate.

    Attributes:
        tickers, months, regimes: the main numbers by group.
        controls: each side against shifted outcomes; None with too few rows or no signal.
        reasons: how many were written.
        disagreements: some rows on which the models differ, evenly spread.
        problems: lines left out.
        journal: rows that are remarkable.
        grounding: None when no reason was written, or the candles are gone.
        baselines: by name; empty when they were not asked for.
        reviews: None when nobody has finished one.
        control: PyTorch's decisions held against llama.cpp's; None: llama.cpp alone was asked.
    """

    VERSION: ClassVar[int] = 3
    COMMAND: ClassVar[str] = "evaluate"

    active: SideMetrics
    shadow: SideMetrics
    comparison: Comparison
    tickers: Mapping[str, GroupMetrics]
    months: Mapping[str, GroupMetrics]
    regimes: Mapping[str, GroupMetrics]
    controls: Mapping[str, ShiftControl | None]
    reasons: Mapping[str, Wording]
    disagreements: tuple[Disagreement, ...]
    problems: LinesLeftOut
    journal: RowsRemarked
    grounding: Grounding | None = None
    baselines: Mapping[str, BaselineMetrics] = {}
    reviews: ReviewSummary | None = None
    control: ReplayControl | None = None

    def side(self, name: str) -> SideMetrics:
        """`active` or `shadow`."""
        return self.active if name == "active" else self.shadow

    @classmethod
    def upgrade(cls, value: dict[str, Any], version: int) -> dict[str, Any]:
        """Version 1 called the control's `p_value` `as_good`; version 2 lacked what the comparison knows since 3."""
        controls = {
            side: control and {("p_value" if key == "as_good" else key): number for key, number in control.items()}
            for side, control in value.get("controls", {}).items()
        }
        return value | {"controls": controls, "comparison": _UNKNOWN | value.get("comparison", {})}


_NOTHING = {"value": None, "low": None, "high": None}
_UNKNOWN = {
    **dict.fromkeys(("beyond_chance", "direction", "flips", "net_return", "log_score"), _NOTHING),
    "drawdown": {},
    "against": "incumbent",
}
"""What a comparison of version 2 did not know."""
