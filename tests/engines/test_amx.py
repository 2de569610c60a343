"""Builds of llama.cpp whose AMX code ends the process are known by their compiler, and gone round."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import llama_cpp
import pytest

from candletune.config import Config, EngineConfig
from candletune.engines import loading
from candletune.engines.amx import broken_amx
from candletune.preflight.machine import llama_cpp as llama_cpp_check
from header_8b import header_of_8b

WITH_AMX = b"CPU : AVX512 = 1 | AMX_INT8 = 1 | OPENMP = 1 | "
DEBIAN_12 = b"\0GCC: (Debian 12.2.0-14+deb12u1) 12.2.0\0.symtab\0"


def library(folder: Path, comment: bytes, name: str = "libggml-cpu.so.0") -> Path:
    (folder / name).write_bytes(b"\x7fELF" + bytes(200) + comment)
    return folder


def test_an_old_compiler_is_named_where_the_processor_has_amx(tmp_path: Path) -> None:
    assert broken_amx(library(tmp_path, DEBIAN_12), WITH_AMX) == "(Debian 12.2.0-14+deb12u1) 12.2.0"


@pytest.mark.parametrize("comment", [b"\0GCC: (GNU) 14.2.0\0", b"\0GCC: (Debian 15.1.0-3) 15.1.0\0", b"\0clang 19\0"])
def test_other_compilers_are_sound(tmp_path: Path, comment: bytes) -> None:
    assert broken_amx(library(tmp_path, comment), WITH_AMX) is None


def test_without_amx_nothing_is_read(tmp_path: Path) -> None:
    assert broken_amx(tmp_path / "nowhere", b"CPU : AVX512 = 1 | OPENMP = 1 | ") is None
    assert broken_amx(library(tmp_path, DEBIAN_12), b"CPU : AMX_INT8 = 0 | ") is None


def test_every_backend_of_the_cpu_is_read(tmp_path: Path) -> None:
    library(tmp_path, b"\0GCC: (GNU) 14.2.0\0", "libggml-cpu-haswell.so")
    library(tmp_path, DEBIAN_12, "libggml-cpu-sapphirerapids.so")
    assert broken_amx(tmp_path, WITH_AMX) is not None


@pytest.mark.parametrize("broken", [None, "(Debian 12.2.0-14) 12.2.0"])
def test_a_broken_build_loads_no_weights_in_amx_order(monkeypatch: pytest.MonkeyPatch, broken: str | None) -> None:
    asked: list[bool] = []

    def load(_path: bytes, parameters: Any) -> object:
        asked.append(parameters.use_extra_bufts)
        return object()

    monkeypatch.setattr(loading, "broken_build", lambda: broken)
    monkeypatch.setattr(loading, "has_blas", lambda: False)
    monkeypatch.setattr(llama_cpp, "llama_model_load_from_file", load)
    loading.load_model(header_of_8b(), SimpleNamespace(told=0), EngineConfig())  # type: ignore[arg-type]
    assert asked == [broken is None]


def test_doctor_says_how_to_build_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "broken_build", lambda: "(Debian 12.2.0-14) 12.2.0")
    finding = next(iter(llama_cpp_check(Config())))
    assert finding.level == "warning" and "GCC (Debian 12.2.0-14) 12.2.0" in finding.text
    assert "-U__AMX_INT8__" in finding.text and "--no-cache-dir" in finding.text


def test_this_build_is_read_as_it_is() -> None:
    assert loading.broken_build() is None, "tools/install.py builds around it; `make setup` again"
