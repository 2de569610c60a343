"""Random blocks of every GGUF type, scales drawn as numbers."""

import numpy as np

import gguf
from candletune.gguf.dequantize import BLOCK_TYPES
from gguf import GGMLQuantizationType

HALVES = {
    "F16": (0,),
    "Q8_0": (0,),
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "IQ4_NL": (0,),
    "IQ4_XS": (0,),
}
"""Where a block keeps its float16 scales: drawn as numbers, since random bits would often be no number."""


def random_blocks(kind: GGMLQuantizationType, rows: int, blocks: int) -> np.ndarray:
    """Rows of blocks: (rows, bytes a row), uint8."""
    rng = np.random.default_rng(int(kind) + 1)
    block = BLOCK_TYPES[kind]
    if kind.name in ("F32", "BF16"):
        values = rng.standard_normal((rows, blocks * 64)).astype(np.float32)
        return gguf.quants.quantize(values, kind).view(np.uint8).reshape(rows, -1)
    data = rng.integers(0, 256, (rows * blocks, block.bytes), dtype=np.uint8)
    for offset in HALVES[kind.name]:
        scales = rng.standard_normal(rows * blocks).astype(np.float16) * np.float16(0.1)
        data[:, offset : offset + 2] = scales[:, None].view(np.uint8)
    return data.reshape(rows, -1)


def extreme_blocks(kind: GGMLQuantizationType) -> np.ndarray:
    """Rows of one block: all bits set and all cleared, subnormal and largest scales; none for types without scales."""
    rows = []
    for fill in (0, 255):
        for scale in (6e-8, 65504.0, -1.0):
            row = np.full(BLOCK_TYPES[kind].bytes, fill, dtype=np.uint8)
            for offset in HALVES[kind.name]:
                row[offset : offset + 2] = np.array([scale], dtype=np.float16).view(np.uint8)
            rows.append(row)
    return np.array(rows)
