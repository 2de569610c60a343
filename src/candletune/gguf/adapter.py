"""Write a LoRA as GGUF: what `llama_cpp.Llama(lora_path=...)` loads over the base."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from candletune.files import atomic_path
from candletune.gguf.header import MANIFEST_KEY
from candletune.gguf.metadata import PLAIN_TYPES
from candletune.gguf.names import gguf_name, in_gguf_layout
from candletune.gguf.peft import Adapter, AdapterRefused
from candletune.model_shape import ModelShape


def write_adapter(
    adapter: Adapter, shape: ModelShape, target: Path, *, number_format: str, manifest: Mapping[str, Any], name: str
) -> None:
    """Write the adapter's GGUF atomically.

    Args:
        adapter: checked adapter.
        shape: the base's sizes.
        target: file to write.
        number_format: F32, F16 or BF16.
        manifest: written as JSON under `candletune.manifest` (hashes of base, template, dataset, priors...).
        name: `general.name`.

    Raises:
        AdapterRefused: a layer has no llama.cpp name.
    """
    import gguf

    kind = gguf.GGMLQuantizationType[number_format]
    with atomic_path(target) as temporary:
        writer = gguf.GGUFWriter(temporary, shape.architecture.gguf)
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, adapter.gguf_alpha)
        writer.add_name(name)
        writer.add_file_type(PLAIN_TYPES[number_format])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        writer.add_string(MANIFEST_KEY, json.dumps(dict(manifest), sort_keys=True))
        for pair in adapter.pairs:
            mapped = gguf_name(f"{pair.module}.weight", shape)
            if mapped is None:
                raise AdapterRefused(f"{pair.module}: llama.cpp has no such layer")
            for suffix, matrix in (("a", pair.a), ("b", in_gguf_layout(pair.module, pair.b, shape))):
                data = gguf.quants.quantize(np.ascontiguousarray(matrix, dtype=np.float32), kind)
                writer.add_tensor(f"{mapped}.lora_{suffix}", data, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
