"""GGUF files near a good one: damaged with sense as a list of entries, and without any as bytes."""

import json
import random
import struct
from dataclasses import dataclass, field
from typing import Any

from fuzz.damage import NUMBERS, TEXTS, damaged, hostile_value

CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
KEYS = (
    "general.alignment",
    "general.type",
    "general.tags",
    "adapter.alora.invocation_tokens",
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.bos_token_id",
)
TENSORS = (
    "blk.0.attn_q.weight",
    "blk.0.attn_q.weight.lora_a",
    "token_embd.weight.lora_b",
    "blk.99.attn_q.weight.lora_a",
    "output_norm.weight",
    ".lora_a",
    "x" * 70,
)


@dataclass
class Pair:
    """A metadata entry: `kind` is its GGUF type; of an array the value is (kind of entries, entries)."""

    key: str
    kind: int
    value: Any


@dataclass
class Info:
    """A tensor: sizes fastest first, ggml type, its data, and the offset that is announced (None: the right one)."""

    name: str
    sizes: tuple[int, ...]
    kind: int
    data: bytes
    offset: int | None = None


@dataclass
class File:
    """A GGUF before it is written."""

    pairs: list[Pair] = field(default_factory=list)
    tensors: list[Info] = field(default_factory=list)
    version: int = 3

    def written(self) -> bytes:
        """The file's bytes."""
        head = b"GGUF" + struct.pack("<IQQ", self.version, len(self.tensors), len(self.pairs))
        head += b"".join(_text(pair.key) + struct.pack("<I", pair.kind) + _value(pair) for pair in self.pairs)
        place, data = 0, b""
        for info in self.tensors:
            head += _text(info.name) + struct.pack(f"<I{len(info.sizes)}Q", len(info.sizes), *info.sizes)
            head += struct.pack("<IQ", info.kind, place if info.offset is None else info.offset)
            data += info.data + b"\0" * (-len(info.data) % 32)
            place = len(data)
        return head + b"\0" * (-len(head) % 32) + data


def _text(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(raw)) + raw


def _value(pair: Pair) -> bytes:
    if pair.kind == STRING:
        return _text(pair.value)
    if pair.kind == ARRAY:
        kind, entries = pair.value
        head = struct.pack("<IQ", kind, len(entries))
        return head + b"".join(_text(e) if kind == STRING else _number(kind, e) for e in entries)
    return _number(pair.kind, pair.value)


def _number(kind: int, value: float) -> bytes:
    code = CODES.get(kind, "I")
    if code == "?":
        return struct.pack("<?", bool(value))
    if code in "fd":
        return struct.pack(f"<{code}", float(value))
    bits = 8 * struct.calcsize(code)
    whole = int(value) % 2**bits
    return struct.pack(f"<{code}", whole - 2**bits if code.islower() and whole >= 2 ** (bits - 1) else whole)


MANIFEST = {
    "version": 1,
    "base_sha256": "0" * 64,
    "template_sha256": "1" * 64,
    "train_end": "2025-01-01T00:00:00+00:00",
    "class_prior": {"BUY": 0.3, "SELL": 0.3, "HOLD": 0.4},
    "natural_prior": [0.2, 0.2, 0.6],
    "chat": {"before": "<s>[INST]", "after": "[/INST]", "end": "</s>"},
    "context_sources": {"headlines": 0.5},
    "decision_ids": [3, 4, 5],
    "calibration": {"temperature": 1.1, "offsets": [0.1, 0.0, -0.1], "rows": 100, "log_loss": 1.0},
}


def lora() -> File:
    """A LoRA as candletune writes one."""
    pairs = [
        Pair("general.architecture", STRING, "llama"),
        Pair("general.type", STRING, "adapter"),
        Pair("adapter.type", STRING, "lora"),
        Pair("adapter.lora.alpha", 6, 16.0),
        Pair("general.name", STRING, "x"),
        Pair("general.file_type", 4, 0),
        Pair("candletune.manifest", STRING, json.dumps(MANIFEST)),
    ]
    tensors = []
    for name in ("blk.0.attn_q.weight", "blk.0.attn_v.weight"):
        tensors += [
            Info(f"{name}.lora_a", (16, 4), 0, bytes(16 * 4 * 4)),
            Info(f"{name}.lora_b", (4, 16), 0, bytes(16 * 4 * 4)),
        ]
    return File(pairs, tensors)


def base() -> File:
    """A base with a vocabulary, its weights left out but for one."""
    words = [f"w{number}" for number in range(64)]
    pairs = [
        Pair("general.architecture", STRING, "llama"),
        Pair("llama.block_count", 4, 1),
        Pair("llama.attention.head_count_kv", ARRAY, (4, [2])),
        Pair("tokenizer.ggml.model", STRING, "gpt2"),
        Pair("tokenizer.ggml.tokens", ARRAY, (STRING, words)),
        Pair("tokenizer.ggml.scores", ARRAY, (6, [0.0] * 64)),
        Pair("tokenizer.ggml.token_type", ARRAY, (5, [1] * 64)),
        Pair("tokenizer.ggml.merges", ARRAY, (STRING, ["a b"] * 32)),
        Pair("tokenizer.chat_template", STRING, "{{ messages }}"),
    ]
    return File(pairs, [Info("token_embd.weight", (32, 4), 8, bytes(34 * 4))])


def changed(rng: random.Random, file: File) -> File:
    """With one to three entries that say something else."""
    for _ in range(rng.randint(1, 3)):
        way = rng.randrange(9)
        if way <= 3 and file.pairs:
            _change_pair(rng, rng.choice(file.pairs))
        elif way <= 6 and file.tensors:
            _change_tensor(rng, rng.choice(file.tensors))
        elif way == 7 and file.pairs:
            file.pairs.insert(rng.randrange(len(file.pairs) + 1), _new_pair(rng))
        elif file.tensors:
            rng.choice((file.tensors.pop, lambda n: file.tensors.append(file.tensors[n])))(
                rng.randrange(len(file.tensors))
            )
    return file


def _change_pair(rng: random.Random, pair: Pair) -> None:
    if pair.key == "candletune.manifest" and rng.random() < 0.8:
        pair.kind, said = STRING, dict(MANIFEST)
        said[rng.choice(list(MANIFEST))] = hostile_value(rng)
        way = rng.randrange(4)
        try:
            pair.value = ("[" * 40_000, f'{{"rows": {"9" * 5_000}}}', json.dumps(said), json.dumps(said))[way]
        except ValueError:  # an integer that Python won't write
            pair.value = "{"
        return
    other = _new_pair(rng)
    if rng.random() < 0.7:
        pair.kind, pair.value = other.kind, other.value
    else:
        pair.key = other.key


def _new_pair(rng: random.Random) -> Pair:
    key = rng.choice((*KEYS, rng.choice(TEXTS), f"k{rng.randrange(1_000)}"))
    kind = rng.choice([*CODES, STRING, ARRAY, 13, 77])
    if kind == STRING:
        return Pair(key, kind, rng.choice(TEXTS))
    if kind == ARRAY:
        entries = rng.choice([*CODES, STRING])
        count = rng.choice((0, 1, 5, 2_000, 20_000))
        return Pair(key, kind, (entries, [rng.choice(TEXTS[:9]) if entries == STRING else rng.choice(NUMBERS)] * count))
    return Pair(
        key, kind, rng.choice((*NUMBERS, float("nan"), float("inf"))) if kind in (6, 12) else rng.choice(NUMBERS)
    )


def _change_tensor(rng: random.Random, info: Info) -> None:
    way = rng.randrange(5)
    if way == 0:
        info.kind = rng.randrange(45)
    elif way == 1:
        info.sizes = tuple(rng.choice((*info.sizes, 1, 4, 16, rng.choice(NUMBERS))) for _ in range(rng.randint(1, 4)))
    elif way == 2:
        info.name = rng.choice((*TENSORS, rng.choice(TEXTS)))
    elif way == 3:
        info.offset = rng.choice((0, 32, 64, 31, rng.choice(NUMBERS)))
    else:
        info.data = rng.randbytes(rng.choice((0, 4, len(info.data))))


def make(rng: random.Random) -> bytes:
    """A file."""
    file = rng.choice((lora, lora, base))()
    if rng.random() < 0.6:
        written = changed(rng, file).written()
        return written if rng.random() < 0.8 else damaged(rng, written)
    return damaged(rng, file.written())
