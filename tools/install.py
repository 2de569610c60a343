#!/usr/bin/env python3
"""Install candletune from the checkout into a virtual environment: what `make demo` and `make setup` run.

Runs before anything is installed, so on the standard library alone. It says what it does from the first second, and

- builds llama.cpp without the parts that candletune never loads, or takes a wheel where an index has one that runs;
- takes PyTorch from its CPU index where there is no NVIDIA GPU: the ordinary index brings more than 1 GB of CUDA;
- lets `uv` install the rest where it is there and pip has no index of its own configured (which uv would not know).

Usage: python3 tools/install.py VENV EXTRAS [--dry-run]

Environment: TORCH_INDEX and LLAMA_WHEELS replace those indexes (empty: none), INSTALLER is `pip` or `uv`, CMAKE_ARGS
(`-DGGML_CUDA=on`, say) goes to llama.cpp, which is then built from source.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
LLAMA_WHEELS = "https://abetlen.github.io/llama-cpp-python/whl/cpu"
PATIENCE = 4.0
"""Seconds an index gets to answer."""
STEP = re.compile(r"^\s*\[\s*(\d+)(?:/(\d+)|%)\s*\]")
"""Ninja's `[3/83]` and Make's `[ 4%]`."""
LOADS = """
import ctypes, importlib.metadata, importlib.util, pathlib, runpy
assert importlib.metadata.version("llama-cpp-python") == "{version}"
folder = pathlib.Path(importlib.util.find_spec("llama_cpp").origin).parent / "lib"
names = ("libllama.so", "libllama.dylib", "llama.dll")
library = ctypes.CDLL(str(next(path for path in folder.iterdir() if path.name in names)))
library.llama_backend_init()
library.llama_print_system_info.restype = ctypes.c_char_p
assert not runpy.run_path({amx!r})["broken_amx"](folder, library.llama_print_system_info())
"""
"""Whether the pinned llama.cpp is there and runs on this processor; without what its Python package imports."""
AMX = ROOT / "src" / "candletune" / "engines" / "amx.py"


@dataclass(frozen=True)
class Machine:
    """What the plan depends on.

    Attributes:
        gpu: an NVIDIA card is there.
        uv: the program, where it may be used.
        torch_index: PyTorch's index for a machine without a GPU; empty: none that answers.
        llama_wheels: an index of llama-cpp-python's wheels; empty: none that answers, or one's own build is wanted.
        jobs: processes that compile side by side.
    """

    gpu: bool
    uv: str = ""
    torch_index: str = ""
    llama_wheels: str = ""
    jobs: int = 1


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        title: what a person reads.
        command: program and arguments.
        environment: variables beside those that are there.
        unless: Python code; where it runs without an error, the step has nothing to do.
        counted: its output is a build's, of which only the counts are shown.
        may_fail: the next step does it another way.
    """

    title: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    unless: str = ""
    counted: bool = False
    may_fail: bool = False


def look_around(environment: Mapping[str, str]) -> Machine:
    """The machine as it is; asks indexes whether they answer."""
    gpu = has_gpu()
    wheels = "" if gpu or environment.get("CMAKE_ARGS") else environment.get("LLAMA_WHEELS", LLAMA_WHEELS)
    torch = "" if gpu else environment.get("TORCH_INDEX", TORCH_INDEX)
    return Machine(
        gpu=gpu,
        uv=usable_uv(environment),
        torch_index=torch if answers(torch, "torch") else "",
        llama_wheels=wheels if answers(wheels, "llama-cpp-python") else "",
        jobs=os.cpu_count() or 1,
    )


def has_gpu() -> bool:
    """Whether a driver of NVIDIA's is there and answers."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return Path("/proc/driver/nvidia/version").exists()
    return subprocess.run([program, "-L"], capture_output=True, check=False).returncode == 0  # noqa: S603


def usable_uv(environment: Mapping[str, str]) -> str:
    """uv, unless pip was asked for or has indexes or wheels that uv would not find."""
    wanted, program = environment.get("INSTALLER", ""), shutil.which("uv") or ""
    if wanted == "pip" or not program:
        return ""
    if wanted == "uv":
        return program
    asked = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    return "" if re.search(r"index-url|find-links|no-index", asked.stdout) else program


def answers(index: str, package: str) -> bool:
    """Whether an index answers for a package within a few seconds."""
    if not index.startswith("https://"):
        return False
    try:
        with urllib.request.urlopen(f"{index}/{package}/", timeout=PATIENCE) as response:  # noqa: S310
            return bool(response.status == 200)
    except (OSError, ValueError):
        return False


def plan(machine: Machine, python: Path, extras: str) -> list[Step]:
    """What to run, in order, for an environment whose interpreter is `python`."""
    pinned = ("-c", str(ROOT / "constraints.txt"))
    pip = (str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-compile")
    include = ROOT / "tools" / "slim_llama.cmake"
    build = {
        "CMAKE_BUILD_PARALLEL_LEVEL": str(machine.jobs),
        "SKBUILD_CMAKE_DEFINE": f"LLAVA_BUILD=OFF;CMAKE_PROJECT_llama_cpp_INCLUDE={include}",
    }
    llama = ("--no-deps", *pinned, "llama-cpp-python")
    loads = LOADS.format(version=pinned_version("llama_cpp_python"), amx=str(AMX))
    steps = []
    command: tuple[str, ...]
    if machine.torch_index:
        command = (*pip, "--no-deps", *pinned, "--extra-index-url", machine.torch_index, "torch")
        steps.append(Step("PyTorch for the CPU (no NVIDIA GPU here)", command))
    if machine.llama_wheels:
        command = (*pip, "--only-binary", ":all:", "--extra-index-url", machine.llama_wheels, *llama)
        steps.append(Step("llama.cpp, as a wheel", command, unless=loads, may_fail=True))
    # What is there and doesn't run gives way to a build: a wheel that was just taken, or one that pip keeps of a build
    # with other options.
    anew = ("--force-reinstall", "--no-cache-dir", "--no-binary", "llama-cpp-python")
    again = anew if machine.llama_wheels else ()
    steps.append(Step("llama.cpp, from source", (*pip, *again, "-v", *llama), build, unless=loads, counted=True))
    if not machine.llama_wheels:
        steps.append(Step("llama.cpp, built anew", (*pip, *anew, "-v", *llama), build, unless=loads, counted=True))
    rest = (*pinned, "-e", f"{ROOT}[{extras}]" if extras else str(ROOT))
    if machine.uv:
        steps.append(Step("the rest, by uv", (machine.uv, "pip", "install", "--python", str(python), *rest)))
    else:
        steps.append(Step("the rest", (*pip, *rest)))
    return steps


def pinned_version(name: str) -> str:
    """A package's version in constraints.txt."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{name}==(.+)$", text, re.MULTILINE)
    return found[1] if found else ""


def carry_out(steps: Sequence[Step], python: Path) -> None:
    """Run them; ends the program with the first that fails."""
    for number, step in enumerate(steps, 1):
        began = time.monotonic()
        if step.unless and _runs(python, step.unless):
            say(f"[{number}/{len(steps)}] {step.title}: there already")
            continue
        say(f"[{number}/{len(steps)}] {step.title} ...")
        environment = {**os.environ, **step.environment}
        done = _counted(step, environment) if step.counted else _plain(step, environment)
        if done and not step.may_fail:
            sys.exit(f"error: {step.title}: exit code {done}; what failed is said above, and the same command goes on")
        took = f"{time.monotonic() - began:.0f} s"
        say(f"[{number}/{len(steps)}] {step.title}: {'could not be had' if done else 'done'} after {took}")


def _runs(python: Path, code: str) -> bool:
    return subprocess.run([str(python), "-c", code], capture_output=True, check=False).returncode == 0  # noqa: S603


def _plain(step: Step, environment: Mapping[str, str]) -> int:
    return subprocess.run(step.command, env=dict(environment), check=False).returncode  # noqa: S603


def _counted(step: Step, environment: Mapping[str, str]) -> int:
    """A build's counts, as they come; its last lines where it fails."""
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(step.command, env=dict(environment), errors="replace", **streams) as running:  # noqa: S603
        last: list[str] = []
        shown = ""
        assert running.stdout is not None  # noqa: S101
        for line in running.stdout:
            last = [*last[-39:], line]
            if (now := progress(line)) and now != shown:
                shown = now
                say(f"    {now}", again=True)
        code = running.wait()
    if code:
        say("".join(last))
    return code


def progress(line: str) -> str:
    """`12 of 83` from a line of a build; empty where it counts nothing. Not a terminal: every tenth only."""
    found = STEP.match(line)
    if not found:
        return ""
    done, of = int(found[1]), found[2]
    if not sys.stdout.isatty():
        done -= done % 10
    return f"{done} of {of} compiled" if of else f"{done} % compiled"


def say(text: str, *, again: bool = False) -> None:
    """A line on standard output; on a terminal `again` writes over the one before."""
    if again and sys.stdout.isatty():
        print(f"\r{text}", end="   ", flush=True)
    else:
        print(text, flush=True)


def make_environment(venv: Path, machine: Machine) -> Path:
    """The environment's interpreter; the environment is made when it is not there."""
    python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        command = (machine.uv, "venv", "--seed", str(venv)) if machine.uv else (sys.executable, "-m", "venv", str(venv))
        if subprocess.run(command, check=False).returncode:  # noqa: S603
            sys.exit("error: no virtual environment could be made; on Debian: apt-get install python3-venv")
    return python.absolute()


def check_programs() -> None:
    """What must be there before anything is downloaded."""
    if sys.version_info < (3, 11):  # noqa: UP036
        sys.exit(f"error: {sys.executable} is older than Python 3.11; name another one with PYTHON=python3.12")
    if not (shutil.which("cmake") and (os.name == "nt" or shutil.which("c++"))):
        sys.exit("error: llama.cpp is built from source and needs cmake and a C++ compiler: apt-get install cmake g++")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("venv", type=Path)
    parser.add_argument("extras", nargs="?", default="")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run, and run nothing")
    wanted = parser.parse_args()
    check_programs()
    say("looking for a GPU, and for indexes that have what would be built otherwise")
    machine = look_around(os.environ)
    if wanted.dry_run:
        python = (wanted.venv / "bin" / "python").absolute()
        for step in plan(machine, python, wanted.extras):
            say(" ".join([*(f"{name}={value}" for name, value in step.environment.items()), *step.command]))
        return
    python = make_environment(wanted.venv, machine)
    carry_out(plan(machine, python, wanted.extras), python)


if __name__ == "__main__":
    main()
