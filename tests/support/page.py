"""Reading of HTML pages, to check what a reader needs in them."""

import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "hr"}
URL = re.compile(r"""(?:src|href)=["'](?!data:|#)|url\((?!#)|@import""")


class _Structure(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: list[dict[str, int]] = []
        self.unnamed: list[str] = []
        self.titles: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag == "section":
            self.sections.append({})
        elif self.sections:
            self.sections[-1][tag] = self.sections[-1].get(tag, 0) + 1
        if (tag == "img" and not values.get("alt")) or (
            tag == "svg" and not (values.get("aria-label") and values.get("role") == "img")
        ):
            self.unnamed.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] == "title" and "svg" in self.open:
            self.titles.append(data)


def checked_page(text: str) -> list[str]:
    """Check that a page is well-formed, self-contained and readable without its images.

    Returns:
        The texts that the mouse pointer shows.
    """
    assert text.startswith("<!doctype html>")
    structure = _Structure()
    structure.feed(text)
    assert structure.open == []
    assert structure.unnamed == []
    assert structure.sections
    for section in structure.sections:
        assert section.get("h2") == 1
        assert section.get("p", 0) >= 1, "a section has no text"
    assert not URL.search(text), URL.search(text)
    assert text.count("prefers-color-scheme: dark") >= 1
    return structure.titles
