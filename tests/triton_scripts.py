"""Scripts over Triton kernels, each in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

INTERPRETED = {"TRITON_INTERPRET": "1"}


def run(script: str, folder: Path, *arguments: str, **more: str) -> dict[str, Any]:
    """What a script prints, from a process of its own: Triton reads its environment when it is imported."""
    pytest.importorskip("triton", reason="Triton is not installed (pip install 'candletune[gpu]')")
    path = folder / "script.py"
    path.write_text(script)
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **more}
    command = [sys.executable, str(path), *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def interpreted_without_gpu() -> dict[str, str]:
    """The environment that runs kernels in Triton's interpreter where there is no GPU."""
    import torch

    return {} if torch.cuda.is_available() else INTERPRETED
