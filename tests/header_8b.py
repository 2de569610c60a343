"""What a GGUF of 8B says of itself, without the gigabytes."""

from pathlib import Path

from candletune.gguf.header import Header, TensorEntry

Q4_K, Q6_K, F32 = 12, 14, 0
CELLS = 2 * 2080
"""Tokens whose keys and values are kept."""


def header_of_8b() -> Header:
    """Ministral-8B's, as Q4_K_M."""
    parts = {"attn_q": (4096, 4096), "attn_k": (4096, 1024), "attn_v": (4096, 1024), "attn_output": (4096, 4096)}
    parts |= {"ffn_gate": (4096, 12288), "ffn_up": (4096, 12288), "ffn_down": (12288, 4096)}
    named: list[tuple[str, tuple[int, ...], int]] = [("token_embd.weight", (4096, 131072), Q4_K)]
    named += [("output.weight", (4096, 131072), Q6_K)]
    named += [("output_norm.weight", (4096,), F32)]
    named += [(f"blk.{n}.{part}.weight", sizes, Q4_K) for n in range(36) for part, sizes in parts.items()]
    tensors, offset = [], 0
    for name, sizes, kind in named:
        entry = TensorEntry(name, sizes, kind, offset)
        tensors.append(entry)
        offset += entry.nbytes
    fields = {
        "general.architecture": "llama",
        "llama.block_count": 36,
        "llama.embedding_length": 4096,
        "llama.feed_forward_length": 12288,
        "llama.attention.head_count": 32,
        "llama.attention.head_count_kv": 8,
        "llama.attention.key_length": 128,
    }
    return Header(Path("8b.gguf"), fields, tuple(tensors), 0)
