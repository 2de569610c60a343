"""Loads a base and an adapter with llama.cpp, asks for two tokens, and ends: a program of its own, run by `first_load`.

It imports nothing of candletune, so that it starts fast. Whatever the file does to llama.cpp, it does to this process.
Standard output has the reason for a refusal.
"""

import ctypes
import os
import sys

import llama_cpp

GOOD, REFUSED, NO_MEMORY = 0, 3, 4
_ALLOCATION = ("failed to allocate", "unable to allocate", "out of memory", "alloc_tensor_range")


def main(base: str, adapter: str, threads: int) -> tuple[int, str]:
    """How it ended, and why."""
    said: list[str] = []
    keep = llama_cpp.llama_log_callback(lambda _level, text, _data: said.append(text.decode("utf-8", "replace")))
    llama_cpp.llama_log_set(keep, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    settings = llama_cpp.llama_model_default_params()
    settings.n_gpu_layers = 0
    settings.use_extra_bufts = False  # no second copy of the weights in another order
    model = llama_cpp.llama_model_load_from_file(os.fsencode(base), settings)
    loaded = llama_cpp.llama_adapter_lora_init(model, os.fsencode(adapter)) if model else None
    if not loaded:
        full = any(sign in text.lower() for text in said for sign in _ALLOCATION)
        return NO_MEMORY if full or not model else REFUSED, _last_error(said)
    sizes = llama_cpp.llama_context_default_params()
    sizes.n_ctx, sizes.n_batch, sizes.n_ubatch = 64, 8, 8
    sizes.n_threads = sizes.n_threads_batch = threads
    context = llama_cpp.llama_init_from_model(model, sizes)
    if not context:
        return NO_MEMORY, _last_error(said)
    adapters = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(loaded)
    scales = (ctypes.c_float * 1)(1.0)
    if llama_cpp.llama_set_adapters_lora(context, adapters, 1, scales) != 0:
        return REFUSED, "llama.cpp could not switch to it"
    tokens = (llama_cpp.llama_token * 2)(0, 1)
    if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, 2)) != 0:
        return REFUSED, f"llama.cpp could not compute with it ({_last_error(said)})"
    return GOOD, ""


def _last_error(said: list[str]) -> str:
    lines = [" ".join(text.split()) for text in said if text.strip()]
    failed = [text for text in lines if "error" in text.lower() or "failed" in text.lower()]
    return (failed or lines or ["llama.cpp gave no reason"])[-1][:160]


if __name__ == "__main__":
    code, why = main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    sys.stdout.buffer.write(why.encode())
    sys.stdout.buffer.flush()
    os._exit(code)  # freeing takes time, and everything goes with the process
