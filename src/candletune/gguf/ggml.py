"""Functions of ggml, which llama-cpp-python carries and does not wrap, through ctypes."""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

CPU_DEVICE = 0
"""`GGML_BACKEND_DEVICE_TYPE_CPU`."""
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "ggml_quantize_chunk": (
        ctypes.c_size_t,
        [
            ctypes.c_int,
            ctypes.POINTER(ctypes.c_float),
            ctypes.c_void_p,
            ctypes.c_int64,
            ctypes.c_int64,
            ctypes.c_int64,
            ctypes.c_void_p,
        ],
    ),
    "ggml_validate_row_data": (ctypes.c_bool, [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]),
    "ggml_backend_dev_count": (ctypes.c_size_t, []),
    "ggml_backend_dev_get": (ctypes.c_void_p, [ctypes.c_size_t]),
    "ggml_backend_dev_type": (ctypes.c_int, [ctypes.c_void_p]),
    "ggml_backend_dev_name": (ctypes.c_char_p, [ctypes.c_void_p]),
    "ggml_backend_dev_memory": (
        None,
        [ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_size_t)],
    ),
}


@cache
def _function(name: str) -> Any:
    """From the libraries that are loaded already, so these are the same ones."""
    import llama_cpp

    folder = Path(llama_cpp.__file__).parent / "lib"
    files = [path for path in sorted(folder.glob("*ggml*.*")) if path.suffix in (".so", ".dylib", ".dll")]
    named = {path.stem.removeprefix("lib"): path for path in files}
    # Where ggml is part of llama.cpp's own library there is no other file.
    libraries = [ctypes.CDLL(str(named[name])) for name in ("ggml-base", "ggml") if name in named]
    for library in (*libraries, llama_cpp.llama_cpp._lib):
        function = getattr(library, name, None)
        if function is not None:
            function.restype, function.argtypes = _SIGNATURES[name]
            return function
    raise AttributeError(f"llama-cpp-python carries no {name}")


def quantize_rows(numbers: NDArray[Any], blocks: NDArray[Any], kind: int) -> bool:
    """Quantize numbers (rows, columns), float32, into blocks (rows, bytes a row); whether they are sound."""
    source = numbers.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    rows, columns = numbers.shape
    _function("ggml_quantize_chunk")(kind, source, blocks.ctypes.data, 0, rows, columns, None)
    return bool(_function("ggml_validate_row_data")(kind, blocks.ctypes.data, blocks.nbytes))


def device_names() -> tuple[str, ...]:
    """What llama.cpp computes on, by ggml's names: `CPU`, `BLAS`, `CUDA0` and the like."""
    import llama_cpp

    llama_cpp.llama_backend_init()
    devices = map(_function("ggml_backend_dev_get"), range(_function("ggml_backend_dev_count")()))
    return tuple(_function("ggml_backend_dev_name")(device).decode() for device in devices)


def free_on_cards() -> int | None:
    """Bytes free on the cards that llama.cpp computes on, all together; None where it has none."""
    import llama_cpp

    if not llama_cpp.llama_supports_gpu_offload():
        return None
    llama_cpp.llama_backend_init()
    free, total, found = ctypes.c_size_t(), ctypes.c_size_t(), None
    for number in range(_function("ggml_backend_dev_count")()):
        device = _function("ggml_backend_dev_get")(number)
        if _function("ggml_backend_dev_type")(device) != CPU_DEVICE:
            _function("ggml_backend_dev_memory")(device, ctypes.byref(free), ctypes.byref(total))
            if total.value:  # accelerators without memory of their own say 0
                found = (found or 0) + free.value
    return found
