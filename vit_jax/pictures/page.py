"""The page of an album: one HTML file with everything in it; no network, no script."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path

from vit_jax.pictures.album import Album, Picture
from vit_jax.runtime.output import well_formed

_NAME = "index.html"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; background: #fff; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin: 2.5rem 0 0.3rem; }
p { margin: 0.3rem 0 0.8rem; max-width: 48rem; }
img { max-width: 100%; height: auto; border: 1px solid #ddd; }
table { border-collapse: collapse; margin: 0.5rem 0; }
td, th { padding: 0.15rem 1.2rem 0.15rem 0; text-align: left; border-bottom: 1px solid #ddd;
         vertical-align: top; }
td.figure, th.figure { text-align: right; font-variant-numeric: tabular-nums; }
"""

Table = tuple[str, Sequence[Sequence[str]]]  # heading, rows; the first row names the columns

_START = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="vit_jax">
"""


def write_page(album: Album, title: str, tables: Sequence[Table] = ()) -> Path:
    """Writes `index.html` beside the pictures of an album.

    Args:
      album: its pictures are embedded.
      title: of the page.
      tables: shown after the first picture; what follows a row's first cell stands to the right.

    Returns:
      The file.
    """
    shown = [_picture(album, picture) for picture in album.pictures]
    parts = [*shown[:1], *map(_table, tables), *shown[1:], _missing(album)]
    text = (
        f'{_START}<meta name="viewport" content="width=device-width">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n{''.join(parts)}</body>\n</html>\n"
    )
    album.folder.mkdir(parents=True, exist_ok=True)
    file = album.folder / _NAME
    partial = file.with_suffix(".html.part")
    partial.write_text(well_formed(text), "utf-8")
    partial.replace(file)
    return file


def foreign_file(folder: Path, pictures: Sequence[str]) -> str | None:
    """Returns a file that an album would replace, and that is of no earlier one; None without.

    Pictures are an album's if its page lies beside them.

    Args:
      folder: of the album; it need not exist.
      pictures: names of the files that it may write besides its page.
    """
    page = folder / _NAME
    if page.is_file():
        with page.open(encoding="utf-8", errors="replace") as content:
            return None if content.read(len(_START)) == _START else _NAME
    return next((name for name in (_NAME, *pictures) if (folder / name).exists()), None)


def _picture(album: Album, picture: Picture) -> str:
    data = base64.b64encode((album.folder / picture.file).read_bytes()).decode()
    heading = html.escape(picture.heading)
    return (
        f"<h2>{heading}</h2>\n<p>{html.escape(picture.says)}</p>\n"
        f'<img alt="{heading}" src="data:image/png;base64,{data}">\n'
    )


def _table(table: Table) -> str:
    heading, (names, *rows) = table
    lines = [_row("th", names), *(_row("td", row) for row in rows)]
    return f"<h2>{html.escape(heading)}</h2>\n<table>\n{''.join(lines)}</table>\n"


def _row(tag: str, cells: Sequence[str]) -> str:
    first, *rest = map(html.escape, cells)
    figures = "".join(f'<{tag} class="figure">{cell}</{tag}>' for cell in rest)
    return f"<tr><{tag}>{first}</{tag}>{figures}</tr>\n"


def _missing(album: Album) -> str:
    if not album.missing:
        return ""
    lines = (f"<li>{html.escape(name)}: {html.escape(why)}</li>\n" for name, why in album.missing)
    return f"<h2>Not drawn</h2>\n<ul>\n{''.join(lines)}</ul>\n"
