"""Decoder architectures: what Transformers calls them, what llama.cpp calls them, and what can be done with each.

The first group is known in full: the fast pass, the LoRA export and the writing of a base. Of the second the adapter is
known to travel: the reference pass gives the model's loss, and llama.cpp's converter the same tensors. What is in
neither is refused, since whether llama.cpp reorders rows is written nowhere but in its converter, and a wrong guess
would be an adapter that loads and answers nonsense. Mixtures of experts are left out: their experts are neither
quantized in training nor counted in the estimates of memory.
"""

from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Architecture:
    """One architecture.

    Attributes:
        model_type: `model_type` of config.json.
        model_class: `architectures` of config.json.
        gguf: `general.architecture` of a GGUF.
        interleaved: whether llama.cpp rotates interleaved pairs of a head's rows where Transformers rotates its halves,
            so that rows of queries and keys change places in a GGUF.
        complete: whether the fast pass runs it and its base can be written as GGUF.
        biases: whether queries, keys and values always have biases.
        head_norms: whether each head of queries and keys is normalised before it is rotated.
        head_size: what Transformers takes where config.json has no `head_dim`; 0: hidden size by heads.
    """

    model_type: str
    model_class: str
    gguf: str
    interleaved: bool = False
    complete: bool = False
    biases: bool = False
    head_norms: bool = False
    head_size: int = 0

    @property
    def support(self) -> str:
        """What can be done with it, for people."""
        if self.complete:
            return "trained by the fast or the reference pass; adapter and base can be exported"
        return "trained by the reference pass; its adapter can be exported, over a base.gguf of your own"


ARCHITECTURES: Final = (
    Architecture("mistral", "MistralForCausalLM", "llama", interleaved=True, complete=True),
    Architecture("llama", "LlamaForCausalLM", "llama", interleaved=True, complete=True),
    Architecture("qwen2", "Qwen2ForCausalLM", "qwen2", complete=True, biases=True),
    Architecture("qwen3", "Qwen3ForCausalLM", "qwen3", complete=True, head_norms=True, head_size=128),
    Architecture("apertus", "ApertusForCausalLM", "apertus"),
    Architecture("arcee", "ArceeForCausalLM", "arcee", interleaved=True),
    Architecture("cohere", "CohereForCausalLM", "command-r"),
    Architecture("cohere2", "Cohere2ForCausalLM", "cohere2"),
    Architecture("ernie4_5", "Ernie4_5ForCausalLM", "ernie4_5", head_size=128),
    Architecture("exaone4", "Exaone4ForCausalLM", "exaone4"),
    Architecture("gemma", "GemmaForCausalLM", "gemma", head_size=256),
    Architecture("gemma2", "Gemma2ForCausalLM", "gemma2", head_size=256),
    Architecture("gemma3_text", "Gemma3ForCausalLM", "gemma3", head_size=256),
    Architecture("glm4", "Glm4ForCausalLM", "glm4", head_size=128),
    Architecture("granite", "GraniteForCausalLM", "granite", interleaved=True),
    Architecture("hunyuan_v1_dense", "HunYuanDenseV1ForCausalLM", "hunyuan-dense"),
    Architecture("nemotron", "NemotronForCausalLM", "nemotron"),
    Architecture("olmo", "OlmoForCausalLM", "olmo", interleaved=True),
    Architecture("olmo2", "Olmo2ForCausalLM", "olmo2"),
    Architecture("olmo3", "Olmo3ForCausalLM", "olmo2"),
    Architecture("phi", "PhiForCausalLM", "phi2"),
    Architecture("phi3", "Phi3ForCausalLM", "phi3"),
    Architecture("seed_oss", "SeedOssForCausalLM", "seed_oss", head_size=128),
    Architecture("smollm3", "SmolLM3ForCausalLM", "smollm3", interleaved=True),
    Architecture("stablelm", "StableLmForCausalLM", "stablelm"),
    Architecture("starcoder2", "Starcoder2ForCausalLM", "starcoder2"),
)
"""Those that are supported; `tests/gguf/test_architectures.py` holds each to llama.cpp's converters."""
MISTRAL: Final = ARCHITECTURES[0]


def architecture_of(config: dict[str, Any]) -> Architecture | None:
    """The architecture that a config.json names; None when it names none, another, or two that differ."""
    model_type, model_class = config.get("model_type"), (config.get("architectures") or [None])[0]
    if model_type is model_class is None:
        return None
    for known in ARCHITECTURES:
        if model_type in (None, known.model_type) and model_class in (None, known.model_class):
            return known
    return None


def architecture_of_gguf(name: object) -> Architecture | None:
    """The architecture that a GGUF names, where it is known in full; Mistral's say `llama`, and are computed so."""
    known = {entry.gguf: entry for entry in ARCHITECTURES if entry.complete}  # llama behind mistral, so it stays
    return known.get(name) if isinstance(name, str) else None


def complete_types() -> str:
    """Model types of the first group, for people."""
    names = sorted(known.model_type for known in ARCHITECTURES if known.complete)
    return f"{', '.join(names[:-1])} or {names[-1]}"
