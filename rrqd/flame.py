"""What samples of stacks say: a flame graph, a list of what took most, and the collapsed form that other tools read.

A stack is the labels of its calls, outermost first, and how often it was seen. Pure: text in, text out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from html import escape
from typing import NamedTuple
from zlib import crc32

Stacks = Mapping[tuple[str, ...], int]

WIDTH, ROW, LETTER, HEAD = 1200, 17, 6.6, 40
NARROWEST = 0.3
"""Pixels: what is narrower is left out, with all that it called."""


class Share(NamedTuple):
    """A function: in how many samples it ran itself, and in how many it or something that it called did."""

    label: str
    own: int
    total: int


def collapsed(stacks: Stacks) -> str:
    """``outer;inner count``, a line each, the most frequent first."""
    lines = [f"{';'.join(stack)} {count}" for stack, count in sorted(stacks.items(), key=lambda one: (-one[1], one[0]))]
    return "".join(f"{line}\n" for line in lines)


def read_collapsed(text: str) -> Counter[tuple[str, ...]]:
    """The other way round. Raises ValueError for a line that is none."""
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        stacks[tuple(stack.split(";"))] += int(count)
    return stacks


def top(stacks: Stacks, most: int) -> list[Share]:
    """The functions that ran most often themselves."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for stack, count in stacks.items():
        own[stack[-1]] += count
        for label in set(stack):
            total[label] += count
    shares = [Share(label, own[label], total[label]) for label in total]
    return sorted(shares, key=lambda one: (-one.own, -one.total, one.label))[:most]


def svg(stacks: Stacks, title: str) -> str:
    """A flame graph in one file: callers above, what they called below, as wide as it took time. A click on a frame
    spreads it over the whole width, one on the title shows all again."""
    total = sum(stacks.values())
    frames: list[str] = []
    depth = _draw(sorted(stacks.items()), 0, total, 0, WIDTH / total if total else 0.0, frames)
    height = HEAD + ROW * max(1, depth) + 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="100%" '
        f'font-family="monospace" font-size="11">\n<style>g:hover rect{{stroke:#000}} #all{{cursor:pointer}}</style>\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#fffdf7"/>\n'
        f'<text id="all" x="8" y="22" font-size="14">{escape(title)}</text>\n'
        f"{''.join(frames)}<script><![CDATA[{_SCRIPT}]]></script>\n</svg>\n"
    )


def _draw(
    stacks: list[tuple[tuple[str, ...], int]], start: int, _total: int, depth: int, scale: float, frames: list[str]
) -> int:
    """Append the frames of stacks that agree in their first ``depth`` labels; answers how deep they go."""
    deepest, at = depth, 0
    while at < len(stacks):
        stack, _ = stacks[at]
        end, count = at, 0
        while end < len(stacks) and stacks[end][0][depth : depth + 1] == stack[depth : depth + 1]:
            count += stacks[end][1]
            end += 1
        if len(stack) > depth and count * scale >= NARROWEST:
            frames.append(_frame(stack[depth], start * scale, count * scale, depth, count, _total))
            deepest = max(deepest, _draw(stacks[at:end], start, _total, depth + 1, scale, frames))
        start += count
        at = end
    return deepest


def _frame(label: str, x: float, width: float, depth: int, count: int, total: int) -> str:
    y = HEAD + ROW * depth
    red, green = 205 + crc32(label.encode()) % 50, 90 + crc32(label.encode()[::-1]) % 130
    fits = int(width / LETTER)
    shown = label if len(label) <= fits else f"{label[: fits - 1]}…" if fits > 2 else ""
    return (
        f'<g data-x="{x:.2f}" data-w="{width:.2f}" data-l="{escape(label)}">'
        f"<title>{escape(label)}: {count} of {total} samples, {100 * count / total:.1f}%</title>"
        f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{ROW - 1}" fill="rgb({red},{green},70)"/>'
        f'<text x="{x + 2:.2f}" y="{y + 12}">{escape(shown)}</text></g>\n'
    )


_SCRIPT = f"""
const all = [...document.querySelectorAll("g")];
function show(from, width) {{
  for (const g of all) {{
    const scale = {WIDTH} / width, x = (g.dataset.x - from) * scale, w = g.dataset.w * scale;
    const left = Math.max(0, x), right = Math.min({WIDTH}, x + w), label = g.dataset.l;
    g.style.display = right - left < 0.3 ? "none" : "";
    const [, rect, text] = g.children, fits = Math.floor((right - left) / {LETTER});
    rect.setAttribute("x", left); rect.setAttribute("width", Math.max(0, right - left));
    text.setAttribute("x", left + 2);
    text.textContent = label.length <= fits ? label : fits > 2 ? label.slice(0, fits - 1) + "…" : "";
  }}
}}
for (const g of all) g.onclick = () => show(+g.dataset.x, +g.dataset.w);
document.getElementById("all").onclick = () => show(0, {WIDTH});
"""
