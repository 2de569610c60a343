"""Which numbers this build of llama.cpp computes with, and how a small model gets exact ones.

llama.cpp's own kernels take both operands of a matrix product in eight bits, 32 activations to a scale (256 over
K-quants on a CPU); where one activation is large, the others keep few bits. Handed to a BLAS, the weights are expanded
and the activations stay as they are: on a CPU when it was built with one (OpenBLAS, Accelerate), on a CUDA card when it
was built to always take cuBLAS. Where such a build multiplies float32, three things still have 10 or 11 bits: cuBLAS's
products (in TF32), keys and values, and what flash attention takes of them. Figures: docs/smollm2.md.
"""

import math
import os
from functools import cache

import llama_cpp

from candletune.base.load import SMALL, without_tf32
from candletune.gguf.ggml import device_names
from candletune.gguf.header import Header

COMPUTE_TYPE = "GGML_CUDA_CUBLAS_COMPUTE_TYPE"
"""llama.cpp's own variable, read at every product: which numbers cuBLAS multiplies; unset, mostly 16 bits."""


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
    """Whether cuBLAS gets every product of many rows, for which a matrix is expanded on the card."""
    return b"FORCE_CUBLAS = 1" in llama_cpp.llama_print_system_info()


def expanded_bytes(header: Header) -> int:
    """What a model's largest matrix takes on the card while cuBLAS multiplies it; 0 where no matrix is expanded."""
    if not expands_on_card():
        return 0
    number = 4 if header.weights <= SMALL else 2  # bytes: see `multiply_small_in_float32`
    return number * max((math.prod(entry.sizes) for entry in header.tensors), default=0)


def multiply_small_in_float32(weights: float) -> None:
    """Have cuBLAS multiply the numbers of a model of up to `SMALL` weights in float32, as PyTorch is asked too.

    Where the user set the variable, that stays.
    """
    if weights <= SMALL:
        without_tf32()
    if _set_by_user() is not None:
        return
    if weights <= SMALL:
        os.environ[COMPUTE_TYPE] = "F32"
    else:
        os.environ.pop(COMPUTE_TYPE, None)


def attends_in_float32(header: Header) -> bool:
    """Whether a base's keys, values and attention are to be computed in float32 too: nothing else of it is rounded."""
    return header.weights <= SMALL and not rounds_activations()


def key_bytes(header: Header) -> int:
    """Bytes of a number among the keys and values."""
    return 4 if attends_in_float32(header) else 2


@cache
def _set_by_user() -> str | None:
    """What the variable was before anything here set it."""
    return os.environ.get(COMPUTE_TYPE)
