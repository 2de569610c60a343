"""Whether this build of llama.cpp rounds activations where weights are quantized.

Its own kernels take both operands of a matrix product in eight bits, 32 activations to a scale (256 over K-quants on a
CPU); where one activation is large, the others keep few bits. Handed to a BLAS, the weights are expanded and the
activations stay as they are: on a CPU when it was built with one (OpenBLAS, Accelerate), on a CUDA card when it was
built to always take cuBLAS. Figures: docs/smollm2.md.
"""

from functools import cache

import llama_cpp

from candletune.gguf.ggml import device_names


@cache
def rounds_activations() -> bool:
    """Whether decisions over quantized weights are computed with activations of eight bits."""
    if llama_cpp.llama_supports_gpu_offload() and b"CUDA" in llama_cpp.llama_print_system_info():
        return not expands_on_card()
    return not has_blas()


def has_blas() -> bool:
    """Whether a CPU hands products of many rows to a BLAS."""
    return "BLAS" in device_names()


def expands_on_card() -> bool:
    """Whether cuBLAS gets every product of many rows, for which a matrix is expanded to 16 bits on the card."""
    return b"FORCE_CUBLAS = 1" in llama_cpp.llama_print_system_info()
