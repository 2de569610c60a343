"""Our GGUF files hold, bit for bit, what llama.cpp's own converters write."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters import ALL, make_adapter
from candletune.console import SilentReporter
from candletune.gguf.adapter import write_adapter
from candletune.gguf.header import read_header
from candletune.gguf.model import write_model
from candletune.gguf.peft import read_adapter
from candletune.model_shape import read_shape
from converters import Conversion, assert_same_metadata, convert, run_converter, tensors

pytestmark = pytest.mark.llamacpp
FORMATS = ("F32", "F16", "BF16")

CASES: dict[str, dict[str, Any]] = {
    "plan": {},
    "rank 16, attention": {"r": 16, "lora_alpha": 32, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]},
    "all linear": {"r": 8, "lora_alpha": 16, "target_modules": list(ALL)},
    "alpha is not 2r": {"r": 16, "lora_alpha": 12, "target_modules": ["q_proj", "v_proj"]},
}


@pytest.fixture(scope="module")
def adapters(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """PEFT folders by case."""
    folder = tmp_path_factory.mktemp("adapters")
    return {case: make_adapter(random_base, folder / case, **CASES[case]) for case in CASES}


@pytest.fixture(scope="module")
def theirs(
    random_base: Path, adapters: dict[str, Path], converters: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What the converters write: FORMAT.gguf of the base, CASE.FORMAT.gguf of adapters; all in one process."""
    folder = tmp_path_factory.mktemp("theirs")
    wanted = [Conversion(random_base, folder / f"{fmt}.gguf", fmt) for fmt in FORMATS]
    wanted += [
        Conversion(random_base, folder / f"{case}.{fmt}.gguf", fmt, adapter=adapter)
        for case, adapter in adapters.items()
        for fmt in FORMATS
    ]
    convert(converters, *wanted)
    return folder


@pytest.mark.parametrize("number_format", FORMATS)
@pytest.mark.parametrize("case", CASES)
def test_adapter_is_bit_equal(
    case: str, number_format: str, random_base: Path, adapters: dict[str, Path], theirs: Path, tmp_path: Path
) -> None:
    shape = read_shape(random_base)
    ours, other = tmp_path / "ours.gguf", theirs / f"{case}.{number_format}.gguf"
    write_adapter(read_adapter(adapters[case], shape), shape, ours, number_format=number_format, manifest={}, name="x")
    assert tensors(ours) == tensors(other)
    assert_same_metadata(ours, other)


@pytest.mark.parametrize("number_format", FORMATS)
def test_base_is_bit_equal(number_format: str, random_base: Path, theirs: Path, tmp_path: Path) -> None:
    ours, other = tmp_path / "ours.gguf", theirs / f"{number_format}.gguf"
    write_model(random_base, ours, number_format=number_format, name="x", manifest={}, reporter=SilentReporter())
    assert tensors(ours) == tensors(other)
    assert_same_metadata(ours, other)


def test_merged_is_bit_equal(random_base: Path, converters: Path, tmp_path: Path) -> None:
    """The oracle converts what PEFT merged; both merges happen in float32."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make_adapter(random_base, tmp_path / "adapter", target_modules=list(ALL))
    model = AutoModelForCausalLM.from_pretrained(random_base, dtype=torch.float32)
    merged = tmp_path / "merged"
    PeftModel.from_pretrained(model, folder).merge_and_unload().save_pretrained(merged)
    AutoTokenizer.from_pretrained(random_base).save_pretrained(merged)
    ours, theirs = tmp_path / "ours.gguf", tmp_path / "theirs.gguf"
    shape = read_shape(random_base)
    adapter = read_adapter(folder, shape)
    write_model(
        random_base,
        ours,
        number_format="F32",
        name="x",
        manifest={},
        reporter=SilentReporter(),
        adapter=adapter,
    )
    convert(converters, Conversion(merged, theirs, "F32"))
    mine, yours = tensors(ours), tensors(theirs)
    assert mine.keys() == yours.keys()
    for name, (kind, data) in mine.items():
        assert kind == yours[name][0]
        left, right = np.frombuffer(data, np.float32), np.frombuffer(yours[name][1], np.float32)
        # BLAS may add the rank-8 products in another order than PEFT's kernel does: one unit in the last place.
        np.testing.assert_allclose(left, right, rtol=0, atol=2e-7, err_msg=name)


@pytest.fixture(scope="module")
def pieces_base(
    random_base: Path, texts: tuple[list[str], list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The random base with a SentencePiece tokenizer (BPE, byte fallback) a little smaller than its vocabulary."""
    trainer = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed").SentencePieceTrainer
    folder = tmp_path_factory.mktemp("pieces")
    for name in ("config.json", "model.safetensors"):
        shutil.copy(random_base / name, folder)
    (folder / "corpus.txt").write_text("\n".join([*texts[0], *texts[1]]))
    trainer.train(
        input=str(folder / "corpus.txt"),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=900,
        byte_fallback=True,
        normalization_rule_name="identity",  # as Llama's and Mistral's
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        control_symbols=["[INST]", "[/INST]"],
        minloglevel=2,
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "bos_token": "<s>",
                "eos_token": "</s>",
                "unk_token": "<unk>",
                "add_bos_token": True,
                "added_tokens_decoder": {
                    "1": {"content": "<s>", "special": True},
                    "900": {"content": "<pad>", "special": True},
                    "901": {"content": "\u2581\u2581", "special": False},
                },
            }
        )
    )
    return folder


def test_sentencepiece_base_is_bit_equal(pieces_base: Path, converters: Path, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.gguf", tmp_path / "theirs.gguf"
    shape = read_shape(pieces_base)
    write_model(pieces_base, ours, number_format="F16", name="x", manifest={}, reporter=SilentReporter())
    script = converters / "convert_hf_to_gguf.py"
    run_converter(script, "--outfile", str(theirs), "--outtype", "f16", str(pieces_base))
    assert tensors(ours) == tensors(theirs)
    assert_same_metadata(ours, theirs)
    said = read_header(ours).fields
    assert said["tokenizer.ggml.model"] == "llama"
    assert len(said["tokenizer.ggml.tokens"]) == shape.vocabulary > 900


def test_sentencepiece_ids_are_the_tokenizers(
    pieces_base: Path, texts: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    """llama.cpp reads prompts as SentencePiece itself does."""
    import sentencepiece
    from llama_cpp import Llama

    target = tmp_path / "pieces.gguf"
    write_model(pieces_base, target, number_format="F16", name="x", manifest={}, reporter=SilentReporter())
    model = Llama(str(target), vocab_only=True, verbose=False)
    processor = sentencepiece.SentencePieceProcessor(str(pieces_base / "tokenizer.model"))
    for text in [*texts[0][:20], *texts[1][:20], "5 € – übrig"]:
        assert model.tokenize(text.encode(), add_bos=False, special=False) == processor.encode(text)
