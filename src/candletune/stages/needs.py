"""What each stage will need of card, memory and disk, from config.json and the configuration alone.

Estimates for a preflight: nothing is loaded, nothing is measured. Numbers are GiB of 2**30 bytes; a margin is part of
them. A stage that can spread over card, memory and disk says the least it works with.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from candletune.base.find import given_gguf, served_gguf, trained_gguf
from candletune.config import Config
from candletune.errors import InputError
from candletune.gguf.ggml import free_on_cards
from candletune.gguf.header import read_header
from candletune.gguf.shape import header_shape
from candletune.model_shape import ModelShape, read_shape

GIB = 2**30
BATCH_CELLS, BATCH_TOKENS = 512, 2048
"""Of `engine.batch`: tokens of a prompt with its answer, and of a pass (see `engines/batches.py`)."""
PROCESS_GIB = 1.5
"""Python with torch, Transformers and llama.cpp loaded, before any model."""
CUDA_GIB = 0.5
"""A CUDA context with its libraries."""
TOKENS, MARGIN = 330, 1.1
"""Tokens of a typical example under Ministral's tokenizer; estimates are multiplied by the margin."""
FOUR_BIT_BYTES = 0.516
FORMAT_BITS = {
    "F32": 32.0,
    "F16": 16.0,
    "BF16": 16.0,
    "Q8_0": 8.5,
    "Q6_K": 6.6,
    "Q5_K_M": 5.7,
    "Q4_K_M": 4.9,
    "Q4_K_S": 4.6,
    "Q3_K_M": 3.9,
    "Q2_K": 3.2,
}
"""Bits a weight of common llama.cpp types; others count as Q8_0."""
SLOTS = 2
"""Sequences whose keys and values llama.cpp's engine keeps."""
MINISTRAL_8B = ModelShape(
    hidden=4096,
    feed_forward=12288,
    layers=36,
    heads=32,
    kv_heads=8,
    head_size=128,
    vocabulary=131072,
    context=32768,
    rms_epsilon=1e-5,
    rope_base=1e8,
    sliding_window=32768,
    tied=False,
)
"""Assumed of a base that is not on this machine yet (config.json of mistralai/Ministral-8B-Instruct-2410)."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a stage needs at its peak.

    Attributes:
        stage: its name.
        vram_gib: of the card; 0 when it does not use one.
        ram_gib: of main memory, its process included.
        disk_gib: of new files.
        why: what the numbers are made of, in one line.
    """

    stage: str
    vram_gib: float
    ram_gib: float
    disk_gib: float
    why: str


@dataclass(frozen=True, slots=True)
class KnownBase:
    """The base as far as it is known without loading it.

    Attributes:
        shape: its sizes.
        path: its GGUF, or the folder that trains or that the GGUF will be written from; None when it is not on this
            machine.
        packed_gib: of the blocks that training works on, where it works on a GGUF's.
    """

    shape: ModelShape
    path: Path | None
    packed_gib: float | None = None

    @property
    def text(self) -> str:
        """How the explanation names it."""
        return f"{self.shape.parameters_text} weights" + ("" if self.path else " (assumed: not here yet)")


def known_base(config: Config) -> KnownBase:
    """The base's sizes: from its GGUF, its folder, the hub's cache, the tiny base's constants, or Ministral-8B's.

    Raises:
        InputError: its architecture cannot be exported, or there is no such GGUF.
    """
    gguf = trained_gguf(config)
    if gguf is None:
        return known_source(config)
    if gguf.is_file() or served_gguf(config) is not None:
        shape = header_shape(read_header(gguf))
        item = 2 if _on_card(config) and config.train.bf16 else 4
        expanded = shape.parameters * item / GIB
        packed = gguf.stat().st_size / GIB if config.train.quantization != "none" else expanded
        return KnownBase(shape, gguf, packed)
    source = known_source(config)
    return replace(source, packed_gib=_written_gib(config, source.shape))


def _written_gib(config: Config, shape: ModelShape) -> float:
    """Of the base GGUF that the base stage writes."""
    return shape.parameters * _bits(config.base.written_type) / 8 / GIB


def known_source(config: Config) -> KnownBase:
    """What the base GGUF is written from: `base.model` in safetensors, or a given GGUF where that is the whole base.

    Raises:
        InputError: there is no such GGUF.
    """
    name = config.base.model
    if config.base.is_gguf and (given := given_gguf(config)) is not None:
        return KnownBase(header_shape(read_header(given)), given)
    if name == "tiny":
        from candletune.base.tiny import TINY_SHAPE

        return KnownBase(TINY_SHAPE, Path())
    folder = Path(name).expanduser()
    if folder.is_dir():
        return KnownBase(read_shape(folder), folder)
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(name, "config.json", revision=config.base.revision)
    except HFValidationError:
        cached = None
    if isinstance(cached, str):
        return KnownBase(read_shape(Path(cached).parent), Path(cached).parent)
    return KnownBase(MINISTRAL_8B, None)


def base_needs(config: Config) -> Needs:
    """The `base` stage: tensor by tensor, so memory stays near the largest one; disk holds file and download."""
    if served_gguf(config) is not None:
        return Needs("base", 0.0, PROCESS_GIB, 0.0, "the base GGUF is given; nothing is written")
    source = known_source(config)
    size = _written_gib(config, source.shape)
    parts = [f"base GGUF {size:.1f} GiB as {config.base.written_type}"]
    if source.path is None:
        parts.append(f"the download of base.model {2 * source.shape.parameters / GIB:.1f} GiB")
    disk = MARGIN * size + (0.0 if source.path else 2 * source.shape.parameters / GIB)
    largest = source.shape.vocabulary * source.shape.hidden * 4 * 3 / GIB
    why = f"{source.text}; {', '.join(parts)}; three copies of the largest tensor in memory"
    return Needs("base", 0.0, PROCESS_GIB + largest, disk, why)


def train_needs(config: Config) -> Needs:
    """The `train` stage: the smallest way of working of the memory plan on a card, the reference path elsewhere."""
    base = known_base(config)
    shape, train = base.shape, config.train
    trained = train.lora_rank * len(train.target_modules) * shape.layers * (shape.hidden + shape.feed_forward)
    weight = FOUR_BIT_BYTES if train.quantization != "none" else (2 if _on_card(config) and train.bf16 else 4)
    item = 2 if _on_card(config) and train.bf16 else 4
    model = shape.layers * shape.layer_parameters * weight + shape.table_parameters * item
    if base.packed_gib is not None:  # one layer's expanded matrices and the head's beside the blocks
        model = base.packed_gib * GIB + (shape.layer_parameters + shape.vocabulary * shape.hidden) * item
    # The base stage has downloaded what it wrote the GGUF from.
    downloads = base.path is None and served_gguf(config) is not None
    disk = 3 * trained * 16 / GIB + (2 * shape.parameters / GIB if downloads else 0.0)
    adapters = f"checkpoints {3 * trained * 16 / GIB:.2f} GiB" + (", the download of base.model" if downloads else "")
    if _on_card(config):
        card = _card_plan(config, base) or MARGIN * (model + 16 * trained + _activations(config, shape, 8, item)) / GIB
        why = f"{base.text}, base {model / GIB:.1f} GiB on the card, the rest the smallest micro-batch; {adapters}"
        return Needs("train", card + CUDA_GIB, PROCESS_GIB + 3 * MARGIN, disk, why)
    micro = train.batch_size or train.effective_batch
    work = _activations(config, shape, micro, item) + 16 * trained
    why = f"{base.text}, base {model / GIB:.1f} GiB, {micro} examples at once {work / GIB:.1f} GiB; {adapters}"
    return Needs("train", 0.0, PROCESS_GIB + MARGIN * (model + work) / GIB, disk, why)


def export_needs(config: Config) -> Needs:
    """The `export` stage: tensor by tensor, so memory stays near the largest one; disk holds what is written."""
    base, written, parts = known_base(config), 0.0, []
    if config.export.kind == "merged" or (config.export.fallback and not config.base.is_gguf):
        written = base.shape.parameters * _bits(config.export.quantize) / 8 / GIB
        parts.append(f"merged model {written:.1f} GiB as {config.export.quantize}")
    largest = base.shape.vocabulary * base.shape.hidden * 4 * 3 / GIB
    why = f"{base.text}; {', '.join(parts) or 'the adapter alone'}; three copies of the largest tensor in memory"
    return Needs("export", 0.0, PROCESS_GIB + largest, MARGIN * written + 0.1, why)


def verify_needs(config: Config) -> Needs:
    """The `verify` stage: llama.cpp first, then the model as trained, which is streamed where it is not quantized."""
    base = known_base(config)
    card, memory, text = _llama_cpp(config, base, with_merged=False)
    if config.verify.reference == "none":
        return Needs("verify", card, memory, 0.1, f"{base.text}; {text}; no reference")
    item = 2 if _on_card(config) and config.train.bf16 else 4
    working = _activations(config, base.shape, 32, item, layers=1) / GIB
    layer = max(base.shape.layer_parameters, base.shape.vocabulary * base.shape.hidden) * item / GIB
    packed = base.packed_gib or 0.0
    if base.packed_gib is None and config.train.quantization != "none":
        tables = base.shape.vocabulary * base.shape.hidden * (1 if base.shape.tied else 2)
        packed = ((base.shape.parameters - tables) * FOUR_BIT_BYTES + tables * item) / GIB
    trained = MARGIN * (working + (1 if packed else 2) * layer + packed)
    if _on_card(config):
        card, memory = max(card, trained + CUDA_GIB), max(memory, PROCESS_GIB + 2 * layer)
    else:
        memory = max(memory, PROCESS_GIB + trained)
    rest = "" if packed else " at least, the rest of it streamed"
    why = f"{base.text}; {text}; then the model as trained, {trained:.1f} GiB{rest}"
    return Needs("verify", card, memory, 0.1, why)


def replay_needs(config: Config) -> Needs:
    """The `replay` stage: llama.cpp over the base, and beside it the merged model where that is the candidate."""
    base = known_base(config)
    if config.engine.url:
        return Needs("replay", 0.0, PROCESS_GIB, 0.2, "the model is in the servers of engine.url")
    card, memory, text = _llama_cpp(config, base, with_merged=config.export.kind == "merged")
    return Needs("replay", card, memory, 0.2, f"{base.text}; {text}")


NEEDS: dict[str, Callable[[Config], Needs]] = {
    "base": base_needs,
    "train": train_needs,
    "export": export_needs,
    "verify": verify_needs,
    "replay": replay_needs,
}
"""stage -> its estimate; the stages that are not here need no more than a process."""


def _on_card(config: Config) -> bool:
    import torch

    return config.train.device != "cpu" and bool(torch.cuda.is_available())


def _bits(name: str) -> float:
    return FORMAT_BITS.get(name.upper(), FORMAT_BITS["Q8_0"])


def _activations(config: Config, shape: ModelShape, rows: int, item: int, *, layers: int | None = None) -> float:
    """Bytes that a pass over `rows` examples holds: all layers' for training, one's for scoring."""
    tokens = rows * min(TOKENS, config.train.max_sequence_length)
    a_layer = 8 * shape.hidden + 4 * shape.feed_forward
    if layers is None and config.train.gradient_checkpointing and item == 2:
        return tokens * item * (shape.layers * shape.hidden + a_layer)
    return tokens * item * a_layer * (shape.layers if layers is None else layers)


def _card_plan(config: Config, base: KnownBase) -> float | None:
    """GiB of the least budget for which the fast engine has a plan; None where it is not used."""
    if config.train.backend not in ("auto", "fast") or not base.shape.architecture.complete:
        return None
    packed = None
    if base.packed_gib is not None and config.train.quantization != "none":
        packed = base.packed_gib * GIB
    if base.path is None or not (base.path.is_file() or (base.path / "config.json").is_file()):
        return None
    from candletune.training.fast.plan import preview

    low, high = 0.0, 1024.0
    while high - low > 0.05:
        middle = (low + high) / 2
        try:
            preview(base.shape, config.train, middle * GIB, packed=packed)
            high = middle
        except InputError:
            low = middle
    return high


def _llama_cpp(config: Config, base: KnownBase, *, with_merged: bool) -> tuple[float, float, str]:
    """(card, memory, text) of llama.cpp with its context over the base, or over base and merged model."""
    shape = base.shape
    given = served_gguf(config)
    if given is not None and given.is_file():
        weights = given.stat().st_size / GIB
    else:
        weights = _written_gib(config, shape)
    cells = (config.engine.context + 32) * SLOTS
    if config.engine.batch > 1:  # the default leaves it when there is no room
        cells += (config.engine.batch + 1) * BATCH_CELLS
    context = cells * shape.layers * shape.kv_heads * shape.head_size * 2 * 2 / GIB + 0.3
    if config.engine.batch > 1:
        context += BATCH_TOKENS * 4 * (8 * shape.hidden + 3 * shape.feed_forward) / GIB
    count = 1
    if with_merged:
        weights, count = weights + shape.parameters * _bits(config.export.quantize) / 8 / GIB, 2
    share = _card_share(config, weights + count * context, shape.layers + 1)
    card = share * (weights + count * context) + (CUDA_GIB if share else 0.0)
    memory = PROCESS_GIB + (1 - share) * weights + (0.0 if share == 1 else count * context)
    where = f"{share:.0%} of it on the card" if share else "in main memory"
    return card, memory, f"GGUF {weights:.1f} GiB and context {count * context:.1f} GiB, {where}"


def _card_share(config: Config, gib: float, layers: int) -> float:
    """How much of a model llama.cpp puts on the card: the layers that are set, or as many as fit what may be used."""
    import llama_cpp

    wanted = config.engine.gpu_layers
    if not llama_cpp.llama_supports_gpu_offload() or wanted == 0:
        return 0.0
    if wanted > 0:
        return min(1.0, wanted / layers)
    free = (free_on_cards() or 0) / GIB
    room = min(free, config.train.vram_gib or free) - CUDA_GIB - MARGIN
    return min(1.0, max(0.0, int(room / gib * layers) / layers))
