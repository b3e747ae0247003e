"""Boxes, arrows and lifelines as SVG."""

from xml.etree import ElementTree as ET

INK, LINE, FILL, FRAME = "#1b2733", "#51657a", "#eef3f8", "#8aa0b5"
"""Dark on light, on a background of its own: as legible on a dark page as on a white one."""

Box = tuple[int, int, int, int]
"""Left, top, width, height."""


class Picture:
    """An SVG with boxes, arrows and text."""

    def __init__(self, width: int, height: int, title: str) -> None:
        namespace = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {width} {height}", "role": "img"}
        self._svg = ET.Element("svg", namespace | {"font-family": "Helvetica, Arial, sans-serif", "font-size": "13"})
        ET.SubElement(self._svg, "title").text = title
        marker = {"id": "head", "viewBox": "0 0 8 8", "refX": "8", "refY": "4"}
        size = {"markerWidth": "8", "markerHeight": "8", "orient": "auto"}
        head = ET.SubElement(ET.SubElement(self._svg, "defs"), "marker", marker | size)
        ET.SubElement(head, "path", {"d": "M0 0 L8 4 L0 8 z", "fill": LINE})
        self._rectangle((0, 0, width, height), "#ffffff", "none")

    def box(self, box: Box, *lines: str, fill: str = FILL) -> None:
        """A box, its first line bold."""
        self._rectangle(box, fill, FRAME)
        for number, line in enumerate(lines):
            self.text(box[0] + 12, box[1] + 22 + 17 * number, line, bold=number == 0)

    def frame(self, box: Box, title: str) -> None:
        """A boundary, its title above its content."""
        self._rectangle(box, "none", LINE, dashes="6 4")
        self.text(box[0] + 12, box[1] + 20, title, bold=True)

    def text(self, x: int, y: int, text: str, *, bold: bool = False, anchor: str = "start") -> None:
        """Text from or around a point."""
        attributes = {"x": str(x), "y": str(y), "fill": INK, "text-anchor": anchor}
        ET.SubElement(self._svg, "text", attributes | ({"font-weight": "bold"} if bold else {})).text = text

    def arrow(self, points: list[tuple[int, int]], label: str = "", *, dashed: bool = False) -> None:
        """An arrow through points, its label above the middle of the first stretch."""
        path = "M" + " L".join(f"{x} {y}" for x, y in points)
        attributes = {"d": path, "fill": "none", "stroke": LINE, "stroke-width": "1.5", "marker-end": "url(#head)"}
        ET.SubElement(self._svg, "path", attributes | ({"stroke-dasharray": "5 4"} if dashed else {}))
        (x, y), (to_x, to_y) = points[:2]
        self.text((x + to_x) // 2, (y + to_y) // 2 - 5, label, anchor="middle")

    def line(self, x: int, top: int, bottom: int) -> None:
        """A lifeline."""
        place = {"x1": str(x), "x2": str(x), "y1": str(top), "y2": str(bottom)}
        ET.SubElement(self._svg, "line", place | {"stroke": FRAME, "stroke-dasharray": "3 4"})

    def __str__(self) -> str:
        ET.indent(self._svg)
        return ET.tostring(self._svg, encoding="unicode") + "\n"

    def _rectangle(self, box: Box, fill: str, stroke: str, dashes: str = "") -> None:
        x, y, width, height = map(str, box)
        place = {"x": x, "y": y, "width": width, "height": height, "rx": "6"}
        style = {"fill": fill, "stroke": stroke} | ({"stroke-dasharray": dashes} if dashes else {})
        ET.SubElement(self._svg, "rect", place | style)


def sequence(title: str, participants: list[str], groups: list[tuple[str, list[tuple[int, int, str]]]]) -> str:
    """Lifelines, and messages from one to another in their order, answers dashed; each group has a heading."""
    steps = sum(len(messages) + 1 for _, messages in groups)
    width, height = 210 * len(participants) + 20, 90 + 34 * steps
    picture = Picture(width, height, title)
    middles = [115 + 210 * number for number in range(len(participants))]
    for middle, name in zip(middles, participants, strict=True):
        picture.line(middle, 55, height - 15)
        picture.box((middle - 85, 15, 170, 38), name)
    y = 60
    asked: set[tuple[int, int]] = set()
    for heading, messages in groups:
        y += 34
        picture.text(20, y - 6, heading, bold=True)
        for source, target, label in messages:
            y += 34
            is_answer = (target, source) in asked
            asked ^= {(target, source)} if is_answer else {(source, target)} - asked
            picture.arrow([(middles[source], y), (middles[target], y)], label, dashed=is_answer)
    return str(picture)
