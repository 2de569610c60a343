"""A simulated market's files, and what nobody can beat on it."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.config import Config, SimulateConfig, timeframe_minutes
from candletune.console import Reporter
from candletune.errors import UsageError
from candletune.files import atomic_folder, make_folder, read_json, write_bytes, write_json
from candletune.hashes import fingerprint
from candletune.market.candles import ticker_of
from candletune.market.event_kinds import event_kinds
from candletune.market.simulate import (
    FloatArray,
    Market,
    continued,
    drawn_states,
    filtered_regimes,
    pair_seed,
    simulate,
    to_candles,
)
from candletune.market.simulate_news import (
    EVENT_DRIFT,
    PHASE_DIRECTION,
    Law,
    News,
    event_drift,
    filtered_events,
    next_phases,
    simulate_news,
)
from candletune.runs import RunFolder

VERSION: Final = 1
HEADLINES: Final = "headlines.csv"
EVENTS: Final = "events.csv"
MARKER: Final = "simulated.json"
_START_PRICES = {"BTC": 30_000.0, "ETH": 2_000.0}
_NEWS_SEED = 900
"""Pairs have 1000 and above: news is the same for all of them."""


def news_of(config: Config) -> News | None:
    """The market's news; None where it has none."""
    settings = config.simulate
    return simulate_news((config.seed, _NEWS_SEED), settings.hours, settings.unseen) if settings.news else None


def market_of(config: Config, index: int, news: News | None) -> Market:
    """One pair's market."""
    settings = config.simulate
    events = None if news is None else event_drift(news, settings.news)
    return simulate(pair_seed(config.seed, index), settings.hours, settings.signal, settings.turn, events)


def reading(config: Config, folder: Path) -> Config:
    """The configuration that reads a simulated market's files, and keeps its unseen wordings for the replay."""
    data: dict[str, object] = {"folder": folder}
    changed: dict[str, object] = {}
    if config.simulate.news:
        if config.data.headlines is None:
            data["headlines"] = folder / HEADLINES
            if "headline_repeat_hours" not in config.data.model_fields_set:
                data["headline_repeat_hours"] = 0  # here a story told again says that its event goes on
        if config.dataset.test_start is None:
            start = config.simulate.unseen_from
            changed["dataset"] = config.dataset.model_copy(update={"test_start": start})
    return config.model_copy(update={"data": config.data.model_copy(update=data), **changed})


def ensure_simulated(config: Config, run: RunFolder, reporter: Reporter) -> Path:
    """Write every pair's candles into the run folder unless they are there already; returns the data folder."""
    folder = run.candles
    marker = folder / MARKER
    if marker.exists() and read_json(marker).get("fingerprint") == _digest(config):
        return folder
    with atomic_folder(folder) as temporary:
        write_market(config, temporary)
    told = f", news {config.simulate.news:g}" if config.simulate.news else ""
    reporter.say(
        f"simulated {config.simulate.hours} hours of {len(config.data.pairs)} pairs, signal "
        f"{config.simulate.signal:g}{told}"
    )
    return folder


def _digest(config: Config) -> str:
    return fingerprint([VERSION, config.seed, _facts(config.simulate), config.data.pairs, config.data.timeframe])


def _facts(settings: SimulateConfig) -> dict[str, object]:
    """The market's settings; those of news where it has any, so that a market without is the one it always was."""
    facts: dict[str, object] = settings.model_dump(mode="json")
    return facts if settings.news else {key: facts[key] for key in facts if key not in ("news", "unseen")}


def write_market(config: Config, folder: Path) -> None:
    """Every pair's candles below `futures/`, and with news `headlines.csv` and the hidden `events.csv`.

    Args:
        config: the market's settings.
        folder: empty, new, or a simulated market's.

    Raises:
        UsageError: the timeframe is not an hour, or the folder holds something else, which might be real candles.
    """
    if not (folder / MARKER).is_file() and folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder}: holds files that are no simulated market; name a new folder with --output")
    if timeframe_minutes(config.data.timeframe) != 60:
        raise UsageError(f"data.timeframe: simulated markets are hourly, got {config.data.timeframe}; set it to 1h")
    start = config.simulate.start
    assert start is not None  # noqa: S101
    make_folder(folder / "futures")
    news = news_of(config)
    for index, pair in enumerate(config.data.pairs):
        market = market_of(config, index, news)
        price = _START_PRICES.get(ticker_of(pair), 100.0)
        stem = pair.replace("/", "_").replace(":", "_")
        candles = to_candles(market, start=start, price=price, seed=pair_seed(config.seed, index))
        candles.write_ipc(folder / "futures" / f"{stem}-1h-futures.feather", compression="lz4")
    if news is not None:
        write_bytes(folder / HEADLINES, headline_file(config, news))
        write_bytes(folder / EVENTS, _event_file(config, news))
    write_json(folder / MARKER, {"fingerprint": _digest(config), **_facts(config.simulate)})


def headline_file(config: Config, news: News) -> bytes:
    """The headlines as csv; `subject` is the kind of what is told, which no prompt shows."""
    kinds = event_kinds().kind
    moods = pl.when(pl.col("polarity") > 0).then(pl.lit("positive")).when(pl.col("polarity") < 0)
    at = _iso(pl.lit(config.simulate.start) + pl.duration(hours="hour", minutes="minute"))
    table = news.headlines.select(
        published_at=at,
        seen_at=at,
        subject=pl.col("kind").replace_strict(list(range(len(kinds))), [kind.name for kind in kinds]),
        sentiment=moods.then(pl.lit("negative")).otherwise(pl.lit("neutral")),
        polarity="polarity",
        source="source",
        title="title",
    )
    return table.write_csv().encode()


def _event_file(config: Config, news: News) -> bytes:
    """By hour: which event was on, and where it moved the price."""
    names = [*(kind.name for kind in event_kinds().kind), ""]
    start = config.simulate.start
    assert start is not None  # noqa: S101
    table = pl.DataFrame(
        {
            "date": [start + timedelta(hours=hour) for hour in range(len(news.phase))],
            "event": [names[kind] for kind in news.kind],
            "direction": PHASE_DIRECTION[news.phase],
        }
    ).with_columns(date=_iso(pl.col("date")))
    return table.write_csv().encode()


def _iso(time: pl.Expr) -> pl.Expr:
    return time.dt.strftime("%Y-%m-%dT%H:%M:%S+00:00")


# --- the best attainable ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attainable:
    """What nobody can beat on this market, as fractions.

    Attributes:
        balanced: mean recall over the three classes of the best classifier of balanced classes.
        signals: share of its BUY and SELL signals followed by a move beyond `move` in their direction.
        natural_prior: class shares (BUY, SELL, HOLD) in this market.
        without_text: `balanced` of the best that reads no headline; None: there are none.
        chance: what a coin gives for `balanced`.
    """

    balanced: float
    signals: float
    natural_prior: tuple[float, float, float]
    without_text: float | None = None
    chance: float = 1 / 3


def best_attainable(config: Config, *, times: int = 2000, paths: int = 400) -> Attainable:
    """The best attainable accuracy of the configured market, by filter and simulated futures (standard error < 1 %)."""
    news = news_of(config)
    each = min(times // len(config.data.pairs), config.simulate.hours - 200)
    markets = [market_of(config, index, news) for index in range(len(config.data.pairs))]
    at = np.linspace(200, config.simulate.hours - 1, each).astype(np.int64)
    best = _best([knows(config, market, news, at, paths=paths) for market in markets], config)
    if news is None:
        return best
    deaf = _best([knows(config, market, news, at, paths=paths, reads=False) for market in markets], config)
    return Attainable(best.balanced, best.signals, best.natural_prior, deaf.balanced)


def knows(
    config: Config,
    market: Market,
    news: News | None,
    at: NDArray[np.int64],
    *,
    paths: int = 400,
    reads: bool = True,
) -> FloatArray:
    """Simulated returns over the horizon from each hour in `at`, (n, paths), by all that is known then.

    Args:
        config: horizon, seed and how strongly what moves the price.
        market: one pair's.
        news: of all pairs; None: there is none.
        at: hours.
        paths: futures of each hour.
        reads: whether headlines are known too.
    """
    horizon, signal, rng = config.labels.horizon, config.simulate.signal, np.random.default_rng(config.seed)
    if news is None:
        state = drawn_states(filtered_regimes(market, signal)[at], paths, rng)
        return continued(market, state, at, signal=signal, events=np.zeros(horizon), rng=rng)
    beliefs = filtered_events(market, news, Law(signal, config.simulate.news), reads=reads)
    state = drawn_states(beliefs[at].reshape(len(at), -1), paths, rng)
    phase, events = state // 3, np.zeros((horizon, *state.shape))
    for hour in range(horizon):
        phase = next_phases(phase, rng)
        events[hour] = config.simulate.news * EVENT_DRIFT * PHASE_DIRECTION[phase]
    return continued(market, state % 3, at, signal=signal, events=events, rng=rng)


def class_chances(futures: FloatArray, threshold: float) -> FloatArray:
    """Chances (n, 3) of BUY, SELL and HOLD, from simulated returns (n, paths)."""
    up, down = (futures > threshold).mean(axis=1), (futures < -threshold).mean(axis=1)
    return np.stack([up, down, 1 - up - down], axis=1)


def _best(futures: list[FloatArray], config: Config) -> Attainable:
    """Chosen by one half of the futures and counted by the other: where chances hardly differ between hours, those that
    chose would count the luck of the draw (without news, all of them are used for both, as they always were)."""
    half = futures[0].shape[1] // 2 if config.simulate.news else 0
    chosen, p = (
        np.concatenate([class_chances(found[:, part], config.labels.threshold) for found in futures])
        for part in (slice(half, None), slice(None, half or None))
    )
    m = np.concatenate([class_chances(found[:, : half or None], config.evaluate.move) for found in futures])[:, :2]
    prior = p.mean(axis=0)
    choice = (chosen / prior).argmax(axis=1)
    recall = [p[choice == k, k].sum() / p[:, k].sum() for k in range(3)]
    acted = choice < 2
    hits = m[np.flatnonzero(acted), choice[acted]]
    return Attainable(
        balanced=float(np.mean(recall)),
        signals=float(hits.mean()) if len(hits) else 0.0,
        natural_prior=(float(prior[0]), float(prior[1]), float(prior[2])),
    )
