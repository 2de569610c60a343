"""Models and adapters into llama.cpp, its reasons in our errors."""

from functools import cache
from pathlib import Path
from typing import Any

import llama_cpp

from candletune.config import EngineConfig
from candletune.engines.amx import broken_amx
from candletune.engines.first_load import FirstLoads
from candletune.engines.placement import CardLayers
from candletune.engines.rounding import attends_in_float32, has_blas, multiply_small_in_float32
from candletune.errors import InputError, OutOfMemory
from candletune.gguf.header import Header
from candletune.gguf.log import captured
from candletune.hashes import sha256_path


def first_loads(base: Header, tried: Path | None, config: EngineConfig) -> FirstLoads | None:
    """What tries adapters in a process of its own, remembering in `tried`; None without such a file."""
    return None if tried is None else FirstLoads(base, tried, config.threads)


@cache
def broken_build() -> str | None:
    """See `broken_amx`, of the llama.cpp that is installed."""
    return broken_amx(Path(llama_cpp.__file__).parent / "lib", llama_cpp.llama_print_system_info())


def load_model(base: Header, card: CardLayers, config: EngineConfig) -> Any:
    """A whole model's handle.

    Raises:
        OutOfMemory: card or memory don't hold it.
        InputError: llama.cpp can't load it.
    """
    multiply_small_in_float32(base.weights)
    parameters = llama_cpp.llama_model_default_params()
    parameters.n_gpu_layers = card.told
    # In weights in another order (AMX, repacked) llama.cpp's own kernels compute, and round: see `rounding`.
    parameters.use_extra_bufts = broken_build() is None and not has_blas()
    with captured() as log:
        model = llama_cpp.llama_model_load_from_file(str(base.path).encode(), parameters)
        if model:
            return model
        if log.allocation_failed():
            size = base.path.stat().st_size / 2**30
            raise OutOfMemory(
                f"{base.path}: no memory for a model of {size:.1f} GiB with {card.text} ({log.last_error()}); lower "
                f"engine.gpu_layers (now {config.gpu_layers}; -1: as many as fit), or set base.gguf to a "
                "quantized file"
            )
        raise InputError(f"{base.path}: llama.cpp cannot load it ({log.last_error()}); export or download it again")


def context_parameters(base: Header) -> Any:
    """What llama.cpp proposes for a context, in float32 where nothing else of this base is rounded."""
    parameters = llama_cpp.llama_context_default_params()
    if attends_in_float32(base):
        parameters.type_k = parameters.type_v = llama_cpp.GGML_TYPE_F32
        parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED  # it takes keys and queries in float16
    return parameters


def load_adapter(model: Any, path: Path, trials: FirstLoads | None) -> Any:
    """An adapter's handle.

    Args:
        model: the base's handle.
        path: the LoRA GGUF, its header checked.
        trials: tries it in a process of its own before; none: not.

    Raises:
        OutOfMemory: card or memory don't hold it.
        InputError: llama.cpp refuses it or ends over it; or the file changed between trying and loading.
    """
    tried = None if trials is None else trials.check(path)
    with captured() as log:
        adapter = llama_cpp.llama_adapter_lora_init(model, str(path).encode())
        if not adapter:
            if log.allocation_failed():
                raise OutOfMemory(
                    f"{path}: no memory for the adapter ({log.last_error()}); lower engine.gpu_layers or engine.context"
                )
            raise InputError(f"{path}: llama.cpp refuses the adapter ({log.last_error()}); export it again")
    if tried is not None and sha256_path(path) != tried:
        llama_cpp.llama_adapter_lora_free(adapter)
        raise InputError(f"{path}: changed while it was loaded; try again")
    return adapter
