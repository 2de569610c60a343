"""The layout is the architecture: what import-linter cannot say of it. Its contracts stand in pyproject.toml."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2] / "src" / "candletune"


def test_import_contracts_are_kept() -> None:
    """Layers at module level, exhaustive: `make lint` runs the same."""
    code = "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT.parents[1]
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_labels_and_what_scores_outcomes_look_into_the_future() -> None:
    """`market` and `prompts` never see a forward return: a name for one may not even occur there."""
    for folder in ("market", "fields", "prompts", "engines"):
        for path in (ROOT / folder).rglob("*.py"):
            names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
            assert "forward_return" not in names, path


def test_test_modules_have_names_of_their_own() -> None:
    """Two test modules of one name shadow each other, and pytest collects neither."""
    names = [path.name for path in (Path(__file__).parents[1]).rglob("*.py") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))
