"""A simulated market's news: hidden events that move the price, the headlines that tell of them, and an exact filter.

At most one event is on at a time, the same for every pair. It is announced first (mean `LAG` hours, nothing moves);
then the price jumps its way (mean `LAST` hours), so that waiting for the price is too late. While it is on, each hour
may bring a headline of its kind, so the first one comes with a delay. Beside them stand false rumours (of a kind that
is not on), what moves nothing, and repeats, hours later and perhaps when it is over. Behind `turn` every wording is
new, and half of the kinds are.

Because the law is known, so is what a perfect reader knows: the forward filter (Hamilton 1989) over event, its kind and
the regime, from a pair's returns and every headline's time and kind. Repeats say nothing that it does not know.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.market.event_kinds import event_kinds
from candletune.market.simulate import DWELL, TAIL, FloatArray, Market, next_regime, regime_drift

RATE: Final = 1 / 30
"""Chance an hour that an event begins where none is on."""
LAG: Final = 8.0
LAST: Final = 1.5
"""Mean hours of its two phases."""
EVENT_DRIFT: Final = 0.04
"""Hourly drift while the price moves, at full strength."""
TOLD_ANNOUNCED, TOLD_MOVING, FALSE, IDLE = 0.6, 0.6, 0.01, 0.12
"""Chance an hour of a headline of the event, of a false rumour, and of one that moves nothing."""
REPEATED: Final = 0.25
LATEST_REPEAT: Final = 6
"""Share of the headlines that are told again, and at most how many hours later."""
VERBATIM: Final = 0.5
NO_EVENT, ANNOUNCED_UP, MOVING_UP, ANNOUNCED_DOWN, MOVING_DOWN = range(5)
PHASE_DIRECTION: Final = np.array([0, 0, 1, 0, -1])
"""Where the price drifts in each phase."""
TONE_NOISE: Final = 0.1
_SOURCES = ("CoinWire", "BlockPost", "Daily Ledger", "ChainNews")
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class News:
    """What happened, and what was told.

    Attributes:
        phase: by hour, (hours,), 0 to 4 as named above.
        kind: index of the event's kind by hour, (hours,); -1: none is on.
        headlines: `hour`, `minute`, `kind`, `repeat` (told before), `title`, `polarity`, `source`, in order of time.
        turn: the first hour of the test period.
    """

    phase: Ints
    kind: Ints
    headlines: pl.DataFrame
    turn: int


def pool(after: bool) -> FloatArray:
    """Chance of each kind (60,) that an event which begins is of it; each direction half."""
    kinds = event_kinds().kind
    there = np.array([kind.direction if after or not kind.is_new else 0 for kind in kinds])
    chances: FloatArray = sum((there == way) / (2 * max(1, (there == way).sum())) for way in (1, -1))
    return chances


def simulate_news(seed: tuple[int, ...], hours: int, turn: float) -> News:
    """Draw events and headlines of `hours` hours.

    Args:
        seed: of every draw.
        hours: how many.
        turn: share of the hours behind which wordings are new and half of the kinds.
    """
    turned = round(turn * hours)
    phase, kind = _events(np.random.default_rng((*seed, 1)), hours, turned)
    rng = np.random.default_rng((*seed, 2))
    told = _told(rng, phase, kind, turned)
    return News(phase, kind, _headlines(rng, told, hours, turned), turned)


def _events(rng: np.random.Generator, hours: int, turned: int) -> tuple[Ints, Ints]:
    draw, choice = rng.random(hours), rng.random(hours)
    directions = [kind.direction for kind in event_kinds().kind]
    edges = {after: np.cumsum(pool(after)) for after in (False, True)}
    phase, kind = np.zeros(hours, dtype=np.int64), np.full(hours, -1, dtype=np.int64)
    now, what = NO_EVENT, -1
    for hour in range(hours):
        if now == NO_EVENT and draw[hour] < RATE:
            what = int(np.searchsorted(edges[hour >= turned], choice[hour], side="right"))
            now = ANNOUNCED_UP if directions[what] > 0 else ANNOUNCED_DOWN
        elif now in (ANNOUNCED_UP, ANNOUNCED_DOWN) and draw[hour] < 1 / LAG:
            now += 1
        elif now in (MOVING_UP, MOVING_DOWN) and draw[hour] < 1 / LAST:
            now, what = NO_EVENT, -1
        phase[hour], kind[hour] = now, what
    return phase, kind


def _told(rng: np.random.Generator, phase: Ints, kind: Ints, turned: int) -> list[tuple[int, int]]:
    """Hour and kind of every headline that is no repeat."""
    hours = len(phase)
    chance = np.array([0.0, TOLD_ANNOUNCED, TOLD_MOVING, TOLD_ANNOUNCED, TOLD_MOVING])[phase]
    of_event, false, idle = rng.random(hours) < chance, rng.random(hours) < FALSE, rng.random(hours) < IDLE
    kinds = event_kinds().kind
    edges = {after: np.cumsum(pool(after)) for after in (False, True)}
    quiet = {a: [n for n, k in enumerate(kinds) if k.direction == 0 and (a or not k.is_new)] for a in (False, True)}
    rows = []
    for hour in np.flatnonzero(of_event | false | idle).tolist():
        after = hour >= turned
        if of_event[hour]:
            rows.append((hour, int(kind[hour])))
        if false[hour]:
            rows.append((hour, int(np.searchsorted(edges[after], rng.random(), side="right"))))
        if idle[hour]:
            rows.append((hour, quiet[after][int(rng.integers(len(quiet[after])))]))
    return rows


def _headlines(rng: np.random.Generator, told: list[tuple[int, int]], hours: int, turned: int) -> pl.DataFrame:
    """Every headline with its words, its polarity and its minute; some told again later."""
    found = event_kinds()
    rows: list[tuple[int, int, int, bool, str]] = []
    for hour, number in told:
        text = found.word(found.kind[number], hour >= turned, rng)
        rows.append((hour, int(rng.integers(60)), number, False, text))
        later = hour + int(rng.integers(1, LATEST_REPEAT + 1))
        if rng.random() < REPEATED and later < hours:
            verbatim = rng.random() < VERBATIM and (later >= turned) == (hour >= turned)
            again = text if verbatim else found.word(found.kind[number], later >= turned, rng)
            rows.append((later, int(rng.integers(60)), number, True, again))
    tones = np.array([found.kind[row[2]].tone for row in rows])
    heard = tones + rng.normal(0, TONE_NOISE, len(rows))
    frame = pl.DataFrame(rows, orient="row", schema=_SCHEMA).with_columns(
        polarity=pl.Series(np.clip(heard, -1, 1).round(2)),
        source=pl.Series([_SOURCES[k] for k in rng.integers(len(_SOURCES), size=len(rows))], dtype=pl.String),
    )
    return frame.sort("hour", "minute", "title")


_SCHEMA = {"hour": pl.Int64, "minute": pl.Int64, "kind": pl.Int64, "repeat": pl.Boolean, "title": pl.String}


def event_drift(news: News, strength: float) -> FloatArray:
    """What the events add to each hour's return, (hours,)."""
    drift: FloatArray = strength * EVENT_DRIFT * PHASE_DIRECTION[news.phase]
    return drift


# --- what a perfect reader knows -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Law:
    """How strongly regimes (`signal`) and events (`strength`) move the price, each from 0 to 1."""

    signal: float
    strength: float


def filtered_events(market: Market, news: News, law: Law, *, reads: bool) -> FloatArray:
    """P(phase, regime | a pair's returns so far, and what was told), (hours, 5, 3).

    Args:
        market: the pair's returns.
        news: its times and kinds of headlines are read; where `reads` is false, the period's turn at most.
        law: how the price moves.
        reads: whether headlines are read at all.
    """
    hours = len(market.returns)
    likely, fresh = _return_likelihood(market, law), next_regime(market.level)
    directions = np.array([kind.direction for kind in event_kinds().kind])
    moving = np.flatnonzero(directions)  # the kinds that move the price, (kinds,)
    up = directions[moving] > 0
    pools = [pool(after)[moving] for after in (False, True)]
    told = _kinds_told(news, moving) if reads else {}
    none, announced, moved = np.full(3, 1 / 3), np.zeros((len(moving), 3)), np.zeros((len(moving), 3))
    beliefs = np.empty((hours, 5, 3))
    for hour in range(hours):
        chances = pools[hour >= news.turn]
        ended = moved.sum(axis=0) / LAST
        moved = moved * (1 - 1 / LAST) + announced / LAG
        announced = announced * (1 - 1 / LAG) + chances[:, None] * (none * RATE)
        none = none * (1 - RATE) + ended
        joint = np.concatenate([none[None], announced, moved])
        joint = (1 - 1 / DWELL) * joint + joint.sum(axis=1, keepdims=True) * (fresh[hour] / DWELL)
        still, rising, falling = likely[hour]
        none, announced = joint[0] * still, joint[1 : 1 + len(moving)] * still
        moved = joint[1 + len(moving) :] * np.where(up[:, None], rising, falling)
        if reads:
            heard = told.get(hour, ())
            seen = (_told_likelihood(heard, chances, chance) for chance in (0.0, TOLD_ANNOUNCED, TOLD_MOVING))
            nothing, first, second = seen
            none, announced, moved = none * nothing[0], announced * first[:, None], moved * second[:, None]
        total = none.sum() + announced.sum() + moved.sum()
        none, announced, moved = none / total, announced / total, moved / total
        parts = (none, announced[up].sum(0), moved[up].sum(0), announced[~up].sum(0), moved[~up].sum(0))
        beliefs[hour] = parts
    return beliefs


def _return_likelihood(market: Market, law: Law) -> FloatArray:
    """Of each hour's return, by where events (0, up, down) and regimes drift: (hours, 3, 3), up to a factor."""
    events = law.strength * EVENT_DRIFT * np.array([0.0, 1.0, -1.0])
    drift = events[:, None] + regime_drift(market, law.signal)[:, None, :]
    z = (market.returns[:, None, None] - drift) / market.sigma[:, None, None] / np.sqrt((TAIL - 2) / TAIL)
    likelihood: FloatArray = (1 + z**2 / TAIL) ** (-(TAIL + 1) / 2)
    return likelihood


def _kinds_told(news: News, moving: Ints) -> dict[int, tuple[int, ...]]:
    """By hour, places in `moving` of the kinds told of for the first time."""
    place = {int(kind): number for number, kind in enumerate(moving)}
    found: dict[int, tuple[int, ...]] = {}
    for hour, kind in news.headlines.filter(~pl.col("repeat")).select("hour", "kind").iter_rows():
        if kind in place:
            found[hour] = (*found.get(hour, ()), place[kind])
    return found


def _told_likelihood(heard: tuple[int, ...], chances: FloatArray, told: float) -> FloatArray:
    """Of an hour's headlines if an event of each kind were on, (kinds,): one of its own, a false one, both or none."""
    kinds = len(chances)
    if not heard:
        return np.full(kinds, (1 - told) * (1 - FALSE))
    if len(heard) == 1:
        likely = np.full(kinds, (1 - told) * FALSE * chances[heard[0]])
        likely[heard[0]] += told * (1 - FALSE)
        return likely
    likely = np.zeros(kinds)
    for own, other in (heard, heard[::-1]):
        likely[own] += told * FALSE * chances[other] * (0.5 if heard[0] == heard[1] else 1.0)
    return likely


def next_phases(phase: Ints, rng: np.random.Generator) -> Ints:
    """The phases an hour later, of any shape, drawn."""
    draw = rng.random(phase.shape)
    begins = np.where(draw < RATE / 2, ANNOUNCED_UP, np.where(draw < RATE, ANNOUNCED_DOWN, NO_EVENT))
    announced = (phase == ANNOUNCED_UP) | (phase == ANNOUNCED_DOWN)
    going_on = np.where(announced, phase + (draw < 1 / LAG), np.where(draw < 1 / LAST, NO_EVENT, phase))
    return np.where(phase == NO_EVENT, begins, going_on)
