"""Checks of the machine: versions, card, llama.cpp, memory of every stage, disk, folders that can be written."""

import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import psutil
from packaging.requirements import InvalidRequirement, Requirement

from candletune.base.find import served_gguf
from candletune.base.tiny import PACKAGED, built_tiny
from candletune.config import Config
from candletune.files import try_to_write
from candletune.gguf.metadata import PLAIN_TYPES
from candletune.gguf.whole_models import type_of
from candletune.preflight.findings import Finding, check
from candletune.stages.needs import GIB, NEEDS, known_base

AGAIN = "then pip install --force-reinstall --no-cache-dir --no-binary llama-cpp-python llama-cpp-python"
"""Without `--no-cache-dir` pip takes the wheel that it built before, whatever CMAKE_ARGS says now."""
CUDA_LLAMA = f"build it for the card: set CMAKE_ARGS='-DGGML_CUDA=on -DGGML_CUDA_FORCE_CUBLAS=on', {AGAIN}"
BLAS_LLAMA = (
    "build it with a BLAS: install OpenBLAS (libopenblas-dev), set "
    f"CMAKE_ARGS='-DGGML_BLAS=on -DGGML_BLAS_VENDOR=OpenBLAS', {AGAIN}"
)
AMX_LLAMA = (
    f"build it without: set CMAKE_ARGS='-DCMAKE_C_FLAGS=-U__AMX_INT8__ -DCMAKE_CXX_FLAGS=-U__AMX_INT8__', {AGAIN}"
)

CPU_WEIGHTS = 200e6
"""Weights up to which a training on a CPU ends within a day or so."""


@check("versions", "base", "dataset", "train", "export", "verify", "replay", "evaluate", "report")
def versions(_: Config) -> Iterator[Finding]:
    """What is installed, against what the package itself declares."""
    yield Finding("ok", "python", ".".join(map(str, sys.version_info[:3])))
    try:
        declared = requires("candletune") or []
    except PackageNotFoundError:
        text = "not installed as a package, so versions of what it needs are not known; pip install -e ."
        yield Finding("warning", "candletune", text)
        return
    fitting = []
    for text in declared:
        requirement = _parsed(text)
        if requirement is None or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        problem = _unmet(requirement)
        if problem is None:
            fitting.append(f"{requirement.name} {version(requirement.name)}")
        else:
            yield Finding("problem", requirement.name, problem)
    shown = [name for name in fitting if name.split()[0] in ("torch", "transformers", "peft", "bitsandbytes")]
    yield Finding("ok", "packages", f"{len(fitting)} fit, among them {', '.join(shown)}")


def _parsed(text: str) -> Requirement | None:
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _unmet(requirement: Requirement) -> str | None:
    try:
        have = version(requirement.name)
    except PackageNotFoundError:
        return f"not installed; pip install '{requirement.name}{requirement.specifier}'"
    if requirement.specifier.contains(have, prereleases=True):
        return None
    return f"{have} is installed, {requirement.specifier} is needed; pip install '{requirement}'"


@check("gpu", "train")
def gpu(config: Config) -> Iterator[Finding]:
    """The card, where one is wanted."""
    import torch

    train, weights = config.train, known_base(config).shape.parameters
    if not torch.cuda.is_available():
        asked = (("train.device=cuda", train.device == "cuda"), ("train.backend=fast", train.backend == "fast"))
        wanted = [text for text, on in asked if on]
        if wanted:
            text = f"{wanted[0]} is set, but torch sees no GPU; install a CUDA build of torch, or unset it"
            yield Finding("problem", "gpu", text)
        elif weights <= CPU_WEIGHTS or train.device == "cpu":
            yield Finding("ok", "gpu", "none; training runs on the CPU")
        else:
            text = "torch sees none, and a base of this size would train for weeks on a CPU; install a CUDA build"
            yield Finding("problem", "gpu", f"{text} of torch, set base.model=tiny, or insist with train.device=cpu")
        return
    free, total = (amount / GIB for amount in torch.cuda.mem_get_info())
    yield Finding("ok", "gpu", f"{torch.cuda.get_device_name()}: {free:.1f} of {total:.1f} GiB free")
    if sys.platform == "linux" and not _installed("triton"):
        text = "triton is not installed, so training takes the slower path; pip install triton"
        yield Finding("warning", "gpu", text)


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


@check("backend", "train")
def backend(config: Config) -> Iterator[Finding]:
    """Engines that are packages of their own."""
    if config.train.backend == "unsloth" and not _installed("unsloth"):
        text = "train.backend=unsloth is set, but unsloth is not installed; pip install unsloth, or set it to auto"
        yield Finding("problem", "backend", text, exit_code=2)


@check("llama.cpp", "base", "export", "verify", "replay")
def llama_cpp(config: Config) -> Iterator[Finding]:
    """Whether llama.cpp loads, and whether it was built for the card."""
    if not _installed("llama-cpp-python"):
        yield Finding("problem", "llama.cpp", "llama-cpp-python is not installed; pip install llama-cpp-python")
        return
    try:
        import llama_cpp as library
    except Exception as error:  # a broken build raises what its loader raises
        text = f"llama-cpp-python does not load ({' '.join(str(error).split())[:120]}); install it again"
        yield Finding("problem", "llama.cpp", text)
        return
    import torch

    from candletune.engines.loading import broken_build
    from candletune.engines.rounding import rounds_activations

    have = f"llama-cpp-python {version('llama-cpp-python')}"
    if compiler := broken_build():
        text = (
            f"{have} was built by GCC {compiler}, whose AMX code ends the process; candletune does without, but "
            f"a trader's own llama_cpp.Llama ends; {AMX_LLAMA}"
        )
        yield Finding("warning", "llama.cpp", text)
    on_card = library.llama_supports_gpu_offload()
    if on_card:
        yield Finding("ok", "llama.cpp", f"{have}, built for the GPU")
    elif config.engine.gpu_layers > 0 or torch.cuda.is_available():
        text = f"{have} runs on the CPU alone, so answers are slow"
        yield Finding("warning", "llama.cpp", f"{text}; {CUDA_LLAMA}")
    else:
        yield Finding("ok", "llama.cpp", f"{have}, on the CPU")
    if rounds_activations() and (kind := _quantized_type(config)):
        text = (
            f"{have} rounds activations to eight bits over {kind} weights, which turns decisions near a tie; serve F16 "
            f"(base.serve_type), or {CUDA_LLAMA if on_card else BLAS_LLAMA}"
        )
        yield Finding("warning", "llama.cpp", text)


def _quantized_type(config: Config) -> str:
    """llama.cpp's type of the base that is served, where that is quantized; else nothing."""
    path = served_gguf(config)
    kind = config.base.written_type if path is None else type_of(path)
    return "" if kind in PLAIN_TYPES else kind or "quantized"


@check("memory", "base", "train", "export", "verify", "replay")
def memory(config: Config) -> Iterator[Finding]:
    """Every stage's peak against what is free now."""
    memory_free, card_free = psutil.virtual_memory().available / GIB, _card_budget(config)
    for estimate in NEEDS.values():
        needs = estimate(config)
        text = f"{needs.stage}: about {needs.ram_gib:.1f} GiB of {memory_free:.1f} GiB free"
        short = needs.ram_gib > memory_free
        if needs.vram_gib:
            text += f", and {needs.vram_gib:.1f} GiB of {card_free:.1f} GiB on the card"
            short = short or needs.vram_gib > card_free
        if short:
            remedy = "close other programs, or take a smaller base (base.model, or a base.gguf of fewer bits)"
            yield Finding("problem", "memory", f"{text} ({needs.why}); {remedy}")
        else:
            yield Finding("ok", "memory", text)


def _card_budget(config: Config) -> float:
    import torch

    if not torch.cuda.is_available():
        return 0.0
    free: float = torch.cuda.mem_get_info()[0] / GIB
    return min(free, config.train.vram_gib or free)


@check("disk", "base", "dataset", "train", "export")
def disk(config: Config) -> Iterator[Finding]:
    """New files of every stage against what is free where the run folder lies."""
    folder = _existing(config.run.folder)
    free = shutil.disk_usage(folder).free / GIB
    parts = {name: estimate(config).disk_gib for name, estimate in NEEDS.items()}
    wanted = 0.2 + sum(parts.values())
    text = f"{free:.1f} GiB free for {config.run.folder}, about {wanted:.1f} GiB are needed"
    if free < wanted:
        largest = max(parts, key=lambda name: parts[name])
        text += f", most of it by {largest}; make room, or set run.folder to another disk"
    yield Finding("problem" if free < wanted else "ok", "disk", text)


@check("folders", "base", "dataset", "train", "export")
def folders(config: Config) -> Iterator[Finding]:
    """Where files will be written; tried, since permissions lie."""
    wanted = {"run.folder": config.run.folder, "live.state": config.live.state.parent}
    if config.builds_tiny and built_tiny(config) != PACKAGED:
        wanted["base.cache"] = config.base.cache
    for key, folder in wanted.items():
        try:
            try_to_write(_existing(folder))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            text = f"{key}: {folder} cannot be written ({reason}); set it to a folder of your own"
            yield Finding("problem", "folders", text)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    while not folder.exists() and folder.parent != folder:
        folder = folder.parent
    return folder
