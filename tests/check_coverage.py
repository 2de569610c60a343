"""Fail unless the modules whose mistakes cost money are covered completely, by line and by branch.

Usage: check_coverage.py COVERAGE_JSON
"""

import json
import sys
import tomllib
from pathlib import Path

COMPLETE = tuple(
    tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["tool"]["coverage"]["run"]["include"]
)
"""What coverage follows is what must be complete: one list."""


def main(report: Path) -> int:
    """Print what is missing; 1 when anything is."""
    files = json.loads(report.read_text(encoding="utf-8"))["files"]
    wrong = 0
    for name in COMPLETE:
        summary = files.get(name, {}).get("summary", {"percent_covered": 0.0})
        if summary["percent_covered"] < 100:
            missing = files.get(name, {})
            print(
                f"{name}: {summary['percent_covered']:.1f} % covered, must be 100 %; missing lines "
                f"{missing.get('missing_lines', 'all')}, branches {missing.get('missing_branches', 'all')}"
            )
            wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
