"""What Sphinx's extensions leave in a rendered page and no reader needs, taken out of _build/html;
the version where _config.yml wants it.

sphinx-thebe names an address outside the book and declares it twice, an error in the console; the
bibliography's list claims a role that its entries do not have.
"""

import re
from pathlib import Path

from rs5m import __version__

THEBE = re.compile(
    r' *<script>const THEBE_JS_URL.*?</script>\n?| *<script[^>]*src="[^"]*sphinx-thebe\.js[^"]*">'
    r"</script>\n?"
)
ROLES = re.compile(r' role="list"(?= class="citation-list")| role="doc-biblioentry"')


def page(text: str) -> str:
    """The HTML of a page without them."""
    return ROLES.sub("", THEBE.sub("", text)).replace("{rs5m version}", __version__)


def site(folder: Path) -> None:
    """The same for every page of a folder, in place."""
    for file in sorted(folder.glob("*.html")):
        text = file.read_text(encoding="utf-8")
        if (done := page(text)) != text:
            file.write_text(done, encoding="utf-8")
