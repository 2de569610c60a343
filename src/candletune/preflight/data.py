"""Checks of what is read: candles, the test period, context files, the template, the journal to be judged."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from candletune.config import Config
from candletune.dataset.coverage import coverage_problem, describe_counts, describe_coverage, headline_coverage
from candletune.dataset.pairs import check_tickers
from candletune.dataset.period import TestPeriod, find_test_period
from candletune.errors import CandletuneError
from candletune.fields.registry import EXAMPLE
from candletune.market.candles import load_candles
from candletune.market.sentiment import load_sentiment
from candletune.preflight.findings import Finding, check
from candletune.prompts.template import load_template

FEW_EXAMPLES = 5000
"""Decision times before the test period below which a model of this kind learns little."""
ROWS_OF_A_WEAK_SIGNAL = 2000
"""Held-out rows on which ten of ten models of a weak signal earned more than chance; seven of ten did on 500."""


def not_written_yet(config: Config) -> bool:
    """Whether the candles are simulated ones that no command has written so far."""
    return config.simulate.enabled and not config.data.folder.is_dir()


@check("candles", "dataset", "replay", "evaluate")
def candles(config: Config) -> Iterator[Finding]:
    """Every pair's file, read as the stages will read it."""
    check_tickers(config)
    if not_written_yet(config):
        yield Finding("ok", "candles", "simulated; written by the first command that needs them")
        return
    if not config.data.folder.is_dir():
        load_candles(config.data.folder, config.data.pairs[0], config.data.timeframe)
    for pair in config.data.pairs:
        try:
            frame = load_candles(config.data.folder, pair, config.data.timeframe).frame
        except CandletuneError as error:
            yield Finding("problem", "candles", str(error))
            continue
        first, last = frame["date"][0], frame["date"][-1]
        yield Finding("ok", "candles", f"{pair}: {len(frame):,} from {first:%Y-%m-%d} to {last:%Y-%m-%d}")


def _period(config: Config) -> TestPeriod | None:
    """The test period; None while the candles themselves cannot be read, which `candles` says."""
    if not_written_yet(config):
        return None
    try:
        for pair in config.data.pairs:
            load_candles(config.data.folder, pair, config.data.timeframe)
    except CandletuneError:
        return None
    return find_test_period(config)


@check("test period", "dataset", "replay")
def test_period(config: Config) -> Iterator[Finding]:
    """`dataset.test_start` against the candles, and how much evidence the time behind it can give."""
    period = _period(config)
    if period is None:
        return
    yield Finding("ok", "test period", period.describe())
    yield from _replay_range(config, period)


def _replay_range(config: Config, period: TestPeriod) -> Iterator[Finding]:
    start, end = config.replay.start or period.start, config.replay.end or period.end
    if start >= period.end:
        text = f"replay.start: {_when(start)} is behind the last candle ({_when(period.end)}); set an earlier time"
        yield Finding("problem", "replay", text)
    elif end <= start:
        text = f"replay.end: {_when(end)} is not after {_when(start)}, where the replay starts; set a later time"
        yield Finding("problem", "replay", text, exit_code=2)
    elif not config.replay.force:
        yield from _overlap(config, period, start)
    effective = (min(end, period.end) - start) / config.horizon
    if 0 < effective < config.evaluate.min_effective:
        yield Finding(
            "warning",
            "replay",
            f"{_when(start)} to {_when(min(end, period.end))} holds {effective:.0f} independent outcomes of each "
            f"ticker, evaluate.min_effective wants {config.evaluate.min_effective}: the verdict may stay 'not enough "
            "evidence'; set dataset.test_start earlier",
        )


def _overlap(config: Config, period: TestPeriod, start: datetime) -> Iterator[Finding]:
    """The replay starts behind the last time that training may look at."""
    waits = config.horizon + config.candle * config.dataset.embargo
    last_decision = period.start - waits - config.candle
    # Outcome and embargo of the last decision reach this far; the replay refuses to begin before.
    if start < last_decision + waits:
        yield Finding(
            "problem",
            "replay",
            f"replay.start: {_when(start)} lies in what will be trained on (until {_when(last_decision)}), its "
            f"outcomes or the embargo; start at {_when(period.start)} or later, or set replay.force=true and have "
            "every row marked",
            exit_code=2,
        )


@check("training rows", "dataset", "train")
def training_rows(config: Config) -> Iterator[Finding]:
    """Roughly how many decision times lie before the test period, against what is asked for."""
    period = _period(config)
    if period is None:
        return
    rows = 0
    for pair in config.data.pairs:
        opened = load_candles(config.data.folder, pair, config.data.timeframe).frame["date"]
        early = opened + config.candle < period.start
        if config.dataset.train_start is not None:
            early &= opened >= config.dataset.train_start
        rows += int(early.sum())
    wanted = 3 * config.dataset.per_class
    text = f"about {rows:,} decision times before the test period for {wanted:,} examples"
    few = rows < min(wanted, FEW_EXAMPLES)
    remedy = "; give longer histories or lower dataset.per_class, since classes will be smaller than asked for"
    yield Finding("warning" if few else "ok", "training", text + (remedy if few else ""))


@check("context files", "dataset", "replay")
def context_files(config: Config) -> Iterator[Finding]:
    """Fear & Greed and headlines, read as the stages will read them."""
    sentiment = {"data.fear_greed": config.data.fear_greed, "data.headlines": config.data.headlines}
    read = load_sentiment(config.data)
    given = ", ".join(f"{path}" for path in sentiment.values() if path is not None)
    missing = ", ".join(key for key, path in sentiment.items() if path is None)
    yield Finding("ok", "context", f"{given or 'none'}" + (f"; neutral placeholders for {missing}" if missing else ""))
    for line in [] if read.counts is None else describe_counts(read.counts):
        yield Finding("ok", "headlines", line)
    try:
        period = _period(config)
    except CandletuneError:  # which the check of the test period says
        return
    covered = None if period is None else headline_coverage(config, period, read)
    if covered is not None:
        problem = coverage_problem(covered)
        yield Finding("warning" if problem else "ok", "headlines", problem or describe_coverage(covered))


@check("template", "dataset", "verify", "replay")
def template(config: Config) -> Iterator[Finding]:
    """The template, checked and tried with a context as a trader sends it."""
    loaded = load_template(config.prompt.template)
    loaded.render(EXAMPLE)
    yield Finding("ok", "template", f"{loaded.name}, {loaded.sha256[:12]}")


@check("held-out rows", "dataset", "train")
def held_out_rows(config: Config) -> Iterator[Finding]:
    """Under the utility the rows at the base rates say whether calls pay, and few of them say little."""
    rows = config.dataset.natural_eval
    decides = config.train.objective == "utility" and config.train.policy_steps and config.train.call_share is None
    if decides and rows < ROWS_OF_A_WEAK_SIGNAL:
        yield Finding(
            "warning",
            "held-out rows",
            f"dataset.natural_eval: {rows} held-out rows decide whether the adapter is taught to hold, and a weak "
            f"signal does not show in so few; {ROWS_OF_A_WEAK_SIGNAL} see more of it",
        )


@check("certificate", "verify")
def certificate_prompts(config: Config) -> Iterator[Finding]:
    """`verify` asks prompts of the natural eval sample."""
    if config.verify.prompts > config.dataset.natural_eval:
        yield Finding(
            "problem",
            "certificate",
            f"verify.prompts: {config.verify.prompts} held-out prompts are wanted, dataset.natural_eval keeps "
            f"{config.dataset.natural_eval}; raise the one or lower the other",
            exit_code=2,
        )


@check("journal", "evaluate")
def judged_journal(config: Config) -> Iterator[Finding]:
    """A journal of the user's own that is to be judged."""
    path = config.evaluate.journal
    if path is not None and not path.is_file():
        text = f"evaluate.journal: {path}: no such file; correct the path, or unset it to judge the replay's"
        yield Finding("problem", "journal", text)


@check("age")
def age(config: Config) -> Iterator[Finding]:
    """Candles that ended long ago."""
    period = _period(config)
    if period is None or config.simulate.enabled:
        return
    behind = datetime.now(period.end.tzinfo) - period.end
    if behind > timedelta(days=30):
        text = f"the newest candle closed {behind.days} days ago; `candletune fetch candles` brings what is missing"
        yield Finding("warning", "candles", text)


def _when(time: datetime) -> str:
    return f"{time:%Y-%m-%d}" if time.hour == time.minute == 0 else f"{time:%Y-%m-%d %H:%M}"
