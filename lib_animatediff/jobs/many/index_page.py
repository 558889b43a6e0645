"""The page that shows the clips of a manifest: one HTML file beside them, which loads nothing from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from lib_animatediff.video.formats import FORMATS

_VIDEOS = tuple(FORMATS[key].suffix for key in ("mp4", "webm"))
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem; }}
ul {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: 1.25rem; list-style: none;
  padding: 0; }}
img, video {{ display: block; width: 100%; height: auto; border-radius: 4px; background: #8883; }}
li p {{ margin: .4rem 0 0; overflow-wrap: anywhere; }}
small {{ opacity: .75; }}
table {{ border-collapse: collapse; }}
td, th {{ text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{summary}</p>
<ul>
{clips}
</ul>
{failures}
</body>
</html>
"""


@dataclass(frozen=True)
class ShownClip:
    """A finished clip.

    Attributes:
        number: in the manifest.
        file: path relative to the page.
        image: path of what shows it: the file itself, or the first frame in a folder.
    """

    number: int
    file: str
    image: str
    title: str
    seed: int


@dataclass(frozen=True)
class ShownFailure:
    """A row that was not rendered, with its sentence."""

    number: int
    place: str
    sentence: str


def index_page(title: str, clips: Sequence[ShownClip], failures: Sequence[ShownFailure]) -> str:
    """The page as HTML."""
    return _PAGE.format(
        title=html.escape(title),
        summary=f"Clips: {len(clips)}. Not rendered: {len(failures)}.",
        clips="\n".join(map(_clip, sorted(clips, key=lambda clip: clip.number))),
        failures=_table(sorted(failures, key=lambda failure: failure.number)),
    )


def _clip(clip: ShownClip) -> str:
    name, title = html.escape(quote(clip.file)), html.escape(clip.title)
    return (
        f"<li>{_player(clip.image, title)}<p>{title}<br><small>{clip.number} · seed {clip.seed} · "
        f'<a href="{name}">{html.escape(clip.file)}</a></small></p></li>'
    )


def _player(file: str, title: str) -> str:
    name = html.escape(quote(file))
    if file.lower().endswith(_VIDEOS):
        return f'<video src="{name}" controls loop muted preload="none" aria-label="{title}"></video>'
    return f'<img src="{name}" alt="{title}" loading="lazy">'


def _table(failures: Sequence[ShownFailure]) -> str:
    if not failures:
        return ""
    rows = "\n".join(
        f"<tr><td>{one.number}</td><td>{html.escape(one.place)}</td><td>{html.escape(one.sentence)}</td></tr>"
        for one in failures
    )
    return f"<h2>Not rendered</h2>\n<table>\n<tr><th>Clip</th><th>Row</th><th>Reason</th></tr>\n{rows}\n</table>"
