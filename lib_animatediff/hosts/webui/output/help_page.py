"""docs/troubleshooting.md as a page of the WebUI, with an anchor for each error code."""

from __future__ import annotations

import html
import re
from pathlib import Path

SOURCE = Path(__file__).parents[4] / "docs" / "troubleshooting.md"
_CODE = re.compile(r"\bAD-[A-Z]+\d+\b")
_FIRST_CELL = re.compile(r"(?<=<tr>\n<td>).*?(?=</td>)")
_HEADING = re.compile(r"<h(\d)>(.*?)</h\1>")
_LINK_ELSEWHERE = re.compile(r'<a href="(?!#)[^"]*">(.*?)</a>', re.DOTALL)  # to other files, which are not served
_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 75rem; margin: 0 auto; padding: 1rem; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 2rem; }
th, td { border: 1px solid GrayText; padding: 0.4rem 0.6rem; text-align: left; vertical-align: top; }
td:first-child { white-space: nowrap; }
tr:target, tr:has(:target), .line:target { outline: 3px solid Highlight; outline-offset: -3px; }
code { overflow-wrap: anywhere; }
pre { white-space: pre-wrap; }
:target { scroll-margin-top: 3rem; }
"""


def help_page(source: Path = SOURCE) -> str:
    """The page as HTML. Without the file, it says so; without a Markdown library, it shows the file's text."""
    try:
        text = source.read_text(encoding="utf-8")
    except OSError:
        text = "The file docs/troubleshooting.md is missing. Install the extension again."
    body = _rendered(text) or _plain(text)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>AnimateDiff: troubleshooting</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _rendered(text: str) -> str | None:
    """The text rendered by the Markdown library that gradio needs; None without it. HTML in the text is escaped."""
    try:
        from markdown_it import MarkdownIt
    except ImportError:
        return None
    page = str(MarkdownIt("commonmark", {"html": False}).enable("table").render(text))
    page = _LINK_ELSEWHERE.sub(r"\1", page)
    page = _HEADING.sub(lambda found: f'<h{found[1]} id="{_slug(found[2])}">{found[2]}</h{found[1]}>', page)
    return _FIRST_CELL.sub(lambda cell: _CODE.sub(_anchor, cell[0]), page)


def _plain(text: str) -> str:
    """The text as it is, with an anchor at the first line of each code."""
    lines, seen = [], set[str]()
    for line in html.escape(text).splitlines():
        code = _CODE.match(line.removeprefix("| "))
        is_first = code is not None and code[0] not in seen
        if code is not None:
            seen.add(code[0])
        lines.append(f'<span class="line" id="{code[0]}">{line}</span>' if code is not None and is_first else line)
    return "<pre>" + "\n".join(lines) + "</pre>"


def _anchor(code: re.Match[str]) -> str:
    return f'<span id="{code[0]}">{code[0]}</span>'


def _slug(heading: str) -> str:
    """The anchor that links inside the file use for a heading."""
    return re.sub(r"[^\w -]", "", re.sub(r"<.*?>", "", heading).lower()).replace(" ", "-")
