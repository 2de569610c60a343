"""Decisions by PyTorch over a served GGUF's blocks: the training engine's forward pass, many prompts at once.

No `Engine`: it writes no text, and what serves stays llama.cpp. It reads the GGUF files that llama.cpp reads.
"""

import os
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from candletune.base.load import asked_exactly, compute_type, load_base, pick_device
from candletune.base.memory import device_budget, release
from candletune.config import Config
from candletune.engines import beginning_of
from candletune.engines.asking import Asking, decision_probabilities
from candletune.errors import InputError
from candletune.gguf.header import read_header
from candletune.gguf.llama_vocabulary import VocabularyOnly
from candletune.gguf.lora import LoraMatrices, read_lora
from candletune.gguf.shape import header_shape, untrainable

ROWS = 64
"""Rows of an adapter a pass: at 8B the weights' expansion is then a twentieth of the work."""


def refusal(config: Config, base: Path, adapters: Sequence[Path] = ()) -> str | None:
    """Why PyTorch cannot score with these files on the device that `train.device` names, in words; None: it can."""
    header = read_header(base)
    if (reason := untrainable(header)) is not None:
        return reason
    from candletune.training.fast.scoring import rows_that_fit

    device = pick_device(config.train.device)
    budget = device_budget(config.train.vram_gib, device)
    size, tokens = float(base.stat().st_size), config.engine.context
    shape = header_shape(header)
    item = compute_type(asked_exactly(config.train, shape.parameters), device).itemsize
    if not rows_that_fit(shape, size, item, tokens=tokens, budget=budget, most=1):
        return f"{base.name} does not fit into {budget / 2**30:.1f} GiB with a prompt of {tokens} tokens"
    try:
        for path in adapters:
            read_lora(path, header)
    except InputError as error:
        return str(error)
    return None


class PackedScorer:
    """One base in memory, with adapters that are asked side by side.

    Args:
        base: its GGUF.
        config: `engine` for context and prompts, `train` for device, compute type and card budget, `base.chat`.
        say: where notes go.

    Raises:
        InputError: the base is none that PyTorch can compute.
    """

    def __init__(self, base: Path, config: Config, say: Callable[[str], None]) -> None:
        self._config, self._say = config, say
        self._header = read_header(base)
        self._device = pick_device(config.train.device)
        self._vocabulary = VocabularyOnly(base)
        self._asking = Asking(
            self._header, self._vocabulary.vocabulary, config.engine, config.base.chat, beginning_of(config)
        )
        self._shape = header_shape(self._header)
        self._train = asked_exactly(config.train, self._shape.parameters).model_copy(update={"quantization": "gguf"})
        self._model: Any = load_base(base, self._train, self._device)
        self._passes: Any = None
        self._adapters: dict[str, Mapping[str, LoraMatrices]] = {}
        self._rows: dict[str, array[int]] = {}
        self._beginning: Sequence[int] = ()

    def add_adapter(self, name: str, path: Path) -> None:
        """Load a LoRA GGUF under a name; before `prepare`.

        Raises:
            InputError: missing, broken, of another base or chat, or it adapts what PyTorch's pass does not.
        """
        self._asking.check_adapter(read_header(path), untouched=not self._adapters)
        self._adapters[name] = read_lora(path, self._header)

    def prepare(self, prompts: Iterable[str]) -> None:
        """Tokenize all prompts that will be asked: how long they are, and what they begin with.

        Once each, and by all cores: with a card that decides in 5 ms, a tokenizer that takes 1 ms is not little.

        Raises:
            InputError: one carries a control token or is longer than the context.
        """
        import torch

        from candletune.training.fast.scoring import DecisionPasses, rows_that_fit

        longest, shared = 1, self._config.engine.context
        distinct = list(dict.fromkeys(prompts))
        with ThreadPoolExecutor(self._config.engine.threads or os.cpu_count()) as pool:
            for prompt, (ids, common) in zip(distinct, pool.map(self._tokenized, distinct), strict=True):
                self._rows[prompt] = ids
                longest, shared = max(longest, len(ids)), min(shared, common, len(ids) - 1)
                self._beginning = ids[:shared]
        budget = device_budget(self._config.train.vram_gib, self._device)
        item = compute_type(self._train, self._device).itemsize
        size = float(self._header.path.stat().st_size)
        rows = rows_that_fit(self._shape, size, item, tokens=longest, budget=budget, most=ROWS)
        device = torch.device(self._device)
        decisions = self._asking.tokens.ids
        self._passes = DecisionPasses(self._model, decisions, device, rows=max(rows, 1), budget=budget, say=self._say)
        for name, adapter in self._adapters.items():
            self._passes.add(name, adapter)

    def _tokenized(self, prompt: str) -> tuple["array[int]", int]:
        """A prompt's ids, in four bytes each since a year's are millions, and how many begin as all prompts do."""
        ids = self._asking.scored_ids(prompt)
        return array("i", ids), self._asking.shared(ids)

    def score(self, asked: Mapping[str | None, Sequence[str]]) -> dict[str | None, NDArray[np.float64]]:
        """Probabilities (n, 3) of BUY, SELL and HOLD to each adapter's prompts (None: the bare base), one pass for all.

        Raises:
            InputError: a prompt that `prepare` did not see.
        """
        from candletune.training.fast.scoring import Question

        if any(prompt not in self._rows for prompts in asked.values() for prompt in prompts):
            raise InputError("prompts: one was not there when the replay was prepared; run the command again")
        questions = [Question(name, [self._rows[prompt] for prompt in prompts]) for name, prompts in asked.items()]
        found = self._passes.logits(questions, self._beginning)
        return {
            question.adapter: decision_probabilities(logits.numpy()) if len(logits) else np.zeros((0, 3))
            for question, logits in zip(questions, found, strict=True)
        }

    def close(self) -> None:
        """Free the model."""
        self._model = self._passes = None
        self._adapters, self._rows = {}, {}
        self._vocabulary.close()
        release()
