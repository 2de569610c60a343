"""Is the dataset what it says? Rows rebuilt from cut candles, labels recomputed, overlap and duplicates counted.

Fear & Greed and news of every row are held against the context files by a reading of the audit's own.
"""

from candletune.artifacts import DatasetAudit, DatasetManifest
from candletune.config import Config
from candletune.console import Reporter
from candletune.dataset.card import write_card
from candletune.dataset.files import read_examples
from candletune.dataset.overlap import describe_dataset
from candletune.dataset.own_reading import context_problems
from candletune.dataset.rebuild import rebuild
from candletune.hashes import sha256_path
from candletune.runs import RunFolder


def audit(config: Config, run: RunFolder, count: int, reporter: Reporter) -> DatasetAudit:
    """Audit a run's dataset; writes `audit/audit.json` and `audit/card.html`, outside what training depends on."""
    examples = read_examples(run)
    manifest = DatasetManifest.read(run.dataset_manifest)
    description = describe_dataset(config, examples.meta, examples.prompts)
    problems = rebuild(config, examples, count, reporter) + context_problems(config, examples.meta)
    if overlapping := description.train_rows_overlapping_eval:
        problems.append(f"{overlapping} train rows share outcome candles with eval rows (dataset.split=random leaks)")
    result = DatasetAudit(
        **dict(description),
        rebuilt=min(count, len(examples.meta)),
        problems=tuple(problems),
        clean=not problems,
        jsonl_sha256=sha256_path(run.jsonl),
    )
    result.write(run.audit)
    write_card(run.audit_card, manifest, result, examples, config)
    return result
