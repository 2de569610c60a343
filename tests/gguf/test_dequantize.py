"""Every block type against the gguf package's own numpy, bit for bit."""

import numpy as np
import pytest
import torch

import gguf
from candletune.gguf.dequantize import BLOCK_TYPES, dequantize
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


@pytest.mark.parametrize("kind", BLOCK_TYPES, ids=lambda kind: kind.name)
def test_expands_as_the_reference_does(kind: GGMLQuantizationType) -> None:
    data = random_blocks(kind, rows=7, blocks=9)
    expected = gguf.quants.dequantize(data, kind).astype(np.float32)
    found = dequantize(torch.from_numpy(data), kind).numpy()
    assert found.shape == expected.shape
    assert np.array_equal(found.view(np.uint32), expected.view(np.uint32))


def test_extreme_scales_and_codes_stay_equal() -> None:
    """All bits set and all cleared, subnormal and largest scales."""
    for kind in BLOCK_TYPES:
        if kind.name not in HALVES or kind.name == "F16":
            continue
        for fill in (0, 255):
            for scale in (6e-8, 65504.0, -1.0):
                data = np.full((1, BLOCK_TYPES[kind].bytes), fill, dtype=np.uint8)
                for offset in HALVES[kind.name]:
                    data[0, offset : offset + 2] = np.array([scale], dtype=np.float16).view(np.uint8)
                expected = gguf.quants.dequantize(data, kind).astype(np.float32)
                found = dequantize(torch.from_numpy(data), kind).numpy()
                assert np.array_equal(found.view(np.uint32), expected.view(np.uint32)), (kind.name, fill, scale)
