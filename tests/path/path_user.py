"""A user at the command line: a program, a working folder, no terminal, and candles of their own."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

PAIRS = ("BTC_USDT_USDT", "ETH_USDT_USDT")
PROGRAM = tuple(shlex.split(os.environ.get("CANDLETUNE_PROGRAM", ""))) or (sys.executable, "-m", "candletune")
WIDTH = {"COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"}


@dataclass
class User:
    """Runs commands and keeps what was typed.

    Attributes:
        program: how candletune is started, such as `python -m candletune`.
        settings: `--set` values given with every command that takes a configuration.
        config: the configuration file, passed with `--config`.
        typed: the first word of every command that was run.
    """

    program: tuple[str, ...] = PROGRAM
    settings: tuple[str, ...] = ()
    config: Path | None = None
    typed: set[str] = field(default_factory=set)

    def arguments(self, *words: str) -> list[str]:
        """The whole command line."""
        sets = [part for value in self.settings for part in ("--set", value)]
        where = [] if self.config is None else ["--config", str(self.config)]
        return [*self.program, *words, *where, *sets]

    def run(
        self, *words: str, cwd: Path, stdin: str = "", code: int = 0, bare: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run a command and hold its exit code.

        Args:
            words: the command and its own options.
            cwd: the folder it is run from.
            stdin: what is typed or piped in.
            code: the exit code that is documented for this case.
            bare: without `--config` and `--set` (for commands that take none).
        """
        self.typed.add(words[0])
        line = [*self.program, *words] if bare else self.arguments(*words)
        done = subprocess.run(
            line, cwd=cwd, input=stdin, capture_output=True, text=True, env=environment(), timeout=600, check=False
        )
        assert done.returncode == code, (
            f"{words}: exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
        assert "internal error" not in done.stderr
        assert "Traceback" not in done.stderr
        return done


def environment() -> Mapping[str, str]:
    """The environment without a terminal's width guessed from the test's own; another program finds its own package."""
    kept = os.environ | WIDTH
    return {name: value for name, value in kept.items() if name != "PYTHONPATH" or PROGRAM[0] == sys.executable}


def copy_candles(source: Path, target: Path, *, until: datetime) -> None:
    """freqtrade's 1h files, cut before a time, as they would have been on disk then."""
    (target / "futures").mkdir(parents=True, exist_ok=True)
    for pair in PAIRS:
        name = f"futures/{pair}-1h-futures.feather"
        pl.read_ipc(source / name).filter(pl.col("date") < until).write_ipc(target / name, compression="lz4")


def stamped(rows: Iterable[Mapping[str, Any]], stamps: Iterable[timedelta]) -> str:
    """JSON lines of a trader that stamps its contexts when it gets to them, not when the candle closed."""
    lines = []
    for row, late in zip(rows, stamps, strict=False):
        lines.append(json.dumps(row["context"] | {"timestamp": (row["decision_time"] + late).isoformat()}))
    return "\n".join(lines) + "\n"
