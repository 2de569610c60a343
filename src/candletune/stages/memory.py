"""A stage's memory: given back at its end, and what to change when it was not enough, in one sentence."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from candletune.base.memory import memory_explained, release

OTHERWISE: Final = "close other programs"
REMEDIES: Final = {
    "base": "close other programs (three copies of the largest tensor must fit), or set base.gguf to a finished file",
    "dataset": "close other programs, or name fewer data.pairs",
    "train": "close other programs, set train.batch_size=1, a lower train.max_sequence_length or a smaller base model",
    "export": "close other programs; a plain LoRA needs the least, merging DoRA and the like the whole base",
    "verify": "close other programs, set a lower engine.gpu_layers, base.gguf to a quantized file, or a lower "
    "train.vram_gib (an unquantized model as trained is streamed beyond it)",
    "replay": "close other programs, set a lower engine.gpu_layers or engine.context, or base.gguf to a quantized file",
    "evaluate": "close other programs, or set a lower evaluate.resamples",
}
HOLD_MODELS: Final = frozenset({"base", "train", "export", "verify", "replay"})
"""Stages at whose end there may be a model to give back; a full collection costs the others more than their work."""


@contextmanager
def stage_memory(stage: str) -> Iterator[None]:
    """The block's "out of memory", from torch, llama.cpp or Python, becomes one line; models it held are given back.

    Raises:
        OutOfMemory: names the stage and the settings to change.
    """
    try:
        with memory_explained(stage, REMEDIES.get(stage, OTHERWISE)):
            yield
    finally:
        if stage in HOLD_MODELS:
            _forget_modules()
            release()


def _forget_modules() -> None:
    """Take from bitsandbytes the embeddings that Transformers' Trainer registered for 32-bit optimizer states.

    It would hold them, on the card too (1 GiB in bfloat16 at 8B), as long as the process lives.
    """
    if "bitsandbytes" in sys.modules:
        from bitsandbytes import optim

        manager: Any = optim.GlobalOptimManager  # type: ignore[attr-defined]
        manager.get_instance().module_weight_config_triple.clear()
