"""`coins/coins.json`: how a model does on a coin that its training never saw, coin by coin."""

from typing import ClassVar

from candletune.artifacts.base import Artifact, Record
from candletune.artifacts.metrics import Interval


class CoinSide(Record):
    """A model's figures on one coin.

    Attributes:
        folder: its run folder, relative to `coins/`.
        signals: BUY and SELL calls with a known outcome.
        accuracy_signals: share of them that was right; None without any.
        balanced_accuracy: mean recall of the three classes.
        log_loss: mean negative log probability of what happened, in nats.
    """

    folder: str
    signals: int
    accuracy_signals: float | None
    balanced_accuracy: float | None
    log_loss: float | None


class Coin(Record):
    """One coin.

    Attributes:
        pair, ticker: the coin.
        rows: decision times that both answered, with a known outcome.
        seen: of the training on all coins.
        unseen: of the training on all others.
        gain: BUY/SELL accuracy of `unseen` minus that of `seen`; of one look, over windows and months.
        log_score: mean log probability given to what happened, the same difference, in nats.
        p_value, adjusted: of the gain, two-sided; for all coins asked at once (Holm 1979).
        finding: what that says, or why the two can't be compared.
    """

    pair: str
    ticker: str
    rows: int
    seen: CoinSide
    unseen: CoinSide
    gain: Interval
    log_score: Interval
    p_value: float | None
    adjusted: float | None
    finding: str


class Coins(Artifact):
    """Every coin left out of training in turn.

    Attributes:
        model: `llm`, or `boosting` that stood in for it.
        test_start: decisions from then on were asked about; ISO 8601 in UTC.
        confidence: of the intervals.
        coins: in the order of `data.pairs`.
    """

    COMMAND: ClassVar[str] = "coins"

    model: str
    test_start: str
    confidence: float
    coins: tuple[Coin, ...]
