"""llama.cpp's own converters, run on a folder, and how two GGUF files are compared."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from candletune.gguf.header import read_header
from gguf import GGUFReader

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
    """Type and bytes of every tensor."""
    return {t.name: (t.tensor_type.name, np.ascontiguousarray(t.data).tobytes()) for t in GGUFReader(path).tensors}


def assert_same_metadata(ours: Path, theirs: Path) -> None:
    """Everything their file says about the model, ours says too, with the same value."""
    mine, yours = read_header(ours).fields, read_header(theirs).fields
    said = {key: value for key, value in yours.items() if not key.startswith(NAMING)}
    assert "general.architecture" in said
    assert {key: mine.get(key) for key in said} == said


def run_converter(script: Path, *arguments: str) -> None:
    """Run a converter in a process of its own."""
    done = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@dataclass(frozen=True)
class Conversion:
    """What convert_hf_to_gguf.py is asked for (convert_lora_to_gguf.py with an adapter).

    Attributes:
        base: Hugging Face folder.
        target: GGUF to write.
        number_format: F32, F16 or BF16.
        rule: name of the pre-tokenization: they know tokenizers by a hash only.
        byte_level: take the tokenizer for a byte-level one where the architecture comes with another.
        adapter: PEFT folder.
    """

    base: Path
    target: Path
    number_format: str
    rule: str = "tekken"
    byte_level: bool = False
    adapter: Path | None = None

    @property
    def code(self) -> str:
        """Python that runs it."""
        kind = json.loads((self.base / "config.json").read_text())["architectures"][0]
        script = "convert_hf_to_gguf.py" if self.adapter is None else "convert_lora_to_gguf.py"
        arguments = ["--outfile", str(self.target), "--outtype", self.number_format.lower()]
        arguments += [str(self.base)] if self.adapter is None else ["--base", str(self.base), str(self.adapter)]
        return (
            (f"get_model_class({kind!r}).set_vocab = TextModel._set_vocab_gpt2\n" if self.byte_level else "")
            + f"TextModel.get_vocab_base_pre = lambda self, tokenizer: {self.rule!r}\n"
            + f"sys.argv = {['convert', *arguments]!r}\n"
            + f"runpy.run_path(str(converters / {script!r}), run_name='__main__')\n"
        )


def convert(converters: Path, *wanted: Conversion) -> None:
    """Run the converters in one process, whose imports are most of the time."""
    code = (
        "import runpy, sys\nfrom pathlib import Path\n"
        f"converters = Path({str(converters)!r})\n"
        "sys.path.insert(0, str(converters)); sys.path.insert(1, str(converters / 'gguf-py'))\n"
        "from conversion import get_model_class\nfrom conversion.base import TextModel\n"
        "def missing(self, *_):\n    raise FileNotFoundError\n"
        "TextModel._create_vocab_sentencepiece = missing  # there is no tokenizer.model; spares the package\n"
    )
    code += "".join(conversion.code for conversion in wanted)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
