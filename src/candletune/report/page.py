"""Rendering: one Jinja environment, escaping on, for the report and the local app."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from candletune.errors import InputError
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
    for name in ("percent", "points", "number", "growth", "interval", "moment", "short_hash", "plain", "words"):
        jinja.filters[name] = getattr(text, name)
    jinja.globals |= {"asset": asset, "plotly": plotly, "roles": text.NAMES}
    return jinja


def asset(name: str) -> Markup:
    """A style sheet or script of this package, for inlining."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704 - our own file, not input


@lru_cache(maxsize=1)
def plotly() -> Markup:
    """plotly.js as the installed package carries it, found without importing the package.

    Raises:
        InputError: the package lacks it.
    """
    spec = find_spec("plotly")
    path = Path(spec.origin).parent / "package_data" / "plotly.min.js" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise InputError("plotly: plotly.min.js is missing from the installed package; pip install --force plotly")
    return Markup(path.read_text(encoding="utf-8").replace("</script", "<\\/script"))  # noqa: S704 - a package's file


def render(template: str, /, **values: Any) -> str:
    """Render a template to HTML text."""
    return environment().get_template(template).render(**values)
