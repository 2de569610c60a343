"""The stage's work: choose, complete, render, check, write."""

import polars as pl

from candletune.config import Config
from candletune.console import Reporter
from candletune.dataset.coverage import describe_counts, describe_coverage, headline_coverage
from candletune.dataset.manifest import Made
from candletune.dataset.period import find_test_period
from candletune.dataset.render import drop_headlines, render_examples, warn_of_hidden_timeframe
from candletune.dataset.rows import complete_rows
from candletune.dataset.sampling import draw_sample, survey
from candletune.dataset.writing import write_dataset
from candletune.market.sentiment import load_sentiment
from candletune.prompts.template import load_template
from candletune.runs import RunFolder


def build(config: Config, run: RunFolder, reporter: Reporter) -> None:
    """Write the dataset folder.

    Raises:
        InputError: candles, context or template are missing or broken, or a class has no example.
        CheckFailed: a completion claims what is not true of its row.
    """
    template = load_template(config.prompt.template)
    if config.dataset.split == "random":
        reporter.warn(
            "dataset.split=random leaks: outcome windows of eval rows overlap those of train rows, so every eval "
            "figure is too good; use it for comparison only"
        )
    period = find_test_period(config)
    reporter.say(period.describe())
    config = config.model_copy(update={"dataset": config.dataset.model_copy(update={"test_start": period.start})})
    sentiment = load_sentiment(config.data)
    covered = headline_coverage(config, period, sentiment)
    for line in [] if covered is None else [*describe_counts(covered.counts), describe_coverage(covered)]:
        reporter.say(f"headlines: {line}")
    counted = survey(config, reporter)
    sample = draw_sample(config, counted, reporter)
    wanted = pl.concat([sample.chosen, sample.natural])
    complete = complete_rows(config, wanted, sentiment).with_columns(pl.col("label", "split").cast(pl.String))
    meta, natural = complete.head(len(sample.chosen)), complete.tail(len(sample.natural))
    meta = drop_headlines(meta, config)
    warn_of_hidden_timeframe(config, template, meta, reporter)
    prompts, completions, names = render_examples(meta, template, config.seed)
    meta = meta.with_columns(reason_template=pl.Series(names, dtype=pl.String))
    made = Made(template, period, counted, sample, meta, natural, prompts, completions, covered)
    manifest = write_dataset(run.dataset, config, made)
    for problem in manifest.problems:
        reporter.warn(problem)
