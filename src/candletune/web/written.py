"""Pages that a command has written, shown within the app: the same bytes, with a way back before them."""

from fastapi.responses import HTMLResponse
from markupsafe import Markup

from candletune.web.guard import REPORT_POLICY

_BACK = Markup(
    '<nav aria-label="candletune ui" style="max-width: 76rem; margin: 0 auto; padding: .8rem 1.5rem 0; '
    'font-size: .92rem"><a href="{target}">‹ {text}</a></nav>\n'
)


def written_page(html: bytes, target: str, text: str) -> HTMLResponse:
    """A page of one file, under the policy that allows what it holds itself and no request.

    Args:
        html: the page.
        target: where the link leads.
        text: what the link is called.
    """
    back = _BACK.format(target=target, text=text).encode()
    return HTMLResponse(
        html.replace(b"<header", back + b"<header", 1), headers={"content-security-policy": REPORT_POLICY}
    )
