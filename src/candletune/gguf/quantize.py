"""Quantize a GGUF with llama.cpp's own quantizer, through llama-cpp-python."""

import os
from pathlib import Path

from candletune.errors import InputError, UsageError
from candletune.files import atomic_path


def file_type(name: str) -> int:
    """llama.cpp's number of a quantization by name (`Q4_K_M`, `Q8_0`, `F16`...).

    Raises:
        UsageError: there is none of that name.
    """
    import gguf

    wanted = name.upper()
    known = {str(kind.name).partition("_")[2]: int(kind) for kind in gguf.LlamaFileType if kind.name != "GUESSED"}
    if wanted not in known:
        raise UsageError(f"export.quantize: no type {name!r}; choose one of {', '.join(sorted(known))}")
    return known[wanted]


def quantize(source: Path, target: Path, name: str) -> None:
    """Write `target`, the model of `source` in the type `name`.

    Raises:
        UsageError: no such type.
        InputError: llama.cpp could not do it.
    """
    import llama_cpp

    from candletune.gguf.log import captured

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = file_type(name)
    parameters.nthread = os.cpu_count() or 1
    with captured() as log, atomic_path(target) as temporary:
        code = llama_cpp.llama_model_quantize(str(source).encode(), str(temporary).encode(), parameters)
        if code:
            raise InputError(f"{source}: llama.cpp could not quantize it to {name} ({log.last_error()})")
