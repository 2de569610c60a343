"""Every block type against the gguf package's own numpy, bit for bit."""

import numpy as np
import pytest
import torch

import gguf
from block_data import HALVES, extreme_blocks, random_blocks
from candletune.gguf.dequantize import BLOCK_TYPES, dequantize
from gguf import GGMLQuantizationType

KINDS = pytest.mark.parametrize("kind", BLOCK_TYPES, ids=lambda kind: kind.name)


def assert_as_the_reference(data: np.ndarray, kind: GGMLQuantizationType) -> None:
    expected = gguf.quants.dequantize(data, kind).astype(np.float32)
    found = dequantize(torch.from_numpy(data), kind).numpy()
    assert found.shape == expected.shape
    assert np.array_equal(found.view(np.uint32), expected.view(np.uint32))


@KINDS
def test_expands_as_the_reference_does(kind: GGMLQuantizationType) -> None:
    assert_as_the_reference(random_blocks(kind, rows=7, blocks=9), kind)


@pytest.mark.parametrize("kind", [k for k in BLOCK_TYPES if k.name in HALVES and k.name != "F16"], ids=lambda k: k.name)
def test_extreme_scales_and_codes_stay_equal(kind: GGMLQuantizationType) -> None:
    assert_as_the_reference(extreme_blocks(kind), kind)
