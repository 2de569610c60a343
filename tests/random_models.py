"""Small models with random weights of every architecture, and tokenizers with the splitting rules they come with."""

from pathlib import Path
from typing import Any

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
OTHERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "arcee": ("ArceeConfig", "llama-bpe", {"head_dim": 16}),
    "ernie4_5": ("Ernie4_5Config", "llama-bpe", {"head_dim": 16}),
    "gemma": ("GemmaConfig", "llama-bpe", {"head_dim": 16}),
    "glm4": ("Glm4Config", "llama-bpe", {"head_dim": 16}),
    "olmo2": ("Olmo2Config", "llama-bpe", {}),
    "phi3": ("Phi3Config", "llama-bpe", {}),
    "seed_oss": ("SeedOssConfig", "llama-bpe", {"head_dim": 16}),
    "smollm3": ("SmolLM3Config", "llama-bpe", {}),
    "stablelm": ("StableLmConfig", "llama-bpe", {}),
    "starcoder2": ("Starcoder2Config", "llama-bpe", {}),
}
MARKS = ("<|begin|>", "<|im_end|>", "<|endoftext|>", "<|im_start|>")
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def random_model(name: str, *, spread: float = 0.15, **changes: Any) -> Any:
    """A float32 model whose every weight is random, norms and biases too.

    Args:
        name: of `COMPLETE` or `OTHERS`.
        spread: deviation of the weights; wide enough that answers differ.
        changes: other settings.
    """
    import torch
    import transformers

    kind, _, settings = (COMPLETE | OTHERS)[name]
    config = getattr(transformers, kind)(**(SIZES | settings | changes))
    torch.manual_seed(11)
    family: Any = transformers.AutoModelForCausalLM
    model = family.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            parameter.normal_(std=spread)
            if "norm" in parameter_name and parameter_name.endswith("weight"):
                parameter += 0 if config.model_type == "gemma" else 1  # Gemma's norms add the 1 themselves
    return model.eval()


def random_tokenizer(rule: str, texts: list[str]) -> Any:
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
            vocab_size=480,
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


def random_base(name: str, folder: Path, texts: list[str]) -> Path:
    """The model and its tokenizer, saved to a folder."""
    random_model(name).save_pretrained(folder)
    random_tokenizer((COMPLETE | OTHERS)[name][1], texts).save_pretrained(folder)
    return folder
