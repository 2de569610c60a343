"""The layout is the architecture: imports point upward only."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "candletune"
LAYERS = (
    (
        "__init__",
        "errors",
        "decisions",
        "config",
        "config_file",
        "config_source",
        "config_tables",
        "config_types",
        "console",
        "process",
    ),
    ("files", "hashes"),
    ("artifacts",),
    ("runs", "notify"),
    ("market",),
    ("labels",),
    ("splits",),
    ("fields",),
    ("model_shape",),
    ("gguf",),
    ("base", "prompts"),
    ("dataset",),
    ("training",),
    ("engines",),
    ("journal",),
    ("decide",),
    ("evaluation",),
    ("live",),
    ("report",),
    ("stages",),
    ("web",),
    ("preflight", "status"),
    ("demo",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FILES = sorted(ROOT.rglob("*.py"))


def layer_of(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "candletune":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {a.name if a.name in RANK else "__init__" for a in node.names}
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {(parts[1] if len(parts) > 1 else "__init__") for parts in names if parts[0] == "candletune"}
    return found


def test_every_module_has_a_layer() -> None:
    assert {layer_of(path.relative_to(ROOT).parts) for path in FILES} <= set(RANK)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_upward(path: Path) -> None:
    own = layer_of(path.relative_to(ROOT).parts)
    wrong = {name for name in imported(path) if RANK[name] > RANK[own]}
    assert not wrong, f"{own} may not import {wrong}"


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
