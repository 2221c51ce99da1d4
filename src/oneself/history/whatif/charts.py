"""The charts of a report: elements of SVG whose colours come from the page's style (docs/whatif.md)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple
from xml.etree.ElementTree import Element

__all__ = ["Bar", "columns", "el", "stacked"]

_NO_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_WIDTH: Final = 540
_LABEL: Final = 96
_ROW: Final = 44
_THICK: Final = 26
_NARROW: Final = 34
"""A part of a bar that is narrower has no number in it; the legend has all of them."""


class Bar(NamedTuple):
    """One stacked bar: its label, and its parts as ``(class, value)``."""

    label: str
    parts: Sequence[tuple[str, int]]


def el(tag: str, attributes: Mapping[str, str] | None = None, *children: Element | str) -> Element:
    """Return an element; characters that XML cannot have are replaced."""
    element = Element(tag, dict(attributes or {}))
    last: Element | None = None
    for child in children:
        if isinstance(child, Element):
            element.append(child)
            last = child
        else:
            text = _NO_XML.sub("\N{REPLACEMENT CHARACTER}", child)
            if last is None:
                element.text = (element.text or "") + text
            else:
                last.tail = (last.tail or "") + text
    return element


def stacked(title: str, bars: Sequence[Bar], names: Mapping[str, str]) -> Element:
    """Return a figure of stacked horizontal bars on one scale; ``names`` are the legend, class to words."""
    most = max((sum(value for _, value in bar.parts) for bar in bars), default=0) or 1
    room = _WIDTH - _LABEL - 70
    drawn: list[Element] = []
    for row, bar in enumerate(bars):
        top, left = row * _ROW + 8, float(_LABEL)
        drawn.append(_text(bar.label, _LABEL - 10, top + 18, "label end"))
        for class_, value in bar.parts:
            width = room * value / most
            if value:
                drawn.append(_rect(left, top, width, _THICK, class_, f"{bar.label}, {names[class_]}: {value:,}"))
            if width >= _NARROW:
                drawn.append(_text(f"{value:,}", left + width / 2, top + 18, f"in on-{class_}"))
            left += width
        drawn.append(_text(f"{sum(value for _, value in bar.parts):,}", left + 8, top + 18, "label"))
    height = len(bars) * _ROW + 4
    told = "; ".join(f"{bar.label}: {_told(bar.parts, names)}" for bar in bars)
    return _figure(title, told, height, drawn, names)


def columns(
    title: str, labels: Sequence[str], series: Mapping[str, Sequence[int]], names: Mapping[str, str]
) -> Element:
    """Return a figure of columns side by side, one group a label; ``series`` are classes with their values."""
    most = max((value for values in series.values() for value in values), default=0) or 1
    height, foot = 210, 180
    step = (_WIDTH - 20) / len(labels)
    width = min(46.0, (step - 16) / len(series))
    drawn = [el("line", {"x1": "10", "x2": str(_WIDTH - 10), "y1": str(foot), "y2": str(foot), "class": "axis"})]
    for group, label in enumerate(labels):
        middle = 10 + step * (group + 0.5)
        drawn.append(_text(label, middle, foot + 20, "label middle"))
        for place, (class_, values) in enumerate(series.items()):
            left = middle + (place - len(series) / 2) * width
            tall = (foot - 24) * values[group] / most
            if values[group]:
                hint = f"{names[class_]}, {label}: {values[group]:,}"
                drawn.append(_rect(left + 1, foot - tall, width - 2, tall, class_, hint))
            drawn.append(_text(f"{values[group]:,}", left + width / 2, foot - tall - 5, "small middle"))
    told = "; ".join(f"{names[class_]}: {', '.join(map(str, values))}" for class_, values in series.items())
    return _figure(title, f"{', '.join(labels)}. {told}", height, drawn, names)


def _figure(title: str, told: str, height: int, drawn: Iterable[Element], names: Mapping[str, str]) -> Element:
    view = {
        "xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {_WIDTH} {height}", "role": "img",
        "aria-label": f"{title}. {told}",
    }  # fmt: skip
    legend = [
        el("li", None, el("span", {"class": f"key k-{class_}"}, "\N{NO-BREAK SPACE}"), f" {name}")
        for class_, name in names.items()
    ]
    return el(
        "figure", None, el("figcaption", None, title), el("svg", view, *drawn), el("ul", {"class": "legend"}, *legend)
    )


def _told(parts: Iterable[tuple[str, int]], names: Mapping[str, str]) -> str:
    return ", ".join(f"{names[class_]} {value}" for class_, value in parts)


def _rect(left: float, top: float, width: float, height: float, class_: str, hint: str) -> Element:
    place = {"x": f"{left:.1f}", "y": f"{top:.1f}", "width": f"{width:.1f}", "height": f"{height:.1f}"}
    return el("rect", {**place, "class": f"c-{class_}"}, el("title", None, hint))


def _text(text: str, left: float, top: float, class_: str) -> Element:
    return el("text", {"x": f"{left:.1f}", "y": f"{top:.1f}", "class": class_}, text)
