"""docs/extending.md: what it names exists, and its short examples work as they are written, on a copy of the package.

The prompt field is tried in tests/fields/test_new_field.py, the baseline in tests/evaluation/test_baselines.py,
engines in tests/engines/test_shared.py and tests/training/test_engines.py.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
TEXT = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
PATHS = sorted(set(re.findall(r"`((?:[\w.]+/)*[\w.]+\.(?:py|toml|j2)|(?:[\w.]+/)+)`", TEXT)))
MADE_BY_THE_READER = {"src/candletune/fields/adx.py"}
NAMES = sorted(set(re.findall(r"`([A-Z]\w+|[a-z]+(?:_[a-z]+)+|_[A-Z]+)`", TEXT)))
TRY = """
from candletune.config import load_config
from candletune.preflight import examine
assert load_config(None, ["live.quiet_hours=3"]).live.quiet_hours == 3
from candletune.config_file import commented_toml
assert "# quiet_hours = 0" in commented_toml({})
for pairs, wanted in ("BTC/USDT:USDT", 1), ("BTC/USDT:USDT,ETH/USDT:USDT", 0):
    findings = examine(load_config(None, [f"data.pairs={pairs}"]), ["dataset"])
    assert sum(finding.subject == "pairs" for finding in findings) == wanted, findings
"""


def code_of(heading: str) -> str:
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return str(code)


@pytest.mark.parametrize("path", PATHS)
def test_named_files_exist(path: str) -> None:
    if path not in MADE_BY_THE_READER:
        assert (ROOT / path).exists() or (ROOT / "src" / "candletune" / path).exists()


@pytest.mark.parametrize("name", NAMES)
def test_names_exist(name: str) -> None:
    files = [
        *(ROOT / "src").rglob("*.py"),
        ROOT / "tests" / "random_models.py",
        *(ROOT / "tests").rglob("test_rule.py"),
    ]
    assert any(re.search(rf"\b{name}\b", file.read_text(encoding="utf-8")) for file in files)


def test_enough_is_named() -> None:
    assert len(PATHS) > 20
    assert len(NAMES) > 15


def test_a_key_and_a_check_work_as_written(tmp_path: Path) -> None:
    package = tmp_path / "candletune"
    shutil.copytree(ROOT / "src" / "candletune", package, ignore=shutil.ignore_patterns("__pycache__"))
    tables = package / "config_serving.py"
    text = tables.read_text(encoding="utf-8")
    tables.write_text(text.replace("    port:", code_of("A configuration key") + "    port:", 1), encoding="utf-8")
    with (package / "preflight" / "data.py").open("a", encoding="utf-8") as file:
        file.write("\n\n" + code_of("A check before the run"))
    done = subprocess.run(
        [sys.executable, "-c", TRY],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
