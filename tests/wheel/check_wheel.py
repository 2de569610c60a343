"""A wheel that works alone: built, checked, installed without the checkout, and used from an empty folder.

Run by `make wheel-check` and by CI. The environment made here is empty but for the wheel; a .pth file lends it the
third-party packages of the environment that runs this, so that llama.cpp is not built again.
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
TINY = (
    "dataset.per_class=60",
    "dataset.natural_eval=40",
    "train.max_steps=4",
    "train.policy_steps=1",
    "replay.limit=30",
    "replay.reasons=4",
    "verify.prompts=10",
    "verify.min_parsed=0",
    "verify.min_agreement=0.1",
    "verify.min_plain_agreement=0",
    "verify.max_accuracy_loss=1",
    "verify.max_log_loss_gain=9",
    "verify.max_probability_gap=0.9",
    "evaluate.baselines=false",
)
"""Settings under which the demo proves that it runs, and nothing else."""


def run(command: Sequence[str | Path], *, cwd: Path, environment: dict[str, str] | None = None) -> str:
    """Run, and return what was said; a failure ends the check with it."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout + done.stderr


def build(folder: Path) -> tuple[Path, Path]:
    """Wheel and source archive of the checkout, both accepted by twine."""
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT], cwd=folder)
    (wheel,), (archive,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    run([sys.executable, "-m", "twine", "check", "--strict", wheel, archive], cwd=folder)
    return wheel, archive


def package_data() -> set[str]:
    """Files of the package that are no modules, as the wheel must hold them."""
    package = ROOT / "src" / "candletune"
    return {
        f"candletune/{path.relative_to(package).as_posix()}"
        for path in package.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }


def missing(wheel: Path) -> set[str]:
    """Package data that the wheel lacks."""
    with zipfile.ZipFile(wheel) as archive:
        return package_data() - set(archive.namelist())


def install(wheel: Path, folder: Path) -> Path:
    """An environment with the wheel; returns its candletune."""
    venv.create(folder, with_pip=False)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / ("python.exe" if os.name == "nt" else "python")
    # pip of this environment installs into that one; third-party packages are lent, the editable checkout is not.
    run(
        [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel], cwd=folder
    )
    ours = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], cwd=folder).strip()
    (Path(ours) / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return scripts / ("candletune.exe" if os.name == "nt" else "candletune")


def use(program: Path, folder: Path, *, demo: bool) -> None:
    """Commands from an empty folder, as somebody without the checkout would."""
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    python = program.with_name("python.exe" if os.name == "nt" else "python")
    where = run([python, "-c", "import candletune; print(candletune.__file__)"], cwd=folder, environment=environment)
    if str(ROOT / "src") in where:
        sys.exit(f"the checkout is used, not the wheel: {where}")
    simulated = ["--set", "simulate.enabled=true", "--set", "simulate.years=1", "--set", "dataset.per_class=60"]
    for arguments in (
        ["--version"],
        ["--help"],
        ["init", "candletune.toml"],
        ["dataset", *simulated],
        ["dataset", *simulated, "--audit", "5"],
        ["status", "--json"],
        ["template", "show"],
    ):
        run([program, *arguments], cwd=folder, environment=environment)
    if demo:
        said = run(
            [program, "demo", *(part for text in TINY for part in ("--set", text))], cwd=folder, environment=environment
        )
        if "verdict: " not in said or not (folder / "runs" / "demo" / "report" / "index.html").is_file():
            sys.exit(f"the demo gave no verdict or no report\n{said}")


def walk(program: Path, folder: Path) -> None:
    """The user's whole path (tests/path/test_walk.py) with the installed program, adapter and merged."""
    environment = os.environ | {"CANDLETUNE_PROGRAM": str(program)}
    test = ROOT / "tests" / "path" / "test_walk.py"
    scratch = ("-p", "no:cacheprovider", f"--basetemp={folder}")
    said = run([sys.executable, "-m", "pytest", test, "-rs", *scratch], cwd=ROOT, environment=environment)
    print(said.strip().splitlines()[-1])


def main() -> None:
    """The whole check in one scratch folder, which is removed when all went well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="scratch folder; must not exist")
    parser.add_argument("--no-demo", action="store_true", help="leave out the demo")
    parser.add_argument("--walk", action="store_true", help="walk the user's path with it, too; needs real candles")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    folder = options.folder.resolve()
    wheel, _ = build(folder)
    if lacking := missing(wheel):
        sys.exit(f"{wheel.name} lacks {', '.join(sorted(lacking))}")
    program = install(wheel, folder / "environment")
    use(program, folder / "elsewhere", demo=not options.no_demo)
    if options.walk:
        walk(program, folder / "walk")
    shutil.rmtree(folder)
    print(f"{wheel.name}: built, checked, installed alone and used")


if __name__ == "__main__":
    main()
