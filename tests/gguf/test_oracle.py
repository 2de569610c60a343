"""Our GGUF files hold, bit for bit, what llama.cpp's own converters write."""

import json
import shutil
import subprocess
import sys
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
from gguf import GGUFReader

pytestmark = pytest.mark.llamacpp

CASES: dict[str, dict[str, Any]] = {
    "plan": {},
    "rank 16, attention": {"r": 16, "lora_alpha": 32, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]},
    "all linear": {"r": 8, "lora_alpha": 16, "target_modules": list(ALL)},
    "alpha is not 2r": {"r": 16, "lora_alpha": 12, "target_modules": ["q_proj", "v_proj"]},
}
# What they take from the folder's name and the model card; ours are set by us.
NAMING = (
    "general.name",
    "general.tags",
    "general.size_label",
    "general.finetune",
    "general.basename",
    "general.base_model.",
)


def tensors(path: Path) -> dict[str, tuple[str, bytes]]:
    return {t.name: (t.tensor_type.name, np.ascontiguousarray(t.data).tobytes()) for t in GGUFReader(path).tensors}


def assert_same_metadata(ours: Path, theirs: Path) -> None:
    """Everything their file says about the model, ours says too, with the same value."""
    mine, yours = read_header(ours).fields, read_header(theirs).fields
    said = {key: value for key, value in yours.items() if not key.startswith(NAMING)}
    assert "general.architecture" in said
    assert {key: mine.get(key) for key in said} == said


def run_converter(script: Path, *arguments: str) -> None:
    done = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("number_format", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("case", CASES)
def test_adapter_is_bit_equal(
    case: str, number_format: str, random_base: Path, converters: Path, tmp_path: Path
) -> None:
    folder = make_adapter(random_base, tmp_path / "adapter", **CASES[case])
    shape = read_shape(random_base)
    ours, theirs = tmp_path / "ours.gguf", tmp_path / "theirs.gguf"
    write_adapter(read_adapter(folder, shape), shape, ours, number_format=number_format, manifest={}, name="x")
    script = converters / "convert_lora_to_gguf.py"
    arguments = ["--base", str(random_base), "--outfile", str(theirs), "--outtype", number_format.lower()]
    run_converter(script, *arguments, str(folder))
    assert tensors(ours) == tensors(theirs)
    assert_same_metadata(ours, theirs)


@pytest.mark.parametrize("number_format", ["F32", "F16", "BF16"])
def test_base_is_bit_equal(number_format: str, random_base: Path, converters: Path, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.gguf", tmp_path / "theirs.gguf"
    write_model(random_base, ours, number_format=number_format, name="x", manifest={}, reporter=SilentReporter())
    convert_model(converters, random_base, theirs, number_format)
    assert tensors(ours) == tensors(theirs)
    assert_same_metadata(ours, theirs)


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
    convert_model(converters, merged, theirs, "F32")
    mine, yours = tensors(ours), tensors(theirs)
    assert mine.keys() == yours.keys()
    for name, (kind, data) in mine.items():
        assert kind == yours[name][0]
        left, right = np.frombuffer(data, np.float32), np.frombuffer(yours[name][1], np.float32)
        # BLAS may add the rank-8 products in another order than PEFT's kernel does: one unit in the last place.
        np.testing.assert_allclose(left, right, rtol=0, atol=2e-7, err_msg=name)


def convert_model(converters: Path, base: Path, target: Path, number_format: str) -> None:
    """Run convert_hf_to_gguf.py, told that the pre-tokenization is Tekken's: it knows tokenizers by a hash only."""
    code = (
        "import runpy, sys\n"
        f"sys.path.insert(0, {str(converters)!r}); sys.path.insert(1, {str(converters / 'gguf-py')!r})\n"
        "from conversion.base import TextModel\n"
        "TextModel.get_vocab_base_pre = lambda self, tokenizer: 'tekken'\n"
        "def missing(self, *_):\n    raise FileNotFoundError\n"
        "TextModel._create_vocab_sentencepiece = missing  # there is no tokenizer.model; spares the package\n"
        f"sys.argv = ['convert', '--outfile', {str(target)!r}, '--outtype', {number_format.lower()!r}, {str(base)!r}]\n"
        f"runpy.run_path({str(converters / 'convert_hf_to_gguf.py')!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


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
