"""Pages read as a browser reads them: tags that nest, tables as rows of cells, links."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta", "link", "br", "img", "hr", "input", "wbr"}
_UNSEEN = {"script", "style"}


@dataclass
class Table:
    """Cells as text, a list for each row; `scopes` of its header cells."""

    rows: list[list[str]] = field(default_factory=list)
    scopes: list[str | None] = field(default_factory=list)


class Page(HTMLParser):
    """A parsed page; raises AssertionError where tags do not nest."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.tables: list[Table] = []
        self._open: list[str] = []
        self._nested: list[Table] = []
        self.feed(source)
        self.close()
        assert self._open == []

    @property
    def links(self) -> list[str]:
        return [value for name, value in self.attributes if name == "href"]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append(Table())
            self._nested.append(self.tables[-1])
        if tag == "tr":
            self._nested[-1].rows.append([])
        if tag in {"th", "td"}:
            self._nested[-1].rows[-1].append("")
        if tag == "th":
            self._nested[-1].scopes.append(dict(attrs).get("scope"))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "table":
            self._nested.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in _UNSEEN:
            return
        self.text += data
        innermost = next((tag for tag in reversed(self._open) if tag in {"table", "th", "td"}), None)
        if innermost in {"th", "td"}:
            self._nested[-1].rows[-1][-1] += data
