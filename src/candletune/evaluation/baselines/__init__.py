"""What a language model must beat, on the same rows: simple rules, and classifiers on the same indicators.

One baseline is one module of this package with a `BASELINE`; whoever adds one writes nothing else.
"""

from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules

from candletune.evaluation.baselines.base import HOLD, SILENT, Baseline, Ints, Task

__all__ = ["HOLD", "SILENT", "Baseline", "Ints", "Task", "baseline_actions", "baselines"]


@lru_cache(maxsize=1)
def baselines() -> tuple[Baseline, ...]:
    """Every module's baseline, in the order tables show them."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    baselines = [module.BASELINE for module in modules if hasattr(module, "BASELINE")]
    return tuple(sorted(baselines, key=lambda baseline: (baseline.order, baseline.name)))


def baseline_actions(task: Task) -> dict[str, Ints]:
    """Decisions of every baseline that applies: indices into DECISIONS (or SILENT), shape (n,), by name."""
    wanted = [baseline for baseline in baselines() if baseline.applies(task)]
    return {baseline.name: baseline.decide(task).astype("int64") for baseline in wanted}
