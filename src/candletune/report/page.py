"""Rendering: one Jinja environment, escaping on, for the report and the local app."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from candletune import assets
from candletune.dataset.card import TEMPLATES as CARD
from candletune.report import text

TEMPLATES = Path(__file__).parent / "templates"


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Templates of this package; whatever comes from a file or a model is escaped."""
    jinja = Environment(
        loader=FileSystemLoader([TEMPLATES, CARD, assets.FOLDER]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("percent", "points", "number", "interval", "moment", "short_hash", "plain", "words"):
        jinja.filters[name] = getattr(text, name)
    jinja.globals |= {"asset": asset, "plotly": assets.PLOTLY, "roles": text.NAMES}
    return jinja


def asset(name: str) -> Markup:
    """A style sheet or script, of this package or of `assets`, for inlining."""
    own = TEMPLATES / name
    text_ = own.read_text(encoding="utf-8") if own.is_file() else assets.asset(name)
    return Markup(text_)  # noqa: S704 - our own file, not input


def render(template: str, /, **values: Any) -> str:
    """Render a template to HTML text."""
    return environment().get_template(template).render(**values)
