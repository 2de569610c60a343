"""Fixtures every tier shares."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real candles, Fear & Greed and headlines; not part of this repository."""
    folder = Path(os.environ.get("CANDLETUNE_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "futures").is_dir():
        pytest.skip(f"real candles are not at {folder}; set CANDLETUNE_SHARED_DATA to their folder")
    return folder
