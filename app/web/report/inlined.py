"""Style and script of the report, within the page; and the policy that lets a browser run these and nothing else."""

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markupsafe import Markup

_STATIC = Path(__file__).parent.parent / "static"
_STYLES = ("vendor/uplot/uPlot.min.css", "octet.css", "report.css")
_LIBRARY = "vendor/uplot/uPlot.iife.min.js"
# Modules, each after those that it imports.
_MODULES = ("written.js", "charts.js", "report.js")

_IMPORT = re.compile(r"^import .*;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export ", re.MULTILINE)


@dataclass(frozen=True)
class Inlined:
    """`style` and `script` as they stand in the page; `policy` allows them by their digests."""

    style: Markup
    script: Markup

    @property
    def policy(self) -> str:
        return (
            f"default-src 'none'; script-src {_digest(self.script)}; style-src {_digest(self.style)};"
            " img-src data:; base-uri 'none'; form-action 'none'"
        )


@cache
def inlined() -> Inlined:
    """Read once: files of the installation."""
    style = "\n".join(_read(name) for name in _STYLES)
    modules = "\n".join(_EXPORT.sub("", _IMPORT.sub("", _read(name))) for name in _MODULES)
    script = f"{_read(_LIBRARY)}\n(() => {{\n{modules}}})();\n"
    for text, end in ((style, "</style"), (script, "</script")):
        if end in text.lower() or "<!--" in text:
            raise ValueError(f"'{end}' would end the element before its end")
    return Inlined(Markup(style), Markup(script))


def _read(name: str) -> str:
    return (_STATIC / name).read_text()


def _digest(text: str) -> str:
    """As a policy names an element of this text (CSP Level 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
