"""One training in several processes: `train.gpus` starts them with torchrun's own agent, a process a GPU.

`python -m candletune.stages.train_processes FILE` is one of them. The first trains and writes, the others work through
their parts of each step. Over several hosts `torchrun` itself starts `candletune train` on each.
"""

import json
import logging
import os
import signal
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from candletune import errors
from candletune.config import Config
from candletune.console import Reporter
from candletune.files import read_json, temporary_folder, write_json
from candletune.runs import RunFolder
from candletune.training.fast.seats import Seat, taken_seat, told_to_begin

AGAIN = "run the same command again: it goes on from the last checkpoint"


def processes_of(config: Config) -> int:
    """How many processes to start for a training; 1: none, this one trains.

    `train.gpus` says how many: 0 takes every GPU that is visible where the fast engine works; on a CPU only what is
    asked for is started.
    """
    if taken_seat() is not None or config.train.backend not in ("auto", "fast"):
        return 1
    if config.train.gpus == 1:
        return 1
    import torch

    from candletune.base.load import pick_device

    if pick_device(config.train.device) == "cpu":
        count = config.train.gpus or 1
    else:
        visible = torch.cuda.device_count()
        count = min(config.train.gpus or visible, visible)
    return min(count, config.train.effective_batch)


def train_in_processes(config: Config, run: RunFolder, count: int) -> None:
    """Start so many processes, and wait until the training is done; all files are the first one's.

    Raises:
        CandletuneError: what one of them said.
        InputError: one died.
        KeyboardInterrupt: stopped; the first process saved a checkpoint.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    with temporary_folder() as folder:
        job = folder / "job.json"
        write_json(job, {"config": config.model_dump(mode="json"), "run": str(run.path)})
        settings = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            max_restarts=0,
            monitor_interval=0.1,
        )
        try:
            elastic_launch(settings, sys.executable)("-m", "candletune.stages.train_processes", str(job))
        except ChildFailedError as failed:
            raise _reason(failed, folder, count) from None
        except SignalException:
            raise KeyboardInterrupt from None


def _reason(failed: Any, folder: Path, count: int) -> BaseException:
    """The error of a training whose processes ended: a signal that ended one, or else what the first of them said."""
    for number, failure in sorted(failed.failures.items()):
        if failure.exitcode < 0 and -failure.exitcode != signal.SIGTERM:
            name = signal.Signals(-failure.exitcode).name
            return errors.InputError(f"training: process {number} of {count} died ({name}); {AGAIN}")
    for number in range(count):
        path = folder / f"failure-{number}.json"
        if path.is_file():
            said = read_json(path)
            kind: type[errors.CandletuneError] = getattr(errors, said["kind"], errors.InputError)
            return kind(said["text"])
    number, failure = failed.get_first_failure()
    if failure.exitcode == 130:
        return KeyboardInterrupt()
    return errors.InputError(f"training: process {number} of {count} ended with {failure.exitcode}; {AGAIN}")


def serve_seat(seat: Seat, config: Config) -> None:
    """A process besides the first: its part of every step. It ends when the first one does, and at no signal."""
    from candletune.training.fast.following import follow

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    follow(seat, config, lambda text: print(f"process {seat.number}: {text}", file=sys.stderr))


def train_first(config: Config, run: RunFolder, reporter: Reporter) -> None:
    """The first process's work."""
    from candletune.stages.progress import keep_progress
    from candletune.stages.train_here import train_here

    with keep_progress(reporter, run, "train") as kept:
        train_here(config, run, kept)


def followed(read: Callable[[], Config]) -> bool:
    """Whether torchrun started this process besides the first of a training, whose part is then done.

    Args:
        read: gives its configuration.
    """
    seat = taken_seat()
    if seat is None or not seat.number:
        return False
    serve_seat(seat, read())
    return True


def trained() -> None:
    """In the first process: nothing more will be trained, so that others who wait are sent home."""
    seat = taken_seat()
    if seat is not None and not seat.number:
        told_to_begin(seat, begin=False)


def main(path: Path) -> int:
    """One of the processes; its exit code."""
    from candletune.console import RichReporter
    from candletune.process import end_with_parent, interrupt_on_sigterm

    end_with_parent()
    interrupt_on_sigterm()
    seat = taken_seat()
    job = json.loads(path.read_text(encoding="utf-8"))
    config = Config.model_validate(job["config"])
    if seat is None:
        raise errors.UsageError("torchrun: started alone; set train.gpus, and run `candletune train`")
    try:
        if seat.number:
            serve_seat(seat, config)
        else:
            train_first(config, RunFolder(Path(job["run"])), RichReporter())
    except errors.CandletuneError as error:
        said = {"kind": type(error).__name__, "text": str(error)}
        write_json(path.with_name(f"failure-{seat.number}.json"), said)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    finally:
        trained()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
