"""Put matplotlib's SVG files inside the page: small, following its colours, with ids that do not clash."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

from study.figures import palette

# In the page these colours are variables, so that figures are readable on a dark ground too.
_VARIABLES = {
    palette.INK: "ink",
    palette.MUTED: "muted",
    palette.GRID: "grid",
    palette.PAPER: "card",
    palette.BLUE: "blue",
    palette.SKY: "sky",
    palette.VERMILLION: "vermillion",
    palette.ORANGE: "orange",
    palette.GREEN: "green",
}


def inline(svg: str, name: str, alt: str) -> Markup:
    """The `<svg>` element of a file, ready for HTML.

    Args:
        svg: the file's text.
        name: makes the ids unique among all figures of the page.
        alt: what a reader who cannot see the figure should know.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", body, flags=re.DOTALL)
    head, _, rest = body.partition(">")
    box = re.search(r'viewBox="[^"]*"', head)
    referenced = set(re.findall(r"(?:url\(#|href=\"#)([^\")]+)", rest))
    rest = re.sub(r' id="([^"]*)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in referenced else "", rest)
    rest = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", rest)
    for colour, variable in _VARIABLES.items():
        rest = re.sub(colour, f"var(--{variable})", rest, flags=re.IGNORECASE)
    rest = re.sub(r">\s+<", "><", rest)
    label = f'role="img" aria-label="{escape(alt)}"'
    return Markup(f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {box[0] if box else ""} {label}>{rest}')
