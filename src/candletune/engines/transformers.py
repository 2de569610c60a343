"""Transformers with PEFT: the model as trained, with which an export is compared."""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from candletune.base.chat import decision_tokens, encode_prompt
from candletune.base.memory import Placement, device_budget, place, release
from candletune.config import Config
from candletune.decisions import Decision
from candletune.engines import EngineKind, Generation, Stopped
from candletune.errors import InputError, UsageError
from candletune.files import temporary_folder
from candletune.gguf.peft import AdapterRefused, Pair, read_adapter
from candletune.gguf.shape import base_shape


class TransformersEngine:
    """See `candletune.engines.Engine`.

    Args:
        config: names base, chat format and device.
        base: Hugging Face folder, or a GGUF.
        quantization: storage of the weights, see `candletune.base.load.storage_of`; none given: as the files hold them,
            a GGUF packed, a folder unquantized. Unquantized layers of a folder that the card (`train.vram_gib`, or what
            is free) does not hold wait in main memory, and what that does not hold in the base's own files; every pass
            brings them.
        served_ids: ask with the served GGUF's tokenizer, as training does, not with the base's own.
    """

    def __init__(
        self, config: Config, base: Path, quantization: str | None = None, *, served_ids: bool = False
    ) -> None:
        from candletune.base.load import compute_type, load_base, pick_device
        from candletune.base.tokenizer import load_tokenizer, served_tokenizer

        if "unsloth" in sys.modules:
            raise UsageError(
                "training with unsloth changed Transformers in this process, so it is no reference; run the same "
                "command again: it goes on after training"
            )
        self.device = pick_device(config.train.device)
        self.tokenizer = served_tokenizer(config, base) if served_ids else load_tokenizer(base)
        self.chat = self.tokenizer.chat(config.base.chat)
        self.tokens = decision_tokens(self.tokenizer.encode)
        end = self.tokenizer.encode(self.chat.end)
        self.ends = sorted({self.tokenizer.eos, *(end if len(end) == 1 else ())})
        self.max_tokens = config.engine.max_tokens
        storage = quantization or ("gguf" if base.is_file() else "none")
        settings = config.train.model_copy(update={"quantization": storage})
        self._resources = ExitStack()
        scratch = self._resources.enter_context(temporary_folder())
        self.shape = base_shape(base)
        self.placement: Placement | None = None
        if storage == "none" and base.is_dir():
            budget = device_budget(config.train.vram_gib, self.device)
            item = compute_type(settings, self.device).itemsize
            self.placement = place(self.shape, item, self.device, budget, scratch)
        self._base = load_base(base, settings, self.device, self.placement).eval()
        self._adapted: Any = None
        self._active: str | None = None
        self._names: set[str] = set()
        self._stop: Callable[[], bool] | None = None

    def add_adapter(self, name: str, path: Path) -> None:
        """Load a PEFT adapter folder."""
        from peft import PeftModel

        if not (path / "adapter_model.safetensors").is_file():
            raise InputError(f"{path}: no adapter_model.safetensors; run `candletune train` first")
        if self.placement is not None:
            self._hook_adapter(name, path)
        elif self._adapted is None:
            self._adapted = PeftModel.from_pretrained(self._base, path, adapter_name=name, torch_device=self.device)
        else:
            self._adapted.load_adapter(path, adapter_name=name, torch_device=self.device)
        self._names.add(name)
        if self._adapted is not None:
            self._adapted.eval()

    def _hook_adapter(self, name: str, path: Path) -> None:
        """Add an adapter to a streamed base: what PEFT's linear layers compute, behind the base's own.

        PEFT itself would write a copy of every file that layers are streamed from, with renamed tensors, into the
        working folder.
        """
        try:
            adapter = read_adapter(path, self.shape)
        except AdapterRefused as refused:
            raise AdapterRefused(
                f"{refused}; such an adapter is compared over a base in memory only: raise train.vram_gib, or set "
                "verify.reference=none"
            ) from None
        modules = dict(self._base.named_modules())
        for pair in adapter.pairs:
            modules[pair.module].register_forward_hook(self._added(name, pair, adapter.scale))

    def _added(self, name: str, pair: Pair, scale: float) -> Callable[[Any, tuple[Any, ...], Any], Any]:
        import torch

        lora_a, lora_b = (torch.from_numpy(matrix).to(self.device) for matrix in (pair.a, pair.b))

        def add(_module: Any, inputs: tuple[Any, ...], output: Any) -> Any:
            if self._active != name:
                return output
            rows = inputs[0].to(device=lora_a.device, dtype=lora_a.dtype)
            update = torch.nn.functional.linear(torch.nn.functional.linear(rows, lora_a), lora_b) * scale
            return (output + update).to(output.dtype)

        return add

    def use(self, name: str | None) -> None:
        """See the protocol."""
        if name is not None and name not in self._names:
            raise InputError(f"adapter {name!r}: not loaded; add it first")
        if name is not None and self._adapted is not None:
            self._adapted.set_adapter(name)
        self._active = name

    def prompt_ids(self, prompt: str) -> list[int]:
        """See the protocol."""
        return encode_prompt(self.tokenizer.encode, prompt, self.tokenizer.bos, self.chat)

    def score(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """See the protocol."""
        from candletune.base.probabilities import decision_probabilities

        ids = [self.prompt_ids(prompt) for prompt in prompts]
        with self._switched():
            model = self._base if self._adapted is None else self._adapted
            probabilities: NDArray[np.float64] = decision_probabilities(
                model, ids, self.tokens, pad=self.tokenizer.pad
            ).numpy()
        return probabilities

    def generate(self, prompt: str, *, action: Decision | None = None) -> Generation:
        """See the protocol; greedy, without a grammar."""
        import torch

        start = self.prompt_ids(prompt)
        forced = [] if action is None else self.tokenizer.encode(f"DECISION: {action} -")
        ids = torch.tensor([[*start, *forced]], device=self.device)
        with self._switched(), torch.no_grad():
            model = self._base if self._adapted is None else self._adapted
            output = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=self.max_tokens,
                do_sample=False,
                eos_token_id=self.ends,
                pad_token_id=self.tokenizer.pad,
                use_cache=True,
            )
        written = output[0, ids.shape[1] :].tolist()
        ended = bool(written) and written[-1] in self.ends
        written = written[:-1] if ended else written
        return Generation(self.tokenizer.decode([*forced, *written]).strip(), ended, len(written))

    def generate_all(self, prompts: Sequence[str], actions: Sequence[Decision | None]) -> list[Generation]:
        """See the protocol; one after another."""
        return [self.generate(prompt, action=action) for prompt, action in zip(prompts, actions, strict=True)]

    def close(self) -> None:
        """See the protocol."""
        self._base = self._adapted = None
        release()
        self._resources.close()

    def stop_when(self, asked: Callable[[], bool] | None) -> None:
        """See the protocol; asked before each call only."""
        self._stop = asked

    def _switched(self) -> Any:
        from contextlib import nullcontext

        if self._stop is not None and self._stop():
            raise Stopped
        if self._adapted is not None and self._active is None:
            return self._adapted.disable_adapter()
        return nullcontext()


ENGINE = EngineKind(TransformersEngine, "folder")
