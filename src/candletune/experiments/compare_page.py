"""A comparison as one self-contained page."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from candletune.evaluation.across_runs import Paired
from candletune.experiments.compare_table import time_text, verdict_text
from candletune.experiments.comparison import CONFIDENCE, Compared
from candletune.experiments.entrants import Entrant
from candletune.report.curves import COLOURS, Curve, curves
from candletune.report.page import render
from candletune.report.svg import strip
from candletune.report.text import chance, interval, number, percent, points

_TONES = {"promote": "good", "keep": "bad"}


@dataclass(frozen=True, slots=True)
class RunView:
    """A run's row, as text."""

    place: int
    colour: int
    name: str
    verdict: str
    tone: str
    certificate: str
    log_loss: str
    accuracy: str
    ends: str
    balanced: str
    calibration: str
    calls: str


@dataclass(frozen=True, slots=True)
class PairView:
    """A run beside the reference, as text."""

    place: int
    colour: int
    name: str
    gain: str
    ends: str
    strip: Markup
    log_score: str
    p_value: str
    adjusted: str
    rows: str
    finding: str
    tone: str


@dataclass(frozen=True, slots=True)
class CostView:
    """What a run took, as text."""

    place: int
    colour: int
    name: str
    whole: str
    stages: Sequence[str]
    peak: str
    backend: str


def comparison_page(compared: Compared) -> str:
    """The page's HTML."""
    stages = list(dict.fromkeys(stage for entrant in compared.entrants for stage in entrant.seconds))
    places = {entrant.name: place for place, entrant in enumerate(compared.entrants)}
    return render(
        "compare.html.j2",
        title=f"{len(compared.entrants)} runs compared",
        sentence=compared.sentence,
        reference=compared.reference.name,
        confidence=CONFIDENCE,
        runs=[_run(place, entrant) for place, entrant in enumerate(compared.entrants)],
        pairs=[_pair(places[name], name, pair) for name, pair in compared.paired.items()],
        settings=[(key, values) for key, values in compared.settings.items()],
        stages=stages,
        costs=[_cost(place, entrant, stages) for place, entrant in enumerate(compared.entrants)],
        drawings=_drawings(compared.entrants),
    )


def _run(place: int, entrant: Entrant) -> RunView:
    side = None if entrant.metrics is None else entrant.metrics.shadow
    ends = None if entrant.metrics is None else entrant.metrics.comparison.sides["shadow"].bounds
    verdict = verdict_text(entrant)
    return RunView(
        place=place,
        colour=place % COLOURS,
        name=entrant.name,
        verdict=verdict,
        tone=_TONES.get(verdict, "wait"),
        certificate=_certificate(entrant),
        log_loss=number(entrant.eval_log_loss, 4),
        accuracy=percent(side and side.accuracy_signals),
        ends=interval(ends),
        balanced=percent(side and side.balanced_accuracy),
        calibration=percent(side and side.calibration_error),
        calls=number(side and side.signals),
    )


def _certificate(entrant: Entrant) -> str:
    if entrant.certificate is None:
        return "none"
    if not entrant.certificate.passed:
        return "failed"
    count = len(entrant.certificate.findings)
    return f"passed, {count} finding{'' if count == 1 else 's'}" if count else "passed"


def _pair(place: int, name: str, pair: Paired) -> PairView:
    return PairView(
        place=place,
        colour=place % COLOURS,
        name=name,
        gain=points(pair.gain.value),
        ends=interval(pair.gain.bounds, signed=True).replace("%", "pp"),
        strip=strip(pair.gain.value, pair.gain.bounds, 0.0, points),
        log_score=number(pair.log_score.value, 3),
        p_value=chance(pair.p_value),
        adjusted=chance(pair.adjusted),
        rows=number(pair.rows),
        finding=pair.problem or pair.finding,
        tone={"better": "good", "worse": "bad"}.get(pair.finding, "wait"),
    )


def _cost(place: int, entrant: Entrant, stages: Sequence[str]) -> CostView:
    training = entrant.training
    return CostView(
        place=place,
        colour=place % COLOURS,
        name=entrant.name,
        whole=time_text(sum(entrant.seconds.values())),
        stages=[time_text(entrant.seconds[stage]) if stage in entrant.seconds else "–" for stage in stages],
        peak="not logged" if entrant.peak_gib is None else f"{entrant.peak_gib:.2f} GiB",
        backend="–" if training is None else f"{training.backend} on {training.device}, {training.steps} steps",
    )


def _drawings(entrants: Sequence[Entrant]) -> list[tuple[str, Markup]]:
    """Heading and drawing; those without a point are left out."""
    calibration = [
        Curve(place, entrant.name, [(point.confidence, point.accuracy) for point in entrant.metrics.shadow.calibration])
        for place, entrant in enumerate(entrants)
        if entrant.metrics is not None
    ]
    exact = "Share that was right by confidence, a line a run, and the diagonal of exact probabilities"
    found = [
        ("Training loss", _by_step(entrants, "loss", "Training loss")),
        ("Log loss on the eval rows, as trained", _by_step(entrants, "eval_log_loss", "Eval log loss")),
        (
            "Balanced accuracy on the eval rows",
            _by_step(entrants, "eval_balanced_accuracy", "Balanced accuracy on the eval rows", share=True),
        ),
        (
            "Calibration in the replay",
            curves(calibration, name="calibration", label=exact, across="confidence", share=True, diagonal=True),
        ),
    ]
    return [(heading, drawing) for heading, drawing in found if drawing]


def _by_step(entrants: Sequence[Entrant], key: str, what: str, *, share: bool = False) -> Markup:
    label = f"{what} by optimizer step, a line a run"
    return curves(_logged(entrants, key), name=key.replace("_", "-"), label=label, across="step", share=share)


def _logged(entrants: Sequence[Entrant], key: str) -> list[Curve]:
    """A line a run of what training logged under that key."""
    lines = []
    for place, entrant in enumerate(entrants):
        values = [(step.step, getattr(step, key)) for step in entrant.steps]
        points = [(float(step), value) for step, value in values if step is not None and value is not None]
        lines.append(Curve(place, entrant.name, points))
    return lines
