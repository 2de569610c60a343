"""What axe-core finds on a page."""

from typing import Any


def issues(page: Any, axe: str) -> list[str]:
    """Serious and critical violations, as `rule: element`."""
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{violation['id']}: {node['html'][:120]}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"][:3]
    ]
