"""docs/architecture.md: its picture and table are today's code, and every file and name of its text exists."""

import ast
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "candletune"
PAGE = ROOT / "docs" / "architecture.md"
SCRIPT = runpy.run_path(str(ROOT / "docs" / "_architecture.py"))
PROSE = PAGE.read_text(encoding="utf-8").split("## Packages")[0]
QUOTED = re.findall(r"`([^`\n]+)`", PROSE)
FILES = sorted({word for word in QUOTED if re.fullmatch(r"[\w/]+\.py", word)})
NAMES = sorted(
    {word for word in QUOTED if re.fullmatch(r"[a-z_]+(\.\w+)+", word) and not word.endswith((".py", ".json"))}
)


def _module(parts: list[str]) -> tuple[Path, list[str]]:
    """The file of the longest module that the name begins with, and the rest of the name."""
    for end in range(len(parts), 0, -1):
        path = SOURCE.joinpath(*parts[:end])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file, parts[end:]
    raise LookupError(parts)


def _defined(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def test_the_picture_is_current() -> None:
    drawn = SCRIPT["draw"](SCRIPT["imports"]())
    assert SCRIPT["PICTURE"].read_text(encoding="utf-8") == drawn, "run python docs/_architecture.py"


def test_the_table_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == SCRIPT["page"](), "run python docs/_architecture.py"


def test_no_two_packages_import_each_other() -> None:
    graph = SCRIPT["imports"]()
    depth = SCRIPT["depths"](graph)
    assert all(depth[target] < depth[name] for name, targets in graph.items() for target in targets)


def test_a_circle_is_found() -> None:
    with pytest.raises(ValueError, match="a -> b -> a"):
        SCRIPT["depths"]({"a": {"b"}, "b": {"a"}})


def test_every_package_has_its_line() -> None:
    listed = {name for row in SCRIPT["layers"]() for name in row}
    assert listed == SCRIPT["imports"]().keys()


def test_the_walk_names_enough() -> None:
    assert len(FILES) >= 8
    assert len(NAMES) >= 25


@pytest.mark.parametrize("name", FILES)
def test_named_files_exist(name: str) -> None:
    assert (ROOT / name).is_file() or (SOURCE / name).is_file()


@pytest.mark.parametrize("name", NAMES)
def test_named_functions_exist(name: str) -> None:
    parts = name.split(".")
    if parts[0] == "run":
        from candletune.runs import RunFolder

        assert hasattr(RunFolder(Path("anywhere")), parts[1])
        return
    file, rest = _module(parts)
    assert rest and rest[0] in _defined(file), f"{file.relative_to(ROOT)} has no {'.'.join(rest)}"
