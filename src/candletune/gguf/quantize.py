"""llama.cpp's own quantizer, tensor by tensor: its choice of type for each, and its blocks.

`llama_model_quantize` works from file to file, so a model would lie on disk twice. What it decides depends on names,
layers and widths alone, so it is asked over a stand-in of two rows a matrix; the blocks are then made by the function
that it calls too, `ggml_quantize_chunk`, some rows at a time.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from candletune.errors import InputError, UsageError
from candletune.files import atomic_path, temporary_folder
from candletune.gguf.ggml import quantize_rows
from candletune.gguf.header import read_header
from candletune.gguf.metadata import PLAIN_TYPES, add_info, add_shape
from candletune.model_shape import ModelShape

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 2
"""Of each matrix of the stand-in; with one llama.cpp would take it for a vector."""
WEIGHTS_AT_ONCE = 2**23
"""Whose float32 numbers a thread has in memory."""


def file_type(name: str, key: str = "export.quantize") -> int:
    """llama.cpp's number of a model's type by name (`Q4_K_M`, `Q8_0`, `F16`...).

    Args:
        name: in any case.
        key: the setting that gives it, for the error.

    Raises:
        UsageError: there is none of that name.
    """
    import gguf

    wanted = name.upper()
    known = {str(kind.name).partition("_")[2]: int(kind) for kind in gguf.LlamaFileType if kind.name != "GUESSED"}
    if wanted not in known:
        raise UsageError(f"{key}: no type {name!r}; choose one of {', '.join(sorted(known))}")
    return known[wanted]


def type_name(number: object) -> str:
    """llama.cpp's name of a `general.file_type`, such as `Q4_K_M`; empty where it is none."""
    import gguf

    known = {int(kind): str(kind.name).partition("_")[2] for kind in gguf.LlamaFileType if kind.name != "GUESSED"}
    return known.get(number, "") if isinstance(number, int) else ""


def tensor_types(shape: ModelShape, tensors: Sequence[tuple[str, tuple[int, ...]]], name: str) -> Mapping[str, Any]:
    """Which type each tensor of a model gets.

    Args:
        shape: the model's.
        tensors: llama.cpp's name and sizes (rows first) of each.
        name: of the model's type (`Q4_K_M`); vectors stay F32 in all of them.

    Returns:
        The tensors' `gguf.GGMLQuantizationType`, by name.

    Raises:
        UsageError: no such type.
        InputError: llama.cpp cannot make it.
    """
    import gguf

    if name.upper() in PLAIN_TYPES:
        plain, vector = gguf.GGMLQuantizationType[name.upper()], gguf.GGMLQuantizationType.F32
        return {tensor: plain if len(sizes) > 1 else vector for tensor, sizes in tensors}
    with temporary_folder() as folder:
        source, target = folder / "asked.gguf", folder / "answered.gguf"
        _write_stand_in(source, shape, tensors)
        quantize(source, target, name)
        return {entry.name: gguf.GGMLQuantizationType(entry.kind) for entry in read_header(target).tensors}


def _write_stand_in(target: Path, shape: ModelShape, tensors: Sequence[tuple[str, tuple[int, ...]]]) -> None:
    """A model of the same names, layers and widths, without vocabulary, of zeros."""
    import gguf

    writer = gguf.GGUFWriter(target, shape.architecture.gguf)
    add_shape(writer, shape, "stand-in", PLAIN_TYPES["F32"])
    small = [(name, (ROWS, *sizes[1:]) if len(sizes) > 1 else sizes) for name, sizes in tensors]
    for name, sizes in small:
        add_info(writer, name, sizes, gguf.GGMLQuantizationType.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, sizes in small:
        writer.write_tensor_data(np.zeros(sizes, np.float32))
    writer.close()


def quantize(source: Path, target: Path, name: str) -> None:
    """Write `target`, the model of `source` in the type `name`, as llama.cpp does it: from file to file.

    Everything else that `source` says of itself is carried over. Blocks of `source` are expanded, never rounded again
    to blocks of another type.

    Raises:
        UsageError: no such type.
        InputError: llama.cpp could not do it.
    """
    import llama_cpp

    from candletune.gguf.log import captured

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = file_type(name)
    parameters.allow_requantize = name.upper() in PLAIN_TYPES  # llama.cpp's word for expanding them, too
    parameters.nthread = os.cpu_count() or 1
    with captured() as log, atomic_path(target) as temporary:
        code = llama_cpp.llama_model_quantize(str(source).encode(), str(temporary).encode(), parameters)
        if code:
            raise InputError(f"{source}: llama.cpp could not quantize it to {name} ({log.last_error()})")


def quantized(tensor: "Tensor", kind: Any) -> NDArray[np.uint8]:
    """A matrix as blocks.

    Args:
        tensor: (rows, columns), of any floating type.
        kind: a `gguf.GGMLQuantizationType` whose blocks divide the columns.

    Returns:
        (rows, bytes a row). The bytes are the same however many threads work.

    Raises:
        InputError: a weight is not a number, or too large.
    """
    import gguf

    rows, columns = tensor.shape
    (width,) = gguf.quant_shape_to_byte_shape((columns,), kind)
    blocks = np.empty((rows, width), np.uint8)
    step = max(1, WEIGHTS_AT_ONCE // columns)

    def fill(start: int) -> bool:
        numbers, part = tensor[start : start + step].float().contiguous().numpy(), blocks[start : start + step]
        # A scale may be too large for 16 bits though every weight is a number.
        return quantize_rows(numbers, part, kind) and bool(np.isfinite(numbers).all())

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        if not all(threads.map(fill, range(0, rows, step))):
            raise InputError(f"a weight is not a number, or too large for {kind.name}; download the base again")
    return blocks
