"""Ray: started or found only where it is asked for, and what its workers take. One machine with one GPU needs none."""

import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from filelock import FileLock

from candletune.errors import InputError, UsageError
from candletune.files import atomic_path, make_folder, write_pieces
from candletune.hashes import sha256_path

PIECE: Final = 64 * 2**20
"""Bytes of a file that travel at a time."""
RETRIES: Final = 20
"""Times that work is begun again when its worker is lost."""


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The `ray` module, connected to a cluster; one that was started for this is ended again.

    Args:
        address: `auto` (the running cluster, or else one on this machine), `local` (one on this machine), or an address
            as Ray takes it.

    Raises:
        UsageError: Ray is not installed, or no cluster answers there.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves this machine unasked
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # a busy machine takes longer than Ray's 30 s
    try:
        import ray
    except ImportError:
        raise UsageError("--ray: the package ray is not installed; pip install 'candletune[ray]'") from None
    # Ray tells of lost workers on standard output, also without `log_to_driver`; results are there, as JSON or not.
    ray._private.worker._worker_logs_enabled = False
    if ray.is_initialized():
        yield ray
        return
    try:
        begin(ray, address)
    except Exception as error:  # Ray raises a bare one where a node does not start in time
        reason = " ".join(str(error).split())[:160]
        raise UsageError(
            f"--ray: no cluster at {address} ({reason}); start one with `ray start --head`, or use --ray auto"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def begin(ray: Any, address: str) -> None:
    """Connect; a cluster of this machine in two tries, since on a busy one Ray gives parts of it too little time."""
    found = None if address == "auto" else address
    for tries_left in (1, 0) if address in ("auto", "local") else (0,):
        try:
            with _own_sigterm():
                ray.init(address=found, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            return
        except Exception:
            if not tries_left:
                raise
            ray.shutdown()


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray replaces what the program does on SIGTERM, so that it would end with another exit code, saying nothing."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with suppress(ValueError):  # not the main thread, where Ray replaces nothing either
            signal.signal(signal.SIGTERM, before)


def places(ray: Any, cores: int) -> tuple[int, dict[str, int]]:
    """How many workers there is room for, and what each takes: a GPU where the cluster has some, or else cores.

    Args:
        ray: the connected module.
        cores: of a worker without a GPU; 0: all of a host.
    """
    left: Mapping[str, float] = ray.available_resources()  # what others of the cluster do not use
    if ray.cluster_resources().get("GPU", 0) >= 1:
        return max(1, int(left.get("GPU", 0))), {"num_gpus": 1, "num_cpus": 0}
    cores = cores or min(int(node["Resources"].get("CPU", 1)) for node in ray.nodes() if node["Alive"])
    return max(1, int(left.get("CPU", 0)) // cores), {"num_cpus": cores}


def hosts(ray: Any) -> int:
    """Hosts of the cluster that are there."""
    return sum(bool(node["Alive"]) for node in ray.nodes())


def told(method: Any, *arguments: Any) -> Any:
    """What an actor answers."""
    import ray

    return ray.get(method.remote(*arguments))


@dataclass(frozen=True, slots=True)
class SharedFile:
    """A file that workers need.

    Attributes:
        path: where the asking process has it.
        sha256: of its content.
        size: bytes.
    """

    path: Path
    sha256: str
    size: int

    @classmethod
    def at(cls, path: Path) -> "SharedFile":
        """The file at a path."""
        return cls(path, sha256_path(path), path.stat().st_size)


def piece(path: Path, offset: int) -> bytes:
    """What travels at a time."""
    with path.open("rb") as stream:
        stream.seek(offset)
        return stream.read(PIECE)


def at_hand(file: SharedFile, read: Callable[[str, int], bytes], cache: Path) -> Path:
    """A file of that content on this host: at the same path, or fetched once into a folder below `cache`.

    Args:
        file: what is wanted.
        read: gives the piece of a file, by hash, that begins at an offset.
        cache: a folder of this host; processes that share it wait for one another.

    Raises:
        InputError: what came is not what was asked for.
    """
    if file.path.is_file() and sha256_path(file.path) == file.sha256:
        return file.path
    target = cache / "fetched" / f"{file.sha256}{file.path.suffix}"
    make_folder(target.parent)
    with FileLock(f"{target}.lock"):
        if target.is_file() and sha256_path(target) == file.sha256:
            return target
        with atomic_path(target) as temporary:
            write_pieces(temporary, (read(file.sha256, offset) for offset in range(0, file.size, PIECE)))
            if sha256_path(temporary) != file.sha256:
                raise InputError(f"{file.path}: changed while it was sent to {target}; run the same command again")
    return target
