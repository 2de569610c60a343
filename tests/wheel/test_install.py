"""What `make` installs, and from where: decided by a plan that is looked at here and carried out nowhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import install
from install import Machine, plan, progress

ROOT = Path(__file__).parents[2]
PYTHON = Path("venv/bin/python")
CPU = "https://download.pytorch.org/whl/cpu"
WHEELS = "https://wheels.example/cpu"


def commands(machine: Machine, extras: str = "") -> list[str]:
    return [" ".join(step.command) for step in plan(machine, PYTHON, extras)]


def test_without_a_gpu_torch_comes_from_the_cpu_index_first() -> None:
    first, *others = commands(Machine(gpu=False, torch_index=CPU))
    assert first.endswith(f"--extra-index-url {CPU} torch") and "--no-deps" in first
    assert not any(CPU in line for line in others), "no other package is looked for there"


def test_with_a_gpu_no_cpu_build_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "has_gpu", lambda: True)
    monkeypatch.setattr(install, "answers", lambda index, _: bool(index))
    machine = install.look_around({})
    assert (machine.torch_index, machine.llama_wheels) == ("", "")


@pytest.mark.parametrize(
    ("environment", "torch", "wheels"),
    [
        ({}, install.TORCH_INDEX, install.LLAMA_WHEELS),
        ({"TORCH_INDEX": "", "LLAMA_WHEELS": ""}, "", ""),
        ({"TORCH_INDEX": "https://mirror.example/cpu"}, "https://mirror.example/cpu", install.LLAMA_WHEELS),
        ({"CMAKE_ARGS": "-DGGML_BLAS=ON"}, install.TORCH_INDEX, ""),
    ],
)
def test_indexes_can_be_named(
    environment: dict[str, str], torch: str, wheels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "has_gpu", lambda: False)
    monkeypatch.setattr(install, "answers", lambda index, _: bool(index))
    machine = install.look_around(environment)
    assert (machine.torch_index, machine.llama_wheels) == (torch, wheels)


@pytest.mark.parametrize("index", ["", "http://example.com", "file:///etc", "https://127.0.0.1:9/none"])
def test_an_index_that_does_not_answer_is_left_out(index: str) -> None:
    assert not install.answers(index, "torch")


def test_llama_is_built_slim() -> None:
    steps = plan(Machine(gpu=False, jobs=4), PYTHON, "")
    step, anew = (step for step in steps if "llama.cpp" in step.title)
    assert anew.unless == step.unless and {"--force-reinstall", "--no-cache-dir"} <= set(anew.command)
    assert anew.environment == step.environment and not {"--force-reinstall", "--no-cache-dir"} & set(step.command)
    defined = dict(item.split("=", 1) for item in step.environment["SKBUILD_CMAKE_DEFINE"].split(";"))
    assert defined["LLAVA_BUILD"] == "OFF" and step.environment["CMAKE_BUILD_PARALLEL_LEVEL"] == "4"
    assert "set(LLAMA_BUILD_COMMON OFF)" in Path(defined["CMAKE_PROJECT_llama_cpp_INCLUDE"]).read_text(encoding="utf-8")
    assert "-v" in step.command and step.counted, "its lines are what progress is made of"


def test_a_wheel_that_does_not_load_gives_way_to_a_build() -> None:
    wheel, build = (s for s in plan(Machine(gpu=False, llama_wheels=WHEELS), PYTHON, "") if "llama.cpp" in s.title)
    assert wheel.may_fail and WHEELS in wheel.command and "--only-binary" in wheel.command
    assert wheel.unless == build.unless and "CDLL" in build.unless
    assert {"--no-binary", "--force-reinstall"} <= set(build.command) and WHEELS not in build.command


def test_what_is_installed_here_is_known_as_loading() -> None:
    code = plan(Machine(gpu=False), PYTHON, "")[0].unless
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    other = code.replace(install.pinned_version("llama_cpp_python"), "0.0.1")
    assert subprocess.run([sys.executable, "-c", other], capture_output=True, check=False).returncode


def test_a_build_whose_amx_code_ends_the_process_is_not_taken(tmp_path: Path) -> None:
    code = plan(Machine(gpu=False), PYTHON, "")[0].unless
    for answer in ("GCC 12", ""):
        stand_in = tmp_path / "amx.py"
        checks = "assert folder.is_dir() and b' = 1' in info"
        stand_in.write_text(f"def broken_amx(folder, info):\n    {checks}\n    return {answer!r}\n", encoding="utf-8")
        asked = code.replace(str(install.AMX), str(stand_in))
        done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=False)
        assert bool(done.returncode) is bool(answer), done.stderr
    assert "amx.cmake" in (ROOT / "tools" / "slim_llama.cmake").read_text(encoding="utf-8")
    assert "-U__AMX_INT8__" in (ROOT / "tools" / "amx.cmake").read_text(encoding="utf-8")


def test_a_demo_needs_no_extras_and_development_does() -> None:
    assert commands(Machine(gpu=False))[-1].endswith(f"-e {ROOT}")
    assert commands(Machine(gpu=False), "dev,serve")[-1].endswith(f"-e {ROOT}[dev,serve]")
    assert all("-q" not in line.split() for line in commands(Machine(gpu=False, torch_index=CPU)))


def test_uv_installs_into_that_environment() -> None:
    assert commands(Machine(gpu=False, uv="/usr/bin/uv"))[-1].startswith(f"/usr/bin/uv pip install --python {PYTHON}")


def test_uv_stays_away_from_indexes_that_pip_alone_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("install.shutil.which", lambda _: "/usr/bin/uv")
    said = "global.index-url='https://mirror.example/simple'\n"
    monkeypatch.setattr("install.subprocess.run", lambda *_, **__: subprocess.CompletedProcess([], 0, said))
    assert install.usable_uv({}) == ""
    assert install.usable_uv({"INSTALLER": "uv"}) == "/usr/bin/uv"
    said = "global.timeout='60'\n"
    assert install.usable_uv({}) == "/usr/bin/uv"
    assert install.usable_uv({"INSTALLER": "pip"}) == ""


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("  [27/83] /usr/bin/g++ -O3 -c x.cpp", "20 of 83 compiled"),
        ("[ 45%] Building CXX object x.o", "40 % compiled"),
        ("  Running command pip subprocess", ""),
        ("  warning: [3/4] inside a line", ""),
    ],
)
def test_a_build_is_counted(line: str, shown: str) -> None:
    assert progress(line) == shown


def test_a_step_that_fails_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    script = "print('[10/20] cc'); print('no such header'); raise SystemExit(3)"
    step = install.Step("a build", (sys.executable, "-c", script), counted=True)
    with pytest.raises(SystemExit, match="a build: exit code 3"):
        install.carry_out([step], Path(sys.executable))
    said = capsys.readouterr().out
    assert said.startswith("[1/1] a build ...") and "10 of 20 compiled" in said and "no such header" in said


def test_the_makefile_asks_for_it() -> None:
    command = ["make", "-n", "demo", "VENV=nowhere", "PYTHON=python3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert 'tools/install.py nowhere ""' in done.stdout and "nowhere/bin/candletune demo" in done.stdout
    command[2] = "setup"
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert 'tools/install.py nowhere "dev,' in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="the Makefile is for Linux")
def test_a_dry_run_says_what_it_would_do() -> None:
    environment = os.environ | {"TORCH_INDEX": "", "LLAMA_WHEELS": "", "INSTALLER": "pip"}
    command = [sys.executable, str(ROOT / "tools" / "install.py"), "nowhere", "", "--dry-run"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    first, llama, anew, rest = done.stdout.strip().splitlines()
    assert first.startswith("looking for a GPU")
    assert all("slim_llama.cmake" in line and line.endswith("llama-cpp-python") for line in (llama, anew))
    assert rest.endswith(str(ROOT)) and not (ROOT / "nowhere").exists()
