"""A replay's decisions by PyTorch, before its journal is written: many rows a pass, and a control sample by llama.cpp.

First PyTorch scores every row, a part at a time, each kept on disk. It is closed, and llama.cpp, which serves, is asked
the control sample: rows evenly spread over time, those that get a reason, and those nearest to a tie. Where both decide
alike the journal takes PyTorch's probabilities, and in the sample llama.cpp's own; else llama.cpp decides alone.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from candletune.artifacts.replay_control import ReplayControl
from candletune.config import Config
from candletune.console import Reporter
from candletune.decide import Model
from candletune.engines import base_gguf, open_engine
from candletune.engines.recorded import RecordedEngine
from candletune.errors import UsageError
from candletune.files import make_folder, remove_folder, write_bytes
from candletune.runs import RunFolder
from candletune.stages.torch_control import Asked, Scored, ask_control

if TYPE_CHECKING:
    from candletune.engines.packed import PackedScorer

PART = 512
"""Rows of a model scored, and kept with one file, at a time."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Decided:
    """What is known before the journal is written.

    Attributes:
        control: how both engines agree.
        latency_ms: of a decision by PyTorch, in milliseconds; 0 where llama.cpp decides.
    """

    control: ReplayControl
    latency_ms: float


def torch_decides(config: Config, run: RunFolder, models: Sequence[Model], reporter: Reporter) -> bool:
    """Whether PyTorch decides, by `replay.engine` and what the device holds.

    Raises:
        UsageError: it is demanded and cannot.
    """
    wanted = config.replay.engine
    if wanted == "torch" and config.replay.ray:
        raise UsageError("replay.engine: Ray's workers ask llama.cpp; set it to auto, or leave replay.ray out")
    if wanted == "llama.cpp" or config.replay.ray or (wanted == "auto" and (config.engine.url or not _on_card(config))):
        return False
    reason = _refusal(config, run, models)
    if reason is not None and wanted == "torch":
        raise UsageError(f"replay.engine: torch cannot score this replay ({reason}); set it to auto or llama.cpp")
    if reason is not None:
        reporter.say(f"llama.cpp decides, PyTorch cannot ({reason})")
    return reason is None


def _on_card(config: Config) -> bool:
    from candletune.base.load import pick_device

    return pick_device(config.train.device) == "cuda"


def _refusal(config: Config, run: RunFolder, models: Sequence[Model]) -> str | None:
    from candletune.engines.packed import refusal

    for model in models:
        adapters = [model.path] if model.kind == "adapter" and model.path is not None else []
        if (reason := refusal(config, _base_of(model, config, run), adapters)) is not None:
            return reason
    return None


def _base_of(model: Model, config: Config, run: RunFolder) -> Path:
    return model.path if model.kind == "merged" and model.path is not None else base_gguf(config, run)


def scratch(run: RunFolder) -> Path:
    """Where parts are kept until the replay is done."""
    return run.file("replay", "torch")


def discard(run: RunFolder) -> None:
    """Throw the parts away: the replay is done."""
    remove_folder(scratch(run))


class TorchReplay:
    """The engines of a replay that PyTorch decides.

    Args:
        config: the whole configuration.
        run: names the base, and where parts are kept.
    """

    def __init__(self, config: Config, run: RunFolder) -> None:
        self._config, self._run = config, run
        self._engines: dict[Path, RecordedEngine] = {}

    def open(self, base: Path | None) -> RecordedEngine:
        """For `Predictor`: the engine of a whole model's GGUF, or with None of the configured base."""
        path = base or base_gguf(self._config, self._run)
        return self._engines.setdefault(path, RecordedEngine(lambda: open_engine(self._config, self._run, path)))

    def decide(self, asked: Sequence[Asked], digest: str, reporter: Reporter) -> Decided:
        """Score everything, and hold it against llama.cpp; from then on the engines know it.

        Args:
            asked: models that the engines have, and the bare base where it is a baseline.
            digest: of what the replay is made from; parts of another one are thrown away.
            reporter: progress and notes.

        Raises:
            InputError: a file is broken, or a prompt is too long.
        """
        folder = scratch(self._run) / digest[:16]
        if not folder.is_dir():
            remove_folder(scratch(self._run))
            make_folder(folder)
        bases = [_base_of(one.model, self._config, self._run) for one in asked]
        scored, seconds = self._scored(asked, bases, folder, reporter)
        engines = [self.open(base) for base in bases]
        control, told = ask_control(scored, engines, folder / "control.npz", reporter)
        if control.decided == "llama.cpp":
            reporter.warn(control.text)
            return Decided(control, 0.0)
        for (one, found), more, engine in zip(scored, told, engines, strict=True):
            known = dict(zip(one.prompts, found, strict=True))
            engine.record(one.name, known | {one.prompts[row]: answer for row, answer in more.items()})
        reporter.say(control.text)
        return Decided(control, round(1000 * seconds / max(1, sum(len(one.prompts) for one in asked)), 3))

    def _scored(
        self, asked: Sequence[Asked], bases: Sequence[Path], folder: Path, reporter: Reporter
    ) -> tuple[list[Scored], float]:
        """Every model's probabilities, one base in memory after the other, and the seconds they took."""
        scored: dict[int, Scored] = {}
        seconds = 0.0
        with reporter.task("replay: PyTorch", sum(len(one.prompts) for one in asked)) as task:
            for number, base in enumerate(dict.fromkeys(bases)):
                places = [place for place, path in enumerate(bases) if path == base]
                parts = _Parts(base, [asked[place] for place in places], folder, number)
                found, took = parts.read(self._config, task.advance, reporter)
                seconds += took
                scored |= {place: (asked[place], known) for place, known in zip(places, found, strict=True)}
        return [scored[place] for place in range(len(asked))], seconds


@dataclass(frozen=True, slots=True)
class _Parts:
    """The scores over one base, kept a part a file: `0-0000512.npz` has 512 rows of each model behind the 512th."""

    base: Path
    group: Sequence[Asked]
    folder: Path
    number: int

    def read(self, config: Config, advance: Callable[[int], None], reporter: Reporter) -> tuple[list[Floats], float]:
        """Probabilities (n, 3) of each model, and the seconds they took; what is on disk is not scored again."""
        parts: list[list[Floats]] = [[np.zeros((0, 3))] for _ in self.group]
        seconds = 0.0
        scorer: PackedScorer | None = None
        try:
            for start in range(0, max(len(one.prompts) for one in self.group), PART):
                path = self.folder / f"{self.number}-{start:07d}.npz"
                if not path.is_file():
                    scorer = scorer or self._open(config, reporter)
                    self._score(scorer, start, path)
                with np.load(path) as file:
                    for known, name in zip(parts, map(str, range(len(parts))), strict=True):
                        known.append(file[name])
                    seconds += float(file["seconds"])
                advance(sum(len(known[-1]) for known in parts))
        finally:
            if scorer is not None:
                scorer.close()
        return [np.concatenate(known) for known in parts], seconds

    def _open(self, config: Config, reporter: Reporter) -> "PackedScorer":
        from candletune.engines.packed import PackedScorer

        scorer = PackedScorer(self.base, config, reporter.warn)
        try:
            for one in self.group:
                if one.name is not None and one.model.path is not None:
                    scorer.add_adapter(one.name, one.model.path)
            scorer.prepare(prompt for one in self.group for prompt in one.prompts)
        except BaseException:
            scorer.close()
            raise
        return scorer

    def _score(self, scorer: "PackedScorer", start: int, path: Path) -> None:
        began = time.perf_counter()
        found = scorer.score({one.name: one.prompts[start : start + PART] for one in self.group})
        arrays = {str(number): found[one.name] for number, one in enumerate(self.group)}
        data = BytesIO()
        np.savez(data, seconds=np.array(time.perf_counter() - began), **arrays)  # type: ignore[arg-type]
        write_bytes(path, data.getvalue())
