"""A call's ladder as a drawing: a line for each address, an arrow for each message, the message itself on hovering.

What far ends wrote goes into text nodes, by a serialiser that escapes it: the document holds no script and no link.
"""

import re
from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree

from sipagent.sip.ladder import Address, Message

MARGIN: Final = 130  # left of the first line: the times
COLUMN: Final = 430  # between two lines
HEAD: Final = 78  # above the first arrow
STEP: Final = 36  # from arrow to arrow
LABEL: Final = 54  # characters above an arrow
LOOP: Final = 60  # an arrow from an address to itself
STYLE: Final = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1f2328; --faint: #8b949e;
  --request: #0550ae; --good: #1a7f37; --bad: #cf222e; }
@media (prefers-color-scheme: dark) { :root { --paper: #0d1117; --ink: #e6edf3; --faint: #768390;
  --request: #6cb6ff; --good: #57ab5a; --bad: #f47067; } }
text { font: 13px ui-monospace, Menlo, Consolas, monospace; fill: var(--ink); text-anchor: middle;
  paint-order: stroke; stroke: var(--paper); stroke-width: 4px; }
.paper { fill: var(--paper); }
.name { font-weight: bold; }
.time { font-size: 11px; fill: var(--faint); text-anchor: end; }
.life { stroke: var(--faint); stroke-dasharray: 2 4; }
.arrow line, .arrow path { stroke: var(--ink); stroke-width: 1.5; fill: none; }
.arrow polygon { fill: var(--ink); }
.again line, .again path { stroke-dasharray: 6 3; }
.hit { fill: transparent; }
.arrow:hover .hit { fill: var(--faint); fill-opacity: .15; }
"""
COLOURS: Final = ("request", "good", "bad")
COLOUR: Final = """\
.NAME line, .NAME path { stroke: var(--NAME); }
.NAME polygon, .NAME text { fill: var(--NAME); }
"""
_NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0 §2.2


def draw(messages: Sequence[Message], title: str = "") -> str:
    """An SVG document of the messages, oldest first; it follows the reader's light or dark scheme."""
    lines = _lines(messages)
    width = MARGIN + max(1, len(lines) - 1) * COLUMN + MARGIN
    height = HEAD + len(messages) * STEP + 20
    root = ElementTree.Element(
        "svg",
        {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {width} {height}", "width": str(width),
         "height": str(height), "role": "img"},
    )  # fmt: skip
    _text(root, "title", f"SIP messages of {title}" if title else "SIP messages")
    ElementTree.SubElement(root, "style").text = STYLE + "".join(COLOUR.replace("NAME", name) for name in COLOURS)
    _shape(root, "rect", "paper", width="100%", height="100%")
    ours = {message.local for message in messages}
    for address, x in lines.items():
        _text(
            root, "text", "sipagent" if address in ours else "far end", "time", x=x, y=24, style="text-anchor: middle"
        )
        _text(root, "text", _written(address), "name", x=x, y=42)
        _shape(root, "line", "life", x1=x, y1=52, x2=x, y2=height - 12)
    seen: dict[tuple[str, Address, bytes], int] = {}
    for number, message in enumerate(messages):
        key = (message.direction, message.remote, message.data)
        seen[key] = seen.get(key, -1) + 1
        seconds = message.at - messages[0].at
        _arrow(root, message, HEAD + number * STEP, lines, seconds, repeated=seen[key])
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _lines(messages: Sequence[Message]) -> dict[Address, int]:
    """Where the line of each address stands: ours first, then the others, as they come."""
    addresses = [message.local for message in messages] + [message.remote for message in messages]
    return {address: MARGIN + index * COLUMN for index, address in enumerate(dict.fromkeys(addresses))}


def _arrow(
    root: ElementTree.Element, message: Message, y: int, lines: dict[Address, int], seconds: float, repeated: int
) -> None:
    ends = (lines[message.local], lines[message.remote])
    source, target = ends if message.direction == "out" else ends[::-1]
    group = ElementTree.SubElement(root, "g", {"class": f"arrow {_kind(message)}" + (" again" if repeated else "")})
    label = message.first_line + (" (SDP)" if re.search(rb"^m=audio ", message.data, re.MULTILINE) else "")
    if repeated:
        label = f"↻{repeated} {label}"
    again = f", sent again ({repeated})" if repeated else ""
    _text(group, "title", f"{seconds:.3f} s, {message.protocol}, {message.cseq}{again}\n\n{message.text}")
    left, width = min(source, target), abs(source - target) or LOOP
    _shape(group, "rect", "hit", x=left, y=y - 20, width=width, height=STEP - 6)
    _text(group, "text", label if len(label) <= LABEL else label[: LABEL - 1] + "…", "", x=left + width // 2, y=y - 6)
    if source == target:
        _shape(group, "path", "", d=f"M {source} {y} h {LOOP} v 8 h {-LOOP + 8}")
        _shape(group, "polygon", "", points=f"{source},{y + 8} {source + 9},{y + 4} {source + 9},{y + 12}")
    else:
        back = -9 if target > source else 9
        _shape(group, "line", "", x1=source, y1=y, x2=target + back, y2=y)
        _shape(group, "polygon", "", points=f"{target},{y} {target + back},{y - 4} {target + back},{y + 4}")
    _text(root, "text", f"{seconds:.3f} s", "time", x=MARGIN - 24, y=y + 4)


def _kind(message: Message) -> str:
    if not message.data.startswith(b"SIP/2.0 "):
        return "request"
    status = message.data[8:9]
    return "good" if status == b"2" else "" if status in b"13" else "bad"


def _written(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _shape(parent: ElementTree.Element, name: str, kind: str, **attributes: int | str) -> ElementTree.Element:
    values = {"class": kind} if kind else {}
    return ElementTree.SubElement(parent, name, values | {key: str(value) for key, value in attributes.items()})


def _text(parent: ElementTree.Element, name: str, text: str, kind: str = "", **attributes: int | str) -> None:
    _shape(parent, name, kind, **attributes).text = _NOT_XML.sub(
        "\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n")
    )
