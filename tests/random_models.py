"""Small models with random weights of every architecture, and tokenizers with the splitting rules they come with."""

from functools import cache
from pathlib import Path
from typing import Any

ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ATTENTION = ALL[:4]
WORDS = 480
"""Trained tokens of `random_tokenizer`."""
ADDED = 6
"""Its added tokens; Gemma 3's converter cuts the embedding to these and those, the others pad the tokens."""
SIZES: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
"""Llama 3.1's scaling over a context so short that some frequencies stay, some are between and some are divided."""
PHI = {"num_key_value_heads": 4, "intermediate_size": 256}
"""llama.cpp takes them for granted: as many keys as queries, four times the width."""
GRANITE = {
    "logits_scaling": 2.0,
    "attention_multiplier": 0.3,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.5,
}
COMPLETE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "mistral": ("MistralConfig", "tekken", {"sliding_window": None, "head_dim": 16}),
    "llama": ("LlamaConfig", "llama-bpe", {}),
    "llama, tied": ("LlamaConfig", "smollm", {"tie_word_embeddings": True}),
    "llama 3.1": ("LlamaConfig", "llama-bpe", {"rope_parameters": LLAMA3_ROPE}),
    "llama, biases": ("LlamaConfig", "gpt-2", {"attention_bias": True, "mlp_bias": True}),
    "qwen2": ("Qwen2Config", "qwen2", {}),
    "qwen2, tied": ("Qwen2Config", "qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", "qwen2", {"head_dim": 32}),
    "qwen3, tied": ("Qwen3Config", "qwen2", {"head_dim": 16, "tie_word_embeddings": True}),
}
"""Name -> configuration class, llama.cpp's name of the tokenizer's rule, settings beside `SIZES`."""
HEAD: dict[str, Any] = {"head_dim": 16}
SLIDING: dict[str, Any] = HEAD | {"sliding_window": 64}
"""Shorter than the prompts asked, so that what lies behind the window is seen where it must not be."""
OTHERS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "apertus": ("ApertusConfig", {}, (*ATTENTION, "up_proj", "down_proj")),
    "arcee": ("ArceeConfig", HEAD, (*ATTENTION, "up_proj", "down_proj")),
    "cohere": ("CohereConfig", {"logit_scale": 0.5}, ALL),
    "cohere2": ("Cohere2Config", SLIDING | {"logit_scale": 0.5, "rotary_pct": 1.0}, ALL),
    "ernie4_5": ("Ernie4_5Config", HEAD, ALL),
    "exaone4": ("Exaone4Config", HEAD, ALL),
    "gemma": ("GemmaConfig", HEAD, ALL),
    "gemma2": ("Gemma2Config", SLIDING | {"query_pre_attn_scalar": 16}, ALL),
    "gemma3_text": ("Gemma3TextConfig", SLIDING | {"query_pre_attn_scalar": 16, "vocab_size": WORDS + ADDED}, ALL),
    "glm4": ("Glm4Config", HEAD, (*ATTENTION, "gate_up_proj", "down_proj")),
    "granite": ("GraniteConfig", GRANITE, ALL),
    "hunyuan_v1_dense": ("HunYuanDenseV1Config", HEAD, ALL),
    "nemotron": ("NemotronConfig", HEAD, (*ATTENTION, "up_proj", "down_proj")),
    "olmo": ("OlmoConfig", {}, ALL),
    "olmo2": ("Olmo2Config", {}, ALL),
    "olmo3": ("Olmo3Config", {"sliding_window": 64}, ALL),
    "phi": ("PhiConfig", PHI, (*ATTENTION[:3], "dense", "fc1", "fc2")),
    "phi3": ("Phi3Config", {}, ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")),
    "seed_oss": ("SeedOssConfig", HEAD, ALL),
    "smollm3": ("SmolLM3Config", {}, ALL),
    "stablelm": ("StableLmConfig", {}, ALL),
    "starcoder2": ("Starcoder2Config", {}, (*ATTENTION, "c_fc", "c_proj")),
}
"""Name -> configuration class, settings beside `SIZES`, linear layers."""
MARKS = ("<|begin|>", "<|im_end|>", "<|endoftext|>", "<|im_start|>")
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def rule_of(name: str) -> str:
    """llama.cpp's name of the tokenizer's rule; one is enough for those whose base we do not write."""
    return COMPLETE[name][1] if name in COMPLETE else "llama-bpe"


def linear_layers(name: str) -> tuple[str, ...]:
    """The linear layers of each decoder layer that an adapter may be trained for."""
    return OTHERS[name][2] if name in OTHERS else ALL


def random_model(name: str, *, spread: float = 0.15, **changes: Any) -> Any:
    """A float32 model whose every weight is random, norms and biases too.

    Args:
        name: of `COMPLETE` or `OTHERS`.
        spread: deviation of the weights; wide enough that answers differ.
        changes: other settings.
    """
    import torch
    import transformers

    kind, settings = (COMPLETE[name][0], COMPLETE[name][2]) if name in COMPLETE else OTHERS[name][:2]
    config = getattr(transformers, kind)(**(SIZES | settings | changes))
    torch.manual_seed(11)
    family: Any = transformers.AutoModelForCausalLM
    model = family.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            parameter.normal_(std=spread)
            if "norm" in parameter_name and parameter_name.endswith("weight"):
                parameter += 0 if name.startswith("gemma") else 1  # Gemma's norms add the 1 themselves
    return model.eval()


@cache
def random_tokenizer(rule: str, texts: tuple[str, ...]) -> Any:
    """A byte-level BPE trained on texts, split by the rule that llama.cpp calls `rule`."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from candletune.gguf.vocabulary import PRE_TOKENIZERS

    expressions = {found: expression for expression, found in PRE_TOKENIZERS.items()}
    words = Tokenizer(models.BPE(ignore_merges=rule in ("llama-bpe", "tekken")))
    if rule == "gpt-2":
        words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    elif rule == "smollm":
        words.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    else:
        words.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(expressions[rule]), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    words.decoder = decoders.ByteLevel()
    words.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=WORDS,
            special_tokens=[AddedToken(mark, special=True, normalized=False) for mark in MARKS],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    words.add_tokens([AddedToken("<tool_call>", normalized=False), AddedToken("<|fim|>", normalized=False)])
    kind: Any = PreTrainedTokenizerFast
    tokenizer = kind(
        tokenizer_object=words, bos_token=MARKS[0], eos_token=MARKS[1], pad_token=MARKS[2], add_prefix_space=False
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def random_base(name: str, folder: Path, texts: list[str], *, stored: Any = None, **changes: Any) -> Path:
    """The model and its tokenizer, saved to a folder.

    Args:
        name: of `COMPLETE` or `OTHERS`.
        folder: where to.
        texts: what the tokenizer is trained on.
        stored: a torch type of the weights; none: float32.
        changes: see `random_model`.
    """
    model = random_model(name, **changes)
    (model if stored is None else model.to(stored)).save_pretrained(folder)
    random_tokenizer(rule_of(name), tuple(texts)).save_pretrained(folder)
    return folder
