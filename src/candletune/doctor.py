"""What `doctor` looks at before hours are spent: versions, GPU, memory, disk, candles, and the base model."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from candletune.config import Config
from candletune.errors import CandletuneError
from candletune.files import read_json

LEAST_VERSIONS = {"torch": (2, 11), "transformers": (5, 0), "peft": (0, 17), "bitsandbytes": (0, 48)}
BYTES_A_WEIGHT = 2
DISK_GIB = {"tiny": 1.0, "other": 40.0}
VRAM_GIB = 8.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, and what to do about it."""

    level: Literal["ok", "warning", "problem"]
    subject: str
    text: str


def examine(config: Config) -> list[Finding]:
    """Every check; none of them raises."""
    checks: tuple[Callable[[Config], list[Finding]], ...] = (_versions, _gpu, _disk, _candles, _base, _llama)
    return [finding for check in checks for finding in check(config)]


def _versions(_: Config) -> list[Finding]:
    found = [Finding("ok", "python", ".".join(map(str, sys.version_info[:3])))]
    for name, least in LEAST_VERSIONS.items():
        wanted = ".".join(map(str, least))
        try:
            have = version(name)
        except PackageNotFoundError:
            found.append(Finding("problem", name, f"not installed; pip install '{name}>={wanted}'"))
            continue
        parts = tuple(int(part) for part in have.split("+")[0].split(".")[:2] if part.isdigit())
        good = parts >= least
        found.append(
            Finding("ok" if good else "problem", name, have if good else f"{have}; {wanted} or later is needed")
        )
    return found


def _gpu(config: Config) -> list[Finding]:
    import torch

    tiny = config.base.model == "tiny"
    if not torch.cuda.is_available():
        if tiny or config.train.device == "cpu":
            return [Finding("ok", "gpu", "none; a tiny base trains on the CPU")]
        return [Finding("problem", "gpu", "torch sees none; install a CUDA build of torch, or set base.model=tiny")]
    free, total = (amount / 2**30 for amount in torch.cuda.mem_get_info())
    budget = config.train.vram_gib or free
    text = f"{torch.cuda.get_device_name()}: {free:.1f} of {total:.1f} GiB free, budget {budget:.1f}"
    found = Path(config.base.model).expanduser() / "config.json"
    if found.is_file():
        from candletune.training.fast.plan import preview

        try:
            plan = preview(read_json(found), config.train, budget * 2**30)
        except (CandletuneError, KeyError, TypeError, ValueError) as error:
            return [Finding("problem", "gpu", f"{text}; {error}")]
        return [Finding("ok", "gpu", f"{text}; {plan.describe()}")]
    if not tiny and budget < VRAM_GIB:
        return [Finding("warning", "gpu", f"{text}; an 8B base wants about {VRAM_GIB:.0f} GiB, close other programs")]
    return [Finding("ok", "gpu", text)]


def _disk(config: Config) -> list[Finding]:
    folder = config.run.folder
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    wanted = DISK_GIB["tiny" if config.base.model == "tiny" else "other"]
    text = f"{free:.1f} GiB free for {config.run.folder}"
    if free < wanted:
        return [Finding("problem", "disk", f"{text}; about {wanted:.0f} GiB are needed, set run.folder elsewhere")]
    return [Finding("ok", "disk", text)]


def _candles(config: Config) -> list[Finding]:
    if config.simulate.enabled:
        return [Finding("ok", "candles", "simulated")]
    from candletune.market.candles import load_candles

    found = []
    for pair in config.data.pairs:
        try:
            candles = load_candles(config.data.folder, pair, config.data.timeframe)
        except CandletuneError as error:
            found.append(Finding("problem", "candles", str(error)))
            continue
        first, last = candles.frame["date"][0], candles.frame["date"][-1]
        found.append(
            Finding("ok", "candles", f"{pair}: {len(candles.frame):,} from {first:%Y-%m-%d} to {last:%Y-%m-%d}")
        )
    return found


def _base(config: Config) -> list[Finding]:
    name = config.base.model
    if name == "tiny":
        return [Finding("ok", "base", "tiny: built locally on first use")]
    folder = Path(name).expanduser()
    if folder.is_dir():
        whole = any(folder.glob("*.safetensors")) and (folder / "config.json").exists()
        text = f"{folder}: " + (
            "safetensors and config.json are there" if whole else "no safetensors or no config.json"
        )
        return [Finding("ok" if whole else "problem", "base", text)]
    return [_hub(name, config.base.revision)]


def _hub(name: str, revision: str | None) -> Finding:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        HfApi().auth_check(name)
        HfApi().model_info(name, revision=revision, timeout=10)
    except GatedRepoError:
        return Finding(
            "problem", "base", f"{name}: gated; accept its licence on its page, then `hf auth login` with your token"
        )
    except (RepositoryNotFoundError, HFValidationError):
        return Finding("problem", "base", f"{name}: no such model, or no access; check the name or `hf auth login`")
    except (
        Exception
    ) as error:  # a dead line raises the HTTP library's own error, and the hub's client changes libraries
        return Finding("warning", "base", f"{name}: the hub cannot be asked now ({type(error).__name__})")
    return Finding("ok", "base", f"{name}: accessible")


def _llama(config: Config) -> list[Finding]:
    try:
        have = version("llama-cpp-python")
    except PackageNotFoundError:
        return [Finding("problem", "llama.cpp", "llama-cpp-python is not installed; pip install llama-cpp-python")]
    found = [Finding("ok", "llama.cpp", f"llama-cpp-python {have}")]
    for name, path in (("base.gguf", config.base.gguf), ("incumbent", config.incumbent.adapter)):
        if path is not None and not path.exists():
            found.append(Finding("problem", name, f"{path}: no such file"))
    return found
