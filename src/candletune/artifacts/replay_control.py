"""How far PyTorch's decisions in a replay are from those of llama.cpp, which serves."""

from typing import Literal

from candletune.artifacts.base import Record


class ReplayControl(Record):
    """Both engines on a sample of a replay's rows, in the same replay.

    Attributes:
        decided: whose decisions the other rows have: PyTorch's, or llama.cpp's where they agreed on too few.
        rows: of each model, evenly spread over time.
        answers: decisions compared on them.
        agreement: share of these that are the same.
        near_ties: decisions compared besides, those of PyTorch that are nearest to a tie.
        near_agreement: share of these that are the same.
        largest_gap: in a decision's probability, over all that were compared.
        least: agreement that was demanded.
    """

    decided: Literal["torch", "llama.cpp"]
    rows: int
    answers: int
    agreement: float
    near_ties: int
    near_agreement: float
    largest_gap: float
    least: float

    @property
    def text(self) -> str:
        """For people, a sentence."""
        found = (
            f"{self.agreement:.2%} of {self.answers} decisions are llama.cpp's too (control sample; largest gap of a "
            f"probability {self.largest_gap:.4f}; of the {self.near_ties} nearest to a tie {self.near_agreement:.1%})"
        )
        if self.decided == "torch":
            return f"PyTorch's forward pass decided: {found}. Rows of the sample have llama.cpp's own decisions."
        return f"llama.cpp decided alone: of PyTorch's forward pass {found}, below the {self.least:.0%} demanded."
