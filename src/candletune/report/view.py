"""What the report page shows, by the names its template uses."""

from collections.abc import Mapping
from dataclasses import dataclass

from candletune.artifacts import AttainableScores, Certificate, DatasetManifest, Metrics, ReviewSummary
from candletune.artifacts.metrics import GroupMetrics
from candletune.config import Config
from candletune.dataset.card import DatasetCard
from candletune.evaluation.outcomes import ScoredRow
from candletune.report import sections
from candletune.report.figures import Figure
from candletune.report.methods import Method
from candletune.report.periods import PeriodRow
from candletune.report.provenance import Provenance
from candletune.report.trading import TradingView
from candletune.report.verdict import VerdictView


@dataclass(frozen=True)
class ReportContent:
    """Everything `report.html.j2` shows; the template uses these names.

    Attributes:
        title: of the page.
        run: the run folder's name.
        verdict: the badge, the sentence and every criterion.
        metrics: the numbers behind it.
        config: the configuration.
        names: side -> how the page calls it, with the model's name.
        lead: the page's first sentence after the verdict.
        warnings: what a reader must know before believing any number.
        tiles: the figures at the top.
        confusions: side -> its decisions by outcome; None where no outcome is known.
        crossed: the active decision -> the shadow's, counted.
        methods, method_sentence: models and baselines side by side, and what that says.
        groups: name -> metrics by ticker, regime and the like.
        failures: what each side does wrong, in words.
        worst, disagreements: rows to read.
        control: what shuffled labels said; empty without them.
        review: what reviewers said; None without reviews.
        attainable: the best a simulated market allows; None for real candles.
        certificate, dataset: None where the stage has not run.
        card: the dataset card; None without a dataset.
        trading: ratios, calendar, and every call and candle for the page's script.
        figures: name -> figure; None: nothing to draw.
        made: stages, versions, hashes and settings.
        periods: of a walk; empty where one training was replayed.
    """

    title: str
    run: str
    verdict: VerdictView
    metrics: Metrics
    config: Config
    names: Mapping[str, str]
    lead: str
    warnings: list[str]
    tiles: list[sections.Tile]
    confusions: Mapping[str, sections.ConfusionTable | None]
    crossed: Mapping[str, tuple[sections.Cell, ...]]
    methods: list[Method]
    method_sentence: str
    groups: list[tuple[str, GroupMetrics]]
    failures: list[dict[str, str]]
    worst: list[ScoredRow]
    disagreements: list[ScoredRow]
    control: str
    review: ReviewSummary | None
    attainable: AttainableScores | None
    certificate: Certificate | None
    dataset: DatasetManifest | None
    card: DatasetCard | None
    trading: TradingView
    figures: Mapping[str, Figure]
    made: Provenance
    periods: list[PeriodRow]
