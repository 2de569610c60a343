"""Draw the packages and their imports: `python docs/_architecture.py` writes the picture and the table of packages.

A box is a package (or a module directly below `candletune`; `config` stands for the modules whose names begin with
it). A line goes down from a package to one that it imports. Imports that a longer way implies are left out, so that the
lines show the shape. The lowest row, drawn without lines, is the ground that nearly all others import: what
`[tool.importlinter]` in pyproject.toml has below `market`.

With `--check` nothing is written; the exit code is 1 where picture or table is out of date.
"""

import ast
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "candletune"
PICTURE = ROOT / "docs" / "images" / "architecture.svg"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- packages: written by _architecture.py -->\n", "<!-- end of packages -->\n"
WIDTH, BOX, GAP, ROW, WAYPOINT = 860, 30, 22, 66, 10
SWEEPS = 24

Graph = dict[str, set[str]]


class Place(NamedTuple):
    """A box's centre and width, in pixels."""

    x: float
    y: float
    width: float


def package_of(path: Path) -> str:
    """The package or top-level module that a file below `candletune` belongs to."""
    first = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    return "config" if first.startswith("config") else first


def imports() -> Graph:
    """Package -> the packages it imports, anywhere in its modules; imports for annotations alone count too."""
    graph: Graph = {}
    for path in sorted(SOURCE.rglob("*.py")):
        own = package_of(path)
        targets = graph.setdefault(own, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "candletune":
                parts = (node.module or "").split(".")[1:]
                names = parts[:1] or [alias.name for alias in node.names]
                targets |= {"config" if name.startswith("config") else name for name in names}
        targets.discard(own)
    for name in ("__init__", "__main__"):
        graph.pop(name, None)
    return {name: targets & graph.keys() for name, targets in graph.items()}


def layers() -> list[list[str]]:
    """The layers of the import contract, from the top to the ground."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = settings["tool"]["importlinter"]["contracts"][0]
    rows = [[name.strip() for name in layer.split(":")] for layer in contract["layers"]]
    return [[name for name in row if name != "__main__" and not name.startswith("config_")] for row in rows]


def ground() -> list[str]:
    """What the contract has below `market`."""
    rows = layers()
    return [name for row in rows[rows.index(["market"]) + 1 :] for name in row]


def depths(graph: Graph) -> dict[str, int]:
    """Package -> length of the longest chain of imports below it.

    Raises:
        ValueError: packages import each other in a circle.
    """
    done: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> int:
        if name in trail:
            raise ValueError(f"imports in a circle: {' -> '.join((*trail, name))}")
        if name not in done:
            done[name] = 1 + max((visit(target, (*trail, name)) for target in sorted(graph[name])), default=-1)
        return done[name]

    for name in sorted(graph):
        visit(name, ())
    return done


def reduced(graph: Graph) -> Graph:
    """The graph without the imports that other imports imply."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        stack = [start]
        while stack:
            fresh = graph[stack.pop()] - seen
            seen |= fresh
            stack += fresh
        return seen

    return {
        name: {t for t in targets if not any(t in reachable(other) for other in targets - {t})}
        for name, targets in graph.items()
    }


def purpose(name: str) -> str:
    """The first sentence of the package's docstring."""
    path = SOURCE / name / "__init__.py" if (SOURCE / name).is_dir() else SOURCE / f"{name}.py"
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def table() -> str:
    """A line a package, from the command line to the ground."""
    rows = [f"| `{name}` | {purpose(name)} |" for row in layers() for name in row]
    return "\n".join(["| package | what it is for |", "| --- | --- |", *rows]) + "\n"


def page() -> str:
    """The page with its table of packages as the code has it."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def draw(graph: Graph) -> str:
    """The picture as SVG."""
    below = ground()
    shown = reduced({name: targets - set(below) for name, targets in graph.items() if name not in below})
    depth = depths(shown)
    rows, ways = _rows(shown, depth)
    _order(rows, ways)
    places = {name: place for level, row in enumerate(rows) for name, place in _row(row, ROW * level + 10).items()}
    lowest = ROW * len(rows) + 26
    boxes = [_box(name, place) for name, place in sorted(places.items()) if "|" not in name]
    boxes += [_box(name, place) for name, place in _row(below, lowest, gap=10).items()]
    height = lowest + BOX + 12
    style = (
        "text{font:14px ui-monospace,monospace;text-anchor:middle;fill:#1f2430}rect{fill:#eef1f7;stroke:#7c8599}"
        "path{fill:none;stroke:#5b6478;stroke-width:1.3}"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            "<title>The packages of candletune; lines go down from a package to what it imports</title>",
            f"<style>{style}</style>",
            f'<rect width="{WIDTH}" height="{height}" style="fill:#fff;stroke:none"/>',
            f'<rect x="4" y="{lowest - 10}" width="{WIDTH - 8}" height="{BOX + 20}" rx="6" '
            'style="fill:#f7f4ec;stroke:#c9bfa5"/>',
            *[_line([places[name] for name in way]) for way in ways],
            *boxes,
            "</svg>\n",
        ]
    )


def _rows(graph: Graph, depth: dict[str, int]) -> tuple[list[list[str]], list[list[str]]]:
    """Boxes by row from the top, and each line's way: through a waypoint in every row that it passes."""
    top = max(depth.values())
    rows: list[list[str]] = [[] for _ in range(top + 1)]
    for name in sorted(graph):
        rows[top - depth[name]].append(name)
    ways = []
    for name, target in sorted((n, t) for n, targets in graph.items() for t in targets):
        way = [name]
        for level in range(top - depth[name] + 1, top - depth[target]):
            rows[level].append(f"{name}|{target}|{level}")
            way.append(rows[level][-1])
        ways.append([*way, target])
    return rows, ways


def _order(rows: list[list[str]], ways: list[list[str]]) -> None:
    """Put each row into the order that crosses fewest lines: sweeps by the mean place of a box's neighbours."""
    pairs = [pair for way in ways for pair in pairwise(way)]
    best = ([list(row) for row in rows], _crossings(rows, pairs))
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for level in range(1, len(rows)) if down else range(len(rows) - 2, -1, -1):
            fixed = rows[level - 1 if down else level + 1]
            place = {name: (index + 0.5) / len(fixed) for index, name in enumerate(fixed)}
            for_name = {
                name: [place[a if b == name else b] for a, b in pairs if name in (a, b) and (a in place or b in place)]
                for name in rows[level]
            }
            now = {name: (index + 0.5) / len(rows[level]) for index, name in enumerate(rows[level])}
            mean = {name: sum(near) / len(near) if near else now[name] for name, near in for_name.items()}
            rows[level].sort(key=lambda name: (mean[name], now[name]))
        if (count := _crossings(rows, pairs)) < best[1]:
            best = ([list(row) for row in rows], count)
    rows[:] = best[0]


def _crossings(rows: list[list[str]], pairs: list[tuple[str, str]]) -> int:
    place = {name: (level, index) for level, row in enumerate(rows) for index, name in enumerate(row)}
    ends = [(*place[a], place[b][1]) for a, b in pairs]
    return sum(
        one[0] == other[0] and (one[1] - other[1]) * (one[2] - other[2]) < 0
        for index, one in enumerate(ends)
        for other in ends[:index]
    )


def _width(name: str) -> float:
    return WAYPOINT if "|" in name else 9 * len(name) + 16


def _row(names: list[str], top: float, gap: float = 0) -> dict[str, Place]:
    """Where a row's boxes stand: spread over the width, unless `gap` says how near."""
    free = WIDTH - sum(map(_width, names))
    gap = gap or min(free / (len(names) + 1), 4 * GAP)
    left = (free - gap * (len(names) - 1)) / 2
    places = {}
    for name in names:
        places[name] = Place(left + _width(name) / 2, top + BOX / 2, _width(name))
        left += _width(name) + gap
    return places


def _box(name: str, place: Place) -> str:
    return (
        f"<g><title>{purpose(name).replace('&', '&amp;').replace('<', '&lt;')}</title>"
        f'<rect x="{place.x - place.width / 2:.1f}" y="{place.y - BOX / 2:.1f}" width="{place.width:.0f}" '
        f'height="{BOX}" rx="5"/><text x="{place.x:.1f}" y="{place.y + 5:.1f}">{name}</text></g>'
    )


def _line(way: list[Place]) -> str:
    """A curve from the first box down to the last one, straight past the rows between."""
    text = f"M{way[0].x:.1f} {way[0].y + BOX / 2:.1f}"
    for start, end in pairwise(way):
        top, bottom = start.y + BOX / 2, end.y - BOX / 2
        middle = (top + bottom) / 2
        text += f"C{start.x:.1f} {middle:.1f} {end.x:.1f} {middle:.1f} {end.x:.1f} {bottom:.1f}"
        text += f"V{end.y + BOX / 2:.1f}" if end is not way[-1] else ""
    return f'<path d="{text}"/>'


def main() -> int:
    """Write picture and table; with `--check` only say whether they are current."""
    picture, text = draw(imports()), page()
    if "--check" in sys.argv:
        current = PICTURE.is_file() and PICTURE.read_text(encoding="utf-8") == picture
        return 0 if current and PAGE.read_text(encoding="utf-8") == text else 1
    PICTURE.write_text(picture, encoding="utf-8", newline="\n")
    PAGE.write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
