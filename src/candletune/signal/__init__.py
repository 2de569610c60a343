"""The drop-in signal: one JSON context in, one JSON decision out."""

from candletune.signal.chances import Calibration, correct_prior, fit_calibration
from candletune.signal.trader import Prediction, Trader, answer_text, error_answer

__all__ = [
    "Calibration",
    "Prediction",
    "Trader",
    "answer_text",
    "correct_prior",
    "error_answer",
    "fit_calibration",
]
