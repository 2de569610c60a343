"""Build llama.cpp's own server from the source that llama-cpp-python's package carries, once, into the cache.

`make llama-server` runs this; about ten minutes on two cores. Tests ask the server where it is there, and skip where it
is not (`llama_servers.py`).
"""

import os
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

NUMBER = version("llama-cpp-python")
AMX = Path(__file__).resolve().parents[1] / "tools" / "amx.cmake"
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_SUBPROCESS=OFF",
)


def folder() -> Path:
    """Where it is built, by the package's version."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return cache / "candletune" / f"llama-server-{NUMBER}"


def binary() -> Path:
    """The built server; it may not be there."""
    return folder() / "llama-server"


def build() -> None:
    """Fetch the source, build, and keep the program alone."""
    place = folder()
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / ".lock"):
        if binary().exists():
            return
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", str(place)]
        subprocess.run([*command, f"llama-cpp-python=={NUMBER}"], check=True)
        archive = next(place.glob("llama_cpp_python-*.tar.gz"))
        with tarfile.open(archive) as packed:
            packed.extractall(place, filter="data")
        source = place / f"llama_cpp_python-{NUMBER}" / "vendor" / "llama.cpp"
        made = place / "build"
        include = f"-DCMAKE_PROJECT_llama.cpp_INCLUDE={AMX}"
        subprocess.run(["cmake", "-S", str(source), "-B", str(made), *OPTIONS, include], check=True)
        jobs = str(os.cpu_count() or 1)
        subprocess.run(
            ["nice", "-n", "19", "cmake", "--build", str(made), "--target", "llama-server", "-j", jobs], check=True
        )
        shutil.copy(made / "bin" / "llama-server", place / "staged")
        (place / "staged").replace(binary())
        archive.unlink()
        shutil.rmtree(made)
        shutil.rmtree(source.parents[1])


if __name__ == "__main__":
    build()
    print(binary())
