"""metrics.jsonl, a row a step and an evaluation, and the same numbers for TensorBoard."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from candletune.files import append_line, remove, write_text


def append_metrics(path: Path, row: Mapping[str, float | Mapping[str, float]]) -> None:
    """Append one JSON line; its numbers also go to TensorBoard (`train/tensorboard`) where that is installed."""
    append_line(path, json.dumps(row))
    board = _tensorboard(path.parent / "tensorboard")
    if board is not None:
        for name, value in row.items():
            if isinstance(value, int | float) and name != "step":
                board.add_scalar(name.replace("eval_", "eval/", 1), value, row["step"])
        board.flush()


@cache
def _tensorboard(folder: Path) -> Any:
    """One writer a folder; None without the package (`pip install candletune[tensorboard]`)."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))


def trim_metrics(path: Path, step: int | None) -> None:
    """Drop the rows behind a checkpoint, which a resumed training writes again; all of them without a checkpoint."""
    if step is None:
        remove(path)
        return
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]  # a killed writer may leave a torn last line
    write_text(path, "".join(line for line in whole if json.loads(line)["step"] <= step))
