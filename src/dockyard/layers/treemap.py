"""A picture of an image: rectangles as large as what they stand for, in one HTML or SVG file.

Rules: rectangles are laid out squarified (Bruls, Huizing, van Wijk, "Squarified Treemaps", 2000);
nothing is loaded from elsewhere, and there is no script. What is too small to see is gathered as
"other". Text from the image is escaped.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from dockyard.layers.weigh import spare_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dockyard.layers.read import Contents, Held
    from dockyard.layers.weigh import Weights

WIDTH, HEIGHT = 1200, 700
_SMALLEST = 0.0008  # Share of the picture below which things are gathered.
_DEEPEST = 6
_TITLE = 15  # Height of a folder's title line.
_COLOURS = {
    "CUDA libraries": "#7cb518",
    "libraries": "#4f8fc0",
    "code": "#f2c14e",
    "bytecode": "#c9a227",
    "models": "#9b5de5",
    "programs": "#5fb3b3",
    "package information": "#b8b8b8",
    "other": "#9aa5b1",
    "caches": "#e4572e",
    "temporary files and logs": "#e4572e",
    "version control": "#e4572e",
    "tests": "#f08a5d",
    "headers and static libraries": "#f08a5d",
    "documentation": "#f4a896",
    "deleted or replaced": "#b80c09",
    "duplicates": "#d64550",
}
_PALETTE = ("#4f8fc0", "#f2c14e", "#7cb518", "#9b5de5", "#5fb3b3", "#f08a5d", "#c97b84", "#88a096")


@dataclass(slots=True)
class Node:
    """A part of the picture: bytes by kind, and the parts inside."""

    name: str
    size: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    parts: dict[str, Node] = field(default_factory=dict)

    def add(self, path: Sequence[str], size: int, kind: str) -> None:
        """Add a file below this node."""
        node = self
        for name in (*path, ""):
            node.size += size
            node.kinds[kind] = node.kinds.get(kind, 0) + size
            if name:
                node = node.parts.setdefault(name, Node(name))


Rectangle = tuple[float, float, float, float]


def squarified(sizes: Sequence[float], area: Rectangle) -> list[Rectangle]:
    """A rectangle (x, y, width, height) in `area` for each size; sizes fall and are above zero."""
    x, y, width, height = area
    total = sum(sizes)
    found: list[Rectangle] = []
    if total <= 0 or width <= 0 or height <= 0:
        return [(x, y, 0.0, 0.0)] * len(sizes)
    scale = width * height / total
    at = 0
    while at < len(sizes):
        side = min(width, height)
        row = [sizes[at] * scale]
        while at + len(row) < len(sizes):
            longer = [*row, sizes[at + len(row)] * scale]
            if _worst(longer, side) > _worst(row, side):
                break
            row = longer
        thickness = sum(row) / side if side else 0.0
        offset = 0.0
        for part in row:
            length = part / thickness if thickness else 0.0
            if width >= height:
                found.append((x, y + offset, thickness, length))
            else:
                found.append((x + offset, y, length, thickness))
            offset += length
        if width >= height:
            x, width = x + thickness, max(0.0, width - thickness)
        else:
            y, height = y + thickness, max(0.0, height - thickness)
        at += len(row)
    return found


def _worst(row: Sequence[float], side: float) -> float:
    """The ratio of sides of the row's least square rectangle."""
    total = sum(row)
    if not total or not side:
        return float("inf")
    return max(side * side * max(row) / total**2, total**2 / (side * side * min(row)))


def svg(root: Node, *, title: str) -> str:
    """The treemap of a tree as an SVG document."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="system-ui, sans-serif" font-size="11" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#eef1f4"/>',
    ]
    if root.size:
        _draw(parts, root, (0, 0, WIDTH, HEIGHT), root.size, "", 0)
    parts.append("</svg>\n")
    return "\n".join(parts)


def _draw(
    parts: list[str], node: Node, area: Rectangle, total: int, above: str, depth: int
) -> None:
    shown = sorted(
        (_joined(part) for part in node.parts.values() if part.size >= _SMALLEST * total),
        key=lambda part: (-part.size, part.name),
    )
    rest = node.size - sum(part.size for part in shown)
    if rest > 0 and shown:
        gathered = Node("other", rest, {"other": rest})
        shown = sorted([*shown, gathered], key=lambda part: (-part.size, part.name))
    for part, rectangle in zip(shown, squarified([p.size for p in shown], area), strict=True):
        x, y, width, height = rectangle
        if width < 1 or height < 1:
            continue
        path = f"{above}/{part.name}" if above else part.name
        kind = max(part.kinds.items(), key=lambda item: item[1])[0] if part.kinds else "other"
        fill = _COLOURS.get(kind, "#9aa5b1")
        inner = width > 24 and height > 24 and depth < _DEEPEST and len(part.parts) > 0
        label = f"{path}\n{_size(part.size)}, {part.size / total:.1%}, mostly {kind}"
        parts.append(
            f'<g><title>{escape(label)}</title><rect x="{x:.1f}" y="{y:.1f}" '
            f'width="{width:.1f}" height="{height:.1f}" fill="{fill}" '
            f'fill-opacity="{0.35 if inner else 0.9}" stroke="#fff" stroke-width="1"/>'
        )
        letters = int((width - 6) / 6.2)
        if letters >= 4 and height >= _TITLE:
            text = f"{part.name} {_size(part.size)}"
            text = text if len(text) <= letters else part.name[: letters - 1] + "…"
            parts.append(
                f'<text x="{x + 3:.1f}" y="{y + 11:.1f}" fill="#15202b">{escape(text)}</text>'
            )
        parts.append("</g>")
        if inner:
            title = _TITLE if letters >= 4 else 2
            below = (x + 2, y + title, width - 4, height - title - 2)
            _draw(parts, part, below, total, path, depth + 1)


def _joined(node: Node) -> Node:
    """A folder that holds nothing but a folder, and so on, as one."""
    while len(node.parts) == 1:
        (inner,) = node.parts.values()
        if inner.size != node.size or not inner.parts:
            break
        node = Node(f"{node.name}/{inner.name}", node.size, node.kinds, inner.parts)
    return node


def by_folder(contents: Contents) -> Node:
    """The image's folders; hidden files stand in their place with their own colour."""
    return _tree(contents, lambda item: item.path.split("/"))


def by_layer(contents: Contents, weights: Weights) -> Node:
    """The layers, and the folders in each."""
    names = [f"{layer.number}: {layer.made_by[:60]}" for layer in weights.layers]
    return _tree(contents, lambda item: [names[item.layer], *item.path.split("/")])


def by_package(contents: Contents) -> Node:
    """The packages, and the folders in each."""
    return _tree(contents, lambda item: [item.package or "of no package", *item.path.split("/")])


def _tree(contents: Contents, parts: Callable[[Held], Sequence[str]]) -> Node:
    root = Node("/")
    for item in contents.held:
        if item.size:
            root.add(parts(item), item.size, spare_kind(item) or item.kind)
    return root


def html(contents: Contents, weights: Weights, *, name: str) -> str:
    """One page with three treemaps and the numbers."""
    views = (
        ("Folders", by_folder(contents)),
        ("Packages", by_package(contents)),
        ("Layers", by_layer(contents, weights)),
    )
    tabs, sheets, rules = [], [], []
    for number, (title, root) in enumerate(views):
        checked = " checked" if number == 0 else ""
        tabs.append(
            f'<input type="radio" name="view" id="v{number}"{checked}>'
            f'<label for="v{number}">{title}</label>'
        )
        sheets.append(
            f'<div class="map" id="m{number}">{svg(root, title=f"{name}: {title}")}</div>'
        )
        rules.append(f"#v{number}:checked ~ #m{number} {{ display: block }}")
    share = weights.spare_size / weights.size if weights.size else 0
    lines = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>What fills {escape(name)}</title>",
        "<style>",
        "body { font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem auto; max-width: 1240px;",
        "  padding: 0 1rem; color: #15202b; background: #fff }",
        "h1 { font-size: 1.4rem } .map { display: none } svg { width: 100%; height: auto }",
        "label { margin: 0 1rem 0 .2rem }",
        "table { border-collapse: collapse; margin: 1rem 2rem 1rem 0 }",
        "td, th { padding: .15rem .7rem .15rem 0; text-align: left; vertical-align: top }",
        "td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }",
        ".k { display: inline-block; width: .8em; height: .8em; margin-right: .4em }",
        *rules,
        "</style></head><body>",
        f"<h1>What fills {escape(name)}</h1>",
        f"<p>{_size(weights.size)} in {weights.files} files and {len(weights.layers)} layers, "
        f"{_size(weights.stored)} stored. "
        f"<strong>{_size(weights.spare_size)} ({share:.0%}) could go.</strong></p>",
        *tabs,
        *sheets,
        "<h2>What could go</h2>",
        _table(
            ("what", "size", "files", "how"),
            [
                (_key(item.name), _size(item.size), str(item.files), escape(item.advice))
                for item in weights.spare
            ],
        ),
        "<h2>Kinds</h2>",
        _table(
            ("kind", "size", "files"),
            [(_key(item.name), _size(item.size), str(item.files)) for item in weights.kinds],
        ),
        "<h2>Layers</h2>",
        _table(
            ("layer", "size", "stored", "hidden"),
            [
                (
                    f"{layer.number}: {escape(layer.made_by[:160])}",
                    _size(layer.size),
                    _size(layer.stored),
                    _size(layer.hidden),
                )
                for layer in weights.layers
            ],
        ),
        "</body></html>",
    ]
    return "\n".join(lines) + "\n"


def _key(kind: str) -> str:
    colour = _COLOURS.get(kind) or _PALETTE[zlib.crc32(kind.encode()) % len(_PALETTE)]
    return f'<span class="k" style="background:{colour}"></span>{escape(kind)}'


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    numbers = {"size", "files", "stored", "hidden"}
    marks = [' class="n"' if header in numbers else "" for header in headers]
    head = "".join(f"<th{mark}>{name}</th>" for mark, name in zip(marks, headers, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td{mark}>{cell}</td>" for mark, cell in zip(marks, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"
