"""What every page is made with: colours, the charts' script, and plotly.js (its basic bundle, MIT).

The bundle comes from npm, as `docs/_plotly.py` fetches it. It draws lines and bars, which is all that the pages need,
and is a quarter of the full one.
"""

from functools import lru_cache
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
PLOTLY: Final = "plotly-basic.min.js"
PLOTLY_PACKAGE: Final = "plotly.js-basic-dist-min@4.1.1"
PLOTLY_SHA256: Final = "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"


@lru_cache(maxsize=8)
def asset(name: str) -> str:
    """A style sheet or script of this package, for inlining: it never ends the element that it stands in."""
    return (FOLDER / name).read_text(encoding="utf-8").replace("</script", "<\\/script")
