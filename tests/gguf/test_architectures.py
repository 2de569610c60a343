"""Every supported architecture travels to llama.cpp: bit for bit, and with the answers of its Transformers model."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapters import make_adapter
from candletune.architectures import ARCHITECTURES
from candletune.console import SilentReporter
from candletune.errors import InputError
from candletune.gguf.adapter import write_adapter
from candletune.gguf.header import read_header
from candletune.gguf.llama_vocabulary import VocabularyOnly
from candletune.gguf.model import check_architecture, write_model
from candletune.gguf.peft import read_adapter
from candletune.model_shape import read_shape
from converters import Conversion, assert_same_metadata, convert, tensors
from random_models import ALL, COMPLETE, OTHERS, linear_layers, random_base, random_model, rule_of

pytestmark = pytest.mark.llamacpp
Maker = Callable[[str], Path]
FORMATS = ("F32", "F16", "BF16")
THREE = (300, 310, 320)
"""Ids that stand for the three decisions."""


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory, texts: tuple[list[str], list[str]]) -> Maker:
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = random_base(name, tmp_path_factory.mktemp("base"), texts[0])
        return made[name]

    return make


@pytest.fixture(scope="module")
def adapters_of(maker: Maker, tmp_path_factory: pytest.TempPathFactory) -> Maker:
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp("adapter")
            made[name] = make_adapter(maker(name), folder, scale=0.15, target_modules=list(linear_layers(name)))
        return made[name]

    return make


@pytest.fixture(scope="module")
def theirs(maker: Maker, adapters_of: Maker, converters: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the converters write: NAME.FORMAT.gguf of bases, NAME.lora.gguf of adapters; all in one process."""
    folder = tmp_path_factory.mktemp("theirs")
    bases = [(name, number_format) for name in COMPLETE for number_format in FORMATS]
    bases += [(name, "F32") for name in OTHERS]
    wanted = [
        Conversion(maker(name), folder / f"{name}.{fmt}.gguf", fmt, rule_of(name), byte_level=name in OTHERS)
        for name, fmt in bases
    ]
    wanted += [
        Conversion(maker(name), folder / f"{name}.lora.gguf", adapter_format(name), adapter=adapters_of(name))
        for name in (*COMPLETE, *OTHERS)
    ]
    convert(converters, *wanted)
    return folder


def adapter_format(name: str) -> str:
    return {"llama": "F16", "qwen2": "BF16"}.get(name, "F32")


def written(base: Path, target: Path, number_format: str = "F32") -> Path:
    write_model(base, target, number_format=number_format, name="x", manifest={}, reporter=SilentReporter())
    return target


def written_adapter(base: Path, adapter: Path, target: Path, number_format: str = "F32") -> Path:
    shape = read_shape(base)
    write_adapter(read_adapter(adapter, shape), shape, target, number_format=number_format, manifest={}, name="x")
    return target


@pytest.mark.parametrize("number_format", FORMATS)
@pytest.mark.parametrize("name", COMPLETE)
def test_base_is_bit_equal(name: str, number_format: str, maker: Maker, theirs: Path, tmp_path: Path) -> None:
    ours, other = written(maker(name), tmp_path / "x.gguf", number_format), theirs / f"{name}.{number_format}.gguf"
    assert tensors(ours) == tensors(other)
    assert_same_metadata(ours, other)
    assert ("rope_freqs.weight" in tensors(ours)) == (name == "llama 3.1")


@pytest.mark.parametrize("name", [*COMPLETE, *OTHERS])
def test_adapter_is_bit_equal(name: str, maker: Maker, adapters_of: Maker, theirs: Path, tmp_path: Path) -> None:
    ours = written_adapter(maker(name), adapters_of(name), tmp_path / "x.gguf", adapter_format(name))
    assert len(tensors(ours)) == 3 * 2 * len(linear_layers(name))
    assert tensors(ours) == tensors(theirs / f"{name}.lora.gguf")
    assert_same_metadata(ours, theirs / f"{name}.lora.gguf")


def probabilities(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Of the three, and of every token, in float64."""
    wide = torch.from_numpy(np.ascontiguousarray(logits)).double()
    return torch.cat([wide[:, list(THREE)].softmax(-1), wide.softmax(-1)], dim=-1).numpy()


def of_llama_cpp(base: Path, adapter: Path | None, rows: Sequence[list[int]]) -> np.ndarray[Any, Any]:
    from llama_cpp import Llama

    lora = None if adapter is None else str(adapter)
    # Keys and values in float32 (type 0): what is compared is the model, not its cache.
    settings: dict[str, Any] = {"type_k": 0, "type_v": 0, "n_threads": 1, "n_threads_batch": 1}
    model = Llama(str(base), lora_path=lora, n_ctx=512, logits_all=True, verbose=False, **settings)
    found = []
    for row in rows:
        model.reset()  # type: ignore[no-untyped-call]
        model.eval(row)
        found.append(np.array(model.scores[len(row) - 1]))
    model.close()
    return probabilities(np.stack(found))


def of_transformers(base: Path, adapter: Path | None, rows: Sequence[list[int]]) -> np.ndarray[Any, Any]:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter))
    model.eval()
    with torch.no_grad():
        logits = [model(input_ids=torch.tensor([row])).logits[0, -1].numpy() for row in rows]
    return probabilities(np.stack(logits))


def rows_of(count: int) -> list[list[int]]:
    """Random prompts, the longest far behind the original context of the scaled rotary embedding."""
    draw = np.random.default_rng(4)
    return [draw.integers(4, 480, size=size).tolist() for size in np.linspace(8, 320, count).astype(int)]


@pytest.mark.parametrize("name", [*COMPLETE, *OTHERS])
def test_llama_cpp_answers_as_transformers(
    name: str, maker: Maker, adapters_of: Maker, theirs: Path, tmp_path: Path
) -> None:
    """Bare and with the adapter; the base of an architecture that we do not write is written by llama.cpp."""
    base, adapter, rows = maker(name), adapters_of(name), rows_of(12 if name in COMPLETE else 8)
    path = written(base, tmp_path / "base.gguf") if name in COMPLETE else theirs / f"{name}.F32.gguf"
    exported = written_adapter(base, adapter, tmp_path / "lora.gguf")
    found = []
    for peft, lora in ((None, None), (adapter, exported)):
        ours, other = of_transformers(base, peft, rows), of_llama_cpp(path, lora, rows)
        assert np.abs(ours - other).max() < 0.001
        found.append(ours)
    assert np.abs(found[0] - found[1]).max() > 0.1, "the adapter changes answers, so that leaving it out is seen"
    assert np.ptp(found[0][:, : len(THREE)], axis=0).min() > 0.1, "prompts differ"


SAMPLES = (
    "Bitcoin rises 3.14% to 71,250.5 USD - it's up!  We'Ve seen\n\n  worse...",
    "Биткоин растёт на 12345%, ETF утверждён",
    "比特币突破70000美元，市场情绪极度贪婪\r\n",
    "ビットコインは上昇、1ドル=155.25円",
    "البيتكوين يرتفع إلى 65000 دولار",
    "बिटकॉइन 5% ऊपर, निवेशक खुश",
    "🚀🚀 to the moon 🇺🇸👩‍👩‍👧 \t tabs  and   spaces ",
)


@pytest.mark.parametrize("name", ["mistral", "llama", "llama, tied", "llama, biases", "qwen2"])
def test_llama_cpp_reads_texts_as_the_tokenizer(
    name: str, maker: Maker, texts: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    base = maker(name)
    tokenizer = AutoTokenizer.from_pretrained(base)
    reader = VocabularyOnly(written(base, tmp_path / "base.gguf"))
    chats = [f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n<tool_call>" for text in SAMPLES]
    try:
        for text in [*SAMPLES, *chats, *texts[0][:20]]:
            assert reader.vocabulary.encode(text) == tokenizer.encode(text, add_special_tokens=False), text
    finally:
        reader.close()


def changed(base: Path, folder: Path, **values: Any) -> Path:
    """The base with other entries in config.json; the other files are linked."""
    folder.mkdir()
    for file in base.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "config.json").unlink()
    config = json.loads((base / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_what_cannot_be_exported_is_known_before_training(maker: Maker, tmp_path: Path) -> None:
    llama, phi = maker("llama"), maker("phi3")
    assert check_architecture(llama, adapted=ALL).architecture.complete
    with pytest.raises(InputError, match=r"a phi3 base cannot be written; set base\.gguf"):
        check_architecture(phi)
    assert not check_architecture(phi, writes_base=False, adapted=("o_proj",)).architecture.complete
    with pytest.raises(
        InputError, match=r"train\.target_modules: .* \(phi3\) has no q_proj; .* gate_up_proj, o_proj, qkv_proj$"
    ):
        check_architecture(phi, writes_base=False, adapted=("o_proj", "q_proj"))
    yarn = changed(llama, tmp_path / "yarn", rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0})
    with pytest.raises(InputError, match=r"has rope scaling yarn and cannot be written; set base\.gguf"):
        check_architecture(yarn)
    assert check_architecture(yarn, writes_base=False).layers == 3
    part = changed(llama, tmp_path / "part", rope_parameters={"rope_theta": 1e4, "partial_rotary_factor": 0.5})
    with pytest.raises(InputError, match="rotates a part of each head only"):
        written(part, tmp_path / "x.gguf")
    wrong = changed(llama, tmp_path / "wrong", intermediate_size=128)
    with pytest.raises(InputError, match=r"gate_proj\.weight is \(96, 64\), config\.json says \(128, 64\)"):
        check_architecture(wrong, writes_base=False, adapted=("gate_proj",))
    scaled = json.loads((maker("llama 3.1") / "config.json").read_text())["rope_parameters"]
    qwen = changed(maker("qwen2"), tmp_path / "qwen", rope_parameters=scaled)
    with pytest.raises(InputError, match=r"Llama 3\.1's rope scaling, which llama\.cpp's qwen2 does not know"):
        check_architecture(qwen)
    broken = changed(maker("llama 3.1"), tmp_path / "broken", rope_parameters=scaled | {"factor": "eight"})
    with pytest.raises(InputError, match=r"config\.json: factor of its rope scaling is 'eight'"):
        check_architecture(broken)


def test_every_architecture_is_held_to_the_converters() -> None:
    tested = {random_model(name).config.model_type for name in (*COMPLETE, *OTHERS)}
    assert tested == {known.model_type for known in ARCHITECTURES}
    complete = {random_model(name).config.model_type for name in COMPLETE}
    assert complete == {known.model_type for known in ARCHITECTURES if known.complete}


@pytest.mark.parametrize("name", [*COMPLETE, *OTHERS])
def test_sizes_are_those_of_the_model(name: str, maker: Maker, tmp_path: Path) -> None:
    """Without `head_dim` too, as many a config.json is written."""
    from transformers import AutoConfig

    base = maker(name)
    config = json.loads((base / "config.json").read_text())
    config.pop("head_dim", None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    meant: Any = AutoConfig.from_pretrained(tmp_path)
    head_size = getattr(meant, "head_dim", None) or meant.hidden_size // meant.num_attention_heads
    assert read_shape(tmp_path).head_size == head_size
    if name in COMPLETE and "biases" not in name:
        model = random_model(name)
        assert read_shape(base).parameters == sum(p.numel() for p in model.parameters())


def test_special_looking_tokens_are_control_tokens(maker: Maker, tmp_path: Path) -> None:
    fields = read_header(written(maker("qwen2"), tmp_path / "base.gguf")).fields
    kinds = dict(zip(fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"], strict=True))
    assert (kinds["<|im_end|>"], kinds["<|fim|>"], kinds["<tool_call>"]) == (3, 3, 4)


def test_the_table_names_every_architecture() -> None:
    """docs/export.md has a row or a place in the list for each, and for no other."""
    text = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    section = text.partition("## Architectures")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", section))
    assert {known.model_type for known in ARCHITECTURES} <= named
    listed = section.partition("Others: ")[2].partition(".\n")[0]
    assert set(re.findall(r"`(\w+)`", listed)) == {known.model_type for known in ARCHITECTURES if not known.complete}
