"""The pipeline's stages, one module each, and what runs them. `STAGES` is the one list of them, in order."""

from importlib import import_module
from typing import TYPE_CHECKING, Final

from candletune.base.quiet import quiet

if TYPE_CHECKING:
    from candletune.stages.runner import Stage

STAGES: Final = {
    "base": "Write the one GGUF of the base that trains and serves.",
    "dataset": "Candles to balanced, labelled training examples.",
    "train": "Train the QLoRA adapter.",
    "export": "Write the adapter (or a merged model) as GGUF.",
    "verify": "Certify that the GGUF answers as the trained model does.",
    "replay": "Run incumbent and candidate over later, unseen candles.",
    "evaluate": "Metrics, statistics, baselines and the verdict.",
    "report": "One self-contained HTML page that tells the whole story.",
}
"""name -> what it does; a stage's module is `candletune.stages.<name>`."""


def stage(name: str) -> "Stage":
    """The stage of that name; its module is imported only now, since some import torch."""
    with quiet():
        definition: Stage = import_module(f"candletune.stages.{name}").STAGE
    return definition
