"""From a prompt to a decision: models, base rates, calibration, and the one predictor that everyone asks."""

from candletune.decide.context_files import differing_context, told_in
from candletune.decide.models import BARE_BASE, Model, ModelKind, bare_base, model_at
from candletune.decide.predictor import Answer, Prediction, Predictor
from candletune.decide.training_ends import training_end, training_end_of

__all__ = [
    "BARE_BASE",
    "Answer",
    "Model",
    "ModelKind",
    "Prediction",
    "Predictor",
    "bare_base",
    "differing_context",
    "model_at",
    "told_in",
    "training_end",
    "training_end_of",
]
