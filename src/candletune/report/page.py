"""Rendering: one Jinja environment, escaping on, for the report and the local app."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from candletune.report import text

TEMPLATES = Path(__file__).parent / "templates"


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Templates of this package; whatever comes from a file or a model is escaped."""
    jinja = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("percent", "points", "number", "interval", "moment", "short_hash", "plain", "words"):
        jinja.filters[name] = getattr(text, name)
    jinja.globals["asset"] = asset
    return jinja


def asset(name: str) -> Markup:
    """A style sheet or script of this package, for inlining."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704 - our own file, not input


def render(template: str, /, **values: Any) -> str:
    """Render a template to HTML text."""
    return environment().get_template(template).render(**values)
