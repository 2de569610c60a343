"""The two models of a comparison, and the one place that says which side of a journal row each of them fills."""

from enum import StrEnum
from typing import Literal

SideName = Literal["active", "shadow"]


class Role(StrEnum):
    """What a model is in a comparison; a journal calls the incumbent's side `active` and the candidate's `shadow`."""

    INCUMBENT = "incumbent"
    CANDIDATE = "candidate"

    @property
    def side(self) -> SideName:
        """The key of its side in a journal row."""
        return "active" if self is Role.INCUMBENT else "shadow"

    @classmethod
    def of(cls, side: str) -> "Role":
        """The role that fills a side; `ValueError` for anything but `active` and `shadow`."""
        for role in cls:
            if role.side == side:
                return role
        raise ValueError(f"expected active or shadow, got {side!r}")
