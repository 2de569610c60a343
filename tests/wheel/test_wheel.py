"""The wheel holds all it needs and works without the checkout (the demo from it runs in `make wheel-check`)."""

import os
import zipfile
from pathlib import Path

import pytest
from check_wheel import build, install, missing, package_data, use

pytestmark = pytest.mark.slow


def test_a_wheel_works_alone(tmp_path: Path) -> None:
    pytest.importorskip("build", reason="needs the dev extra")
    pytest.importorskip("twine", reason="needs the dev extra")
    wheel, archive = build(tmp_path)
    assert missing(wheel) == set()
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
        metadata = next(name for name in names if name.endswith("METADATA"))
        assert b"Requires-Dist: torch" in content.read(metadata)
    assert all(name.startswith(("candletune/", "candletune-")) for name in names), "nothing beside the package"
    assert archive.stat().st_size < 20_000_000
    assert wheel.stat().st_size < 6_000_000, "4.2 MB of it are the tiny base"
    program = install(wheel, tmp_path / "environment")
    use(program, tmp_path / "elsewhere", demo=False)


def test_package_data_is_looked_for() -> None:
    endings = {os.path.splitext(name)[1] for name in package_data()}  # noqa: PTH122
    assert {".j2", ".css", ".js"} <= endings
    assert "candletune/py.typed" in package_data()
