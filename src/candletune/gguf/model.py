"""Write a base model as GGUF, its adapter merged in or not, tensor by tensor."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from candletune.console import Reporter
from candletune.errors import InputError
from candletune.files import atomic_path, read_json
from candletune.gguf.header import MANIFEST_KEY
from candletune.gguf.metadata import PLAIN_TYPES, add_info, add_shape
from candletune.gguf.names import LINEAR_LAYERS, OTHER_LINEAR_LAYERS, expected_sizes, gguf_name, in_gguf_layout
from candletune.gguf.peft import Adapter, Pair
from candletune.gguf.quantize import file_type, quantized, tensor_types
from candletune.gguf.rope import ROPE_FACTORS, rope_factors, rope_refusal
from candletune.gguf.vocabulary import add_vocabulary, check_vocabulary
from candletune.model_shape import ModelShape, read_shape

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor of the checkpoint: where it lies and its shape (rows first)."""

    name: str
    file: Path
    sizes: tuple[int, ...]


def weights_of(base: Path) -> list[Weight]:
    """The checkpoint's tensors, in the order of its layers; nothing is loaded.

    Raises:
        InputError: no safetensors, a file missing or unreadable, or an index that names what is not there.
    """
    from safetensors import SafetensorError, safe_open

    index = base / "model.safetensors.index.json"
    single = base / "model.safetensors"
    if index.is_file():
        files = sorted({base / file for file in read_json(index)["weight_map"].values()})
    elif single.is_file():
        files = [single]
    else:
        raise InputError(f"{base}: no model.safetensors; only safetensors checkpoints are read")
    weights = []
    for file in files:
        if file.parent != base:
            raise InputError(f"{index}: names a file outside its folder ({file.name}); download the model again")
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():
                    weights.append(Weight(name, file, tuple(tensors.get_slice(name).get_shape())))
        except (FileNotFoundError, SafetensorError, OSError) as error:
            raise InputError(f"{file}: missing or broken ({error}); download the model again") from None
    return sorted(weights, key=_order)


def check_architecture(base: Path, *, writes_base: bool = True, adapted: Sequence[str] = ()) -> ModelShape:
    """Refuse, before anything is trained, a base whose export would be refused afterwards; only headers are read.

    Args:
        base: Hugging Face folder.
        writes_base: whether the base itself will be written as GGUF (no `base.gguf`, or a merged export).
        adapted: linear layers that are to be trained (`train.target_modules`).

    Returns:
        The base's sizes; `architecture.support` says what can be done with it.

    Raises:
        InputError: one line that names what is supported: architecture, sizes, weights' names, tokenizer.
    """
    shape = read_shape(base)
    weights = weights_of(base)
    if writes_base:
        check_writable(base, shape)
    if shape.architecture.complete:
        for weight in weights:
            _mapped(weight, shape)
    if writes_base:
        check_vocabulary(base)
    _check_adapted(base, weights, shape, adapted)
    return shape


def check_writable(base: Path, shape: ModelShape) -> None:
    """Refuse a base that cannot be written as GGUF, by what its config.json says.

    Raises:
        InputError: its architecture is known for adapters only, or its rope scaling cannot be written.
    """
    remedy = "set base.gguf to its GGUF (llama.cpp's converter makes one) and export.kind to lora"
    if not shape.architecture.complete:
        raise InputError(f"{base / 'config.json'}: a {shape.architecture.model_type} base cannot be written; {remedy}")
    if reason := rope_refusal(shape):
        raise InputError(f"{base / 'config.json'}: its base {reason} and cannot be written; {remedy}")


def _check_adapted(base: Path, weights: Sequence[Weight], shape: ModelShape, adapted: Sequence[str]) -> None:
    """Refuse linear layers that the base lacks or whose adapter llama.cpp could not place."""
    there = {weight.name: weight.sizes for weight in weights if weight.name.endswith(".weight")}
    for name in adapted:
        matching = [weight for weight in there if weight.endswith(f".{name}.weight")]
        if not matching:
            raise InputError(
                f"train.target_modules: {base} ({shape.architecture.model_type}) has no {name}; choose among "
                f"{', '.join(sorted(linear_layers(there)))}"
            )
        for weight in matching:
            if gguf_name(weight, shape) is None or not weight.startswith("model.layers."):
                raise InputError(f"{base}: the adapter of {weight} could not be exported; llama.cpp has no such layer")
            if there[weight] != expected_sizes(name, shape):
                raise InputError(
                    f"{base}: {weight} is {there[weight]}, config.json says {expected_sizes(name, shape)}; its adapter "
                    "could not be exported"
                )


def linear_layers(names: Iterable[str]) -> set[str]:
    """Last names of the linear layers among weights' names that an adapter may be trained for."""
    return {name.split(".")[-2] for name in names} & {*LINEAR_LAYERS, *OTHER_LINEAR_LAYERS}


def write_model(
    base: Path,
    target: Path,
    *,
    number_format: str,
    name: str,
    manifest: Mapping[str, Any],
    reporter: Reporter,
    adapter: Adapter | None = None,
) -> None:
    """Write the base, or the base with the adapter merged in float32; memory stays near the largest tensor.

    Args:
        base: Hugging Face folder.
        target: GGUF file, written atomically.
        number_format: llama.cpp's type of the model: F32, F16, BF16, or a quantization such as Q4_K_M, whose tensors
            get the types and the bits that its own quantizer gives them (vectors stay F32).
        name: `general.name`.
        manifest: written as JSON under `candletune.manifest`.
        reporter: progress.
        adapter: merged when given.

    Raises:
        InputError: a tensor is missing or unknown, or architecture or tokenizer cannot be carried.
    """
    import gguf

    shape = read_shape(base)
    check_writable(base, shape)
    weights = [w for w in weights_of(base) if not (shape.tied and w.name == "lm_head.weight")]
    pairs = {f"{pair.module}.weight": pair for pair in adapter.pairs} if adapter else {}
    if lost := sorted(set(pairs) - {weight.name for weight in weights}):
        raise InputError(f"{base}: has no {lost[0]}, which the adapter changes; it was trained on another base model")
    names = [_mapped(weight, shape) for weight in weights]
    kinds = tensor_types(shape, [(n, weight.sizes) for n, weight in zip(names, weights, strict=True)], number_format)
    factors = rope_factors(shape)
    with atomic_path(target) as temporary:
        writer = gguf.GGUFWriter(temporary, shape.architecture.gguf)
        add_shape(writer, shape, name, file_type(number_format))
        add_vocabulary(writer, base, shape)
        writer.add_string(MANIFEST_KEY, json.dumps(dict(manifest), sort_keys=True))
        if factors is not None:
            add_info(writer, ROPE_FACTORS, tuple(factors.shape), gguf.GGMLQuantizationType.F32)
        for mapped, weight in zip(names, weights, strict=True):
            add_info(writer, mapped, weight.sizes, kinds[mapped])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if factors is not None:
            writer.write_tensor_data(factors.numpy())
        with reporter.task(f"write {name} as GGUF", len(weights)) as task:
            for mapped, (weight, tensor) in zip(names, _stream(weights), strict=True):
                if adapter and weight.name in pairs:
                    tensor = _merge(tensor, pairs[weight.name], adapter)
                data = _stored(tensor, kinds[mapped])
                del tensor  # the largest are gigabytes; one copy at a time
                writer.write_tensor_data(in_gguf_layout(weight.name, data, shape))
                task.advance()
        writer.close()


def _merge(tensor: "Tensor", pair: Pair, adapter: Adapter) -> "Tensor":
    import torch

    return tensor.float() + adapter.scale * torch.from_numpy(pair.b @ pair.a)


def _stored(tensor: "Tensor", kind: Any) -> NDArray[Any]:
    """The tensor in a type: blocks, or numbers rounded to nearest even; bfloat16 as bytes, which NumPy lacks."""
    import torch

    if kind.name not in PLAIN_TYPES:
        return quantized(tensor, kind)
    wanted = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[kind.name]
    converted = tensor.to(wanted)
    numbers: NDArray[Any] = (converted.view(torch.uint8) if kind.name == "BF16" else converted).numpy()
    return numbers


def _stream(weights: list[Weight]) -> "Iterator[tuple[Weight, Tensor]]":
    from safetensors import safe_open

    for weight in weights:
        with safe_open(weight.file, framework="pt") as tensors:
            yield weight, tensors.get_tensor(weight.name)


def _mapped(weight: Weight, shape: ModelShape) -> str:
    mapped = gguf_name(weight.name, shape)
    if mapped is None:
        raise InputError(f"{weight.file}: tensor {weight.name} is not one of a {shape.architecture.model_type} model")
    return mapped


def _order(weight: Weight) -> tuple[int, str]:
    parts = weight.name.split(".")
    numbers = [int(part) for part in parts if part.isdecimal()]
    if numbers:
        return numbers[0], weight.name
    return (-1 if "embed" in weight.name else 1 << 30), weight.name
