"""A tiny local base model: Mistral architecture, Tekken pre-tokenization; it comes with the package.

Random weights, then briefly pre-trained to speak the format with decisions that carry no information: it can read the
prompt's numbers and knows nothing. The demo, the tests and `base.model = "tiny"` use it. `tiny_base/` holds it in
bfloat16 for the packaged prompt template, the same weights on every machine; `bench/tiny_base.py` makes it again. For
another template one is pre-trained on this machine, once, and cached.
"""

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from candletune.config import Config
from candletune.console import Reporter
from candletune.errors import CandletuneError
from candletune.files import atomic_folder, make_folder, remove_folder, write_json
from candletune.hashes import fingerprint
from candletune.model_shape import ModelShape
from candletune.prompts.template import load_template

if TYPE_CHECKING:
    from transformers import MistralForCausalLM, PreTrainedTokenizerFast

PACKAGED = Path(__file__).parent / "tiny_base"
VERSION = 1
HIDDEN, LAYERS, HEADS, KV_HEADS, FEED_FORWARD, VOCABULARY = 256, 4, 4, 2, 256, 1024
STEPS, BATCH, LEARNING_RATE = 300, 32, 2e-3
TINY_SHAPE = ModelShape(
    hidden=HIDDEN,
    feed_forward=FEED_FORWARD,
    layers=LAYERS,
    heads=HEADS,
    kv_heads=KV_HEADS,
    head_size=HIDDEN // HEADS,
    vocabulary=VOCABULARY,
    context=2048,
    rms_epsilon=1e-5,
    rope_base=10_000.0,
    sliding_window=None,
    tied=False,
)
SPECIAL = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<pad>")
NAMED = dict(zip(("unk_token", "bos_token", "eos_token", "pad_token"), ("<unk>", "<s>", "</s>", "<pad>"), strict=True))
PAD = SPECIAL.index("<pad>")
TEKKEN_SPLIT = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Tekken's pre-tokenization (Mistral's tokenizer v3), `tekken` to llama.cpp; digits stand alone."""


def ensure_tiny(config: Config, reporter: Reporter) -> Path:
    """The tiny base's folder (Hugging Face format): the packaged one, or one built once for the user's own template."""
    if _is_packaged(config):
        return PACKAGED
    from candletune.base.tiny_text import pretraining_text

    prompts, completions = pretraining_text(config)
    digest = text_digest(prompts, completions)[:16]
    cache = config.base.cache.expanduser()
    target = cache / f"tiny-{digest}"
    make_folder(cache)
    with FileLock(cache / f".tiny-{digest}.lock"):
        if not (target / "candletune.json").exists():
            reporter.say("building the tiny base model for your template (once, about four minutes on two cores)")
            with atomic_folder(target) as folder:
                build(folder, prompts, completions, reporter)
    return target


def built_tiny(config: Config) -> Path | None:
    """The folder of a tiny base that is on this machine already; nothing is built."""
    if _is_packaged(config):
        return PACKAGED
    built = sorted(config.base.cache.expanduser().glob("tiny-*/candletune.json"))
    return built[-1].parent if built else None


def text_digest(prompts: Sequence[str], completions: Sequence[str]) -> str:
    """What a tiny base was made from: its shape, its training, and the texts."""
    return fingerprint(
        [VERSION, HIDDEN, LAYERS, FEED_FORWARD, VOCABULARY, STEPS, prompts[0], completions[0], len(prompts)]
    )


def _is_packaged(config: Config) -> bool:
    """Whether the configured prompt template is the one that the packaged base was pre-trained on."""
    try:
        return load_template(config.prompt.template).sha256 == load_template().sha256
    except CandletuneError:
        return False  # what is wrong with the template is said where it is used


def train_tokenizer(texts: list[str]) -> "PreTrainedTokenizerFast":
    """A byte-level BPE of `VOCABULARY` tokens with Tekken's pre-tokenization."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(TEKKEN_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    words.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    words.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **NAMED)
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST]{{ m['content'] }}[/INST]"
        "{% else %}{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
    )
    return tokenizer


def new_model(vocabulary: int) -> "MistralForCausalLM":
    """Random weights of the tiny shape; rows are multiples of 256, as llama.cpp's k-quants want."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(97)
    shape = MistralConfig(
        vocab_size=vocabulary,
        hidden_size=TINY_SHAPE.hidden,
        intermediate_size=TINY_SHAPE.feed_forward,
        num_hidden_layers=TINY_SHAPE.layers,
        num_attention_heads=TINY_SHAPE.heads,
        num_key_value_heads=TINY_SHAPE.kv_heads,
        head_dim=TINY_SHAPE.head_size,
        max_position_embeddings=TINY_SHAPE.context,
        rope_parameters={"rope_type": "default", "rope_theta": TINY_SHAPE.rope_base},
        rms_norm_eps=TINY_SHAPE.rms_epsilon,
        sliding_window=None,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=PAD,
        initializer_range=0.04,
    )
    return MistralForCausalLM(shape)


def build(folder: Path, prompts: list[str], completions: list[str], reporter: Reporter, *, steps: int = STEPS) -> None:
    """Tokenizer and weights into `folder`; with `steps=0` the weights stay random."""
    import torch

    from candletune.base.chat import decision_tokens, encode_example

    threads = torch.get_num_threads()
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    try:
        tokenizer = train_tokenizer([f"{p}{c}" for p, c in zip(prompts, completions, strict=True)])

        def encode(text: str) -> list[int]:
            ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
            return ids

        tokens = decision_tokens(encode)
        bos = tokenizer.bos_token_id
        examples = [encode_example(encode, p, c, tokens, bos) for p, c in zip(prompts, completions, strict=True)]
        model = new_model(len(tokenizer))
        _pretrain(model, examples, reporter, steps)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    finally:
        torch.set_num_threads(threads)
    write_json(folder / "candletune.json", {"version": VERSION, "steps": steps, "examples": len(examples)})
    remove_folder(folder / ".cache")


def _pretrain(model: Any, examples: list[Any], reporter: Reporter, steps: int) -> None:
    """All weights, all tokens: the prompt's own tokens teach numbers, the answer's teach the format."""
    import torch
    from torch.nn.functional import cross_entropy

    from candletune.base.prefix import hidden_states

    if steps == 0:
        return
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    rng = random.Random(5)  # noqa: S311
    model.train()
    with reporter.task("tiny base", steps) as task:
        for _ in range(steps):
            batch = [example.ids for example in rng.sample(examples, BATCH)]
            states, shared = hidden_states(model.model, batch, pad=PAD)
            targets = torch.full((BATCH, states.shape[1]), -100)
            for row, ids in enumerate(batch):
                targets[row, : len(ids) - shared - 1] = torch.tensor(ids[shared + 1 :])
            loss = cross_entropy(model.lm_head(states).flatten(0, 1), targets.flatten(), ignore_index=-100)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            task.advance(note=f"loss {loss.item():.3f}")
    model.eval()
