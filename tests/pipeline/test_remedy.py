"""What a run advises when its export is not the trained model."""

import pytest

from candletune.artifacts import CertificateCriterion, VerifySummary
from candletune.config import load_config
from candletune.stages.pipeline import remedy


@pytest.mark.parametrize(
    ("kind", "failed", "advice"),
    [
        ("merged", "decisions as Transformers", "export.quantize"),
        ("merged", "largest probability gap", "export.quantize"),
        ("merged", "answers that parse", "export again"),
        ("adapter", "decisions as Transformers", "export again"),
    ],
)
def test_rounding_has_another_remedy_than_a_broken_file(kind: str, failed: str, advice: str) -> None:
    criteria = tuple(
        CertificateCriterion(name=name, value=0.8, limit="at least 0.95", passed=name != failed)
        for name in ("empty answers", failed)
    )
    summary = VerifySummary(passed=False, file="x.gguf", base="base.gguf", prompts=10, criteria=criteria, findings=())
    assert advice in remedy(load_config(None, [f"export.kind={kind}"]), summary)
