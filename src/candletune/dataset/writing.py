"""The dataset folder, whole or not at all."""

from pathlib import Path

from candletune.artifacts import DatasetManifest
from candletune.config import Config
from candletune.dataset.card import write_card
from candletune.dataset.files import CARD, JSONL, MANIFEST, META, NATURAL, Examples, write_examples
from candletune.dataset.manifest import Made, describe
from candletune.dataset.rows import add_prompts
from candletune.files import atomic_folder


def write_dataset(target: Path, config: Config, made: Made) -> DatasetManifest:
    """Write the folder in place of the one that is there; returns the manifest.

    `lora_training.jsonl` holds the messages, `lora_training.meta.parquet` the facts behind them row for row,
    `natural_eval.parquet` eval rows at the base rates, `manifest.json` how it was made, `card.html` all of it for a
    person.
    """
    with atomic_folder(target) as folder:
        jsonl_sha256 = write_examples(folder / JSONL, made.prompts, made.completions)
        made.meta.write_parquet(folder / META)
        add_prompts(made.natural, made.template).write_parquet(folder / NATURAL)
        manifest = describe(config, made, jsonl_sha256)
        manifest.write(folder / MANIFEST)
        examples = Examples(made.prompts, made.completions, made.meta)
        write_card(folder / CARD, manifest, manifest.audit, examples, config)
    return manifest
