"""How many layers llama.cpp gets on a card: as many as fit beside their keys and values.

llama.cpp itself takes the number it is told and ends with "out of memory". What is counted here: tensors by the file's
own sizes, keys and values, the buffers of one pass, and a reserve for what CUDA itself takes.
"""

from dataclasses import dataclass

from candletune.engines.rounding import expanded_bytes, key_bytes
from candletune.gguf.ggml import free_on_cards
from candletune.gguf.header import Header

GIB = 2**30
RESERVE = 0.5 * GIB
"""Left alone on the card: kernels that are loaded when first used, cuBLAS, fragments."""
PASS_TOKENS = 512
"""Of one pass (`n_ubatch`)."""
ALL = 2**20
"""What llama.cpp is told for all layers."""


@dataclass(frozen=True, slots=True)
class CardLayers:
    """What goes onto the card.

    Attributes:
        told: number for llama.cpp (`n_gpu_layers`).
        total: layers of the model, the output's among them.
    """

    told: int
    total: int

    @property
    def partly(self) -> bool:
        """Whether the card holds a part of the model only."""
        return 0 < self.told < self.total

    @property
    def text(self) -> str:
        """For people: `12 of 37 layers on the card`."""
        if self.told >= self.total:
            return "all layers on the card"
        return f"{self.told} of {self.total} layers on the card" if self.told else "no layer on the card"

    def fewer(self) -> "CardLayers":
        """A fifth less, after it did not fit after all."""
        return CardLayers(max(0, min(self.told, self.total) * 4 // 5), self.total)


class CardRoom:
    """What may be used of the card, counted from before an engine loads anything.

    Args:
        vram_gib: most that the engine may use; none: what the card has free.
    """

    def __init__(self, vram_gib: float | None) -> None:
        self._cap = None if vram_gib is None else vram_gib * GIB
        self._before = free_on_cards()

    @property
    def left(self) -> float | None:
        """Bytes now; None where llama.cpp has no card."""
        free = free_on_cards()
        if free is None or self._before is None:
            return None
        return free if self._cap is None else min(free, self._cap - (self._before - free))


def card_layers(header: Header, wanted: int, cells: int, left: float | None) -> CardLayers:
    """What goes onto the card.

    Args:
        header: of the base's GGUF.
        wanted: `engine.gpu_layers`; -1: as many as fit.
        cells: tokens whose keys and values are kept.
        left: bytes that may be used on the card; None: there is none.
    """
    if wanted >= 0:
        return CardLayers(wanted, layer_count(header))
    if left is None:
        return CardLayers(0, layer_count(header))
    return layers_that_fit(header, cells, left)


def context_fits(header: Header, card: CardLayers, cells: int, at_once: int, left: float | None) -> bool:
    """Whether the card has room for a context of the layers that are on it.

    Args:
        header: of the base's GGUF.
        card: what is on the card.
        cells: tokens whose keys and values are kept.
        at_once: tokens of one pass.
        left: bytes that may be used on the card; None: there is none.
    """
    layers = min(card.told, card.total - 1)
    return left is None or not layers or layers * cache_bytes(header, cells) + _pass_bytes(header, at_once) <= left


def layers_that_fit(header: Header, cells: int, free: float) -> CardLayers:
    """As many of a model's layers as a card holds.

    Args:
        header: of the base's GGUF.
        cells: tokens whose keys and values are kept.
        free: bytes that may be used on the card.
    """
    blocks, output = _layer_bytes(header, cells)
    total = len(blocks) + 1
    left = free - RESERVE - _pass_bytes(header, PASS_TOKENS)
    if sum(blocks) + output <= left:
        return CardLayers(ALL, total)
    told = 0
    for count in range(1, total):
        # Versions of llama.cpp count the output's layer first or last; neither may overflow.
        last_blocks = sum(blocks[-count:])
        with_output = output + sum(blocks[len(blocks) - count + 1 :])
        if max(last_blocks, with_output) > left:
            break
        told = count
    return CardLayers(told, total)


def _layer_bytes(header: Header, cells: int) -> tuple[list[float], float]:
    """Of each layer with its keys and values, and of the output."""
    sizes: dict[int, float] = {}
    output = embedding = 0.0
    for entry in header.tensors:
        first, _, rest = entry.name.partition(".")
        if first == "blk":
            number = int(rest.partition(".")[0])
            sizes[number] = sizes.get(number, 0.0) + entry.nbytes
        elif first.startswith("output"):
            output += entry.nbytes
        elif entry.name == "token_embd.weight":
            embedding = entry.nbytes  # stays in main memory, unless it is the output too
    if not any(entry.name == "output.weight" for entry in header.tensors):
        output += embedding
    return [sizes[number] + cache_bytes(header, cells) for number in sorted(sizes)], output


def cache_bytes(header: Header, cells: int) -> float:
    """Of a layer's keys and values."""
    return 2.0 * key_bytes(header) * cells * _key_width(header)


def layer_count(header: Header) -> int:
    """Layers of a model as llama.cpp counts them: its blocks, and the output's."""
    blocks = header.fields.get(f"{header.fields.get('general.architecture')}.block_count")
    return (blocks if isinstance(blocks, int) else 0) + 1


def _key_width(header: Header) -> int:
    """Numbers of a layer's keys for one token; as many are its values."""
    name = header.fields.get("general.architecture")

    def size(key: str, default: int) -> int:
        value = header.fields.get(f"{name}.{key}", default)
        return value if isinstance(value, int) and value > 0 else default

    hidden, heads = size("embedding_length", 1), size("attention.head_count", 1)
    return size("attention.head_count_kv", heads) * size("attention.key_length", hidden // heads)


def _pass_bytes(header: Header, tokens: int) -> float:
    """Buffers of one pass: logits, the widest activations, a layer brought for it, a matrix expanded for it."""
    name = header.fields.get("general.architecture")
    largest = max((entry.nbytes for entry in header.tensors if entry.name.startswith("blk.")), default=0)
    vocabulary = max((entry.sizes[-1] for entry in header.tensors if entry.name == "token_embd.weight"), default=0)
    wide = header.fields.get(f"{name}.feed_forward_length", 0)
    hidden = header.fields.get(f"{name}.embedding_length", 0)
    widths = sum(value for value in (3 * wide, 8 * hidden) if isinstance(value, int))
    # Logits are kept of the last tokens only.
    return 4.0 * (min(tokens, PASS_TOKENS) * vocabulary + tokens * widths) + largest + expanded_bytes(header)
