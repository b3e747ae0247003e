"""Boxes, frames and arrows as SVG."""

from xml.etree import ElementTree as ET

PAPER, INK, LINE, FILL, FRAME, STRONG, WARM = (
    *("#ffffff", "#1b2733", "#51657a", "#eef3f8", "#8aa0b5"),
    *("#dfeaf5", "#f6efe0"),
)
DARK = {
    PAPER: "#0d1117",
    INK: "#dbe4ee",
    LINE: "#9fb3c8",
    FILL: "#1a2531",
    FRAME: "#4d6277",
    STRONG: "#22364a",
    WARM: "#3a3220",
}
"""What each colour is for a reader who prefers a dark scheme."""

Box = tuple[int, int, int, int]
"""Left, top, width, height."""
Point = tuple[int, int]


class Picture:
    """An SVG with boxes, arrows and text; what was drawn is kept, so that a test can measure it."""

    def __init__(self, width: int, height: int, title: str) -> None:
        namespace = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {width} {height}", "role": "img"}
        self._svg = ET.Element("svg", namespace | {"font-family": "Helvetica, Arial, sans-serif", "font-size": "14"})
        ET.SubElement(self._svg, "title").text = title
        rules = (f'[fill="{light}"]{{fill:{dark}}} [stroke="{light}"]{{stroke:{dark}}}' for light, dark in DARK.items())
        ET.SubElement(self._svg, "style").text = f"@media (prefers-color-scheme: dark) {{ {' '.join(rules)} }}"
        marker = {"id": "head", "viewBox": "0 0 8 8", "refX": "8", "refY": "4"}
        size = {"markerWidth": "8", "markerHeight": "8", "orient": "auto"}
        head = ET.SubElement(ET.SubElement(self._svg, "defs"), "marker", marker | size)
        ET.SubElement(head, "path", {"d": "M0 0 L8 4 L0 8 z", "fill": LINE})
        self._rectangle((0, 0, width, height), PAPER, "none")
        self.boxes: dict[str, Box] = {}
        self.arrows: dict[str, list[Point]] = {}

    def box(self, box: Box, *lines: str, fill: str = FILL) -> None:
        """A box, its first line bold."""
        self.boxes[f"{lines[0]} {box[:2]}"] = box
        self._rectangle(box, fill, FRAME)
        for number, line in enumerate(lines):
            self.text(box[0] + 12, box[1] + 22 + 18 * number, line, bold=number == 0)

    def frame(self, box: Box, title: str, dashes: str = "6 4") -> None:
        """A boundary, its title above its content."""
        self._rectangle(box, "none", LINE, dashes=dashes)
        self.text(box[0] + 12, box[1] + 21, title, bold=True)

    def text(self, x: int, y: int, text: str, *, bold: bool = False) -> None:
        """Text that begins at a point."""
        attributes = {"x": str(x), "y": str(y), "fill": INK} | ({"font-weight": "bold"} if bold else {})
        ET.SubElement(self._svg, "text", attributes).text = text

    def arrow(self, title: str, *points: Point) -> None:
        """An arrow through points; the title is shown where the pointer rests on it."""
        self.arrows[title] = list(points)
        path = "M" + " L".join(f"{x} {y}" for x, y in points)
        attributes = {"d": path, "fill": "none", "stroke": LINE, "stroke-width": "1.5", "marker-end": "url(#head)"}
        ET.SubElement(ET.SubElement(self._svg, "path", attributes), "title").text = title

    def __str__(self) -> str:
        ET.indent(self._svg)
        return ET.tostring(self._svg, encoding="unicode") + "\n"

    def _rectangle(self, box: Box, fill: str, stroke: str, dashes: str = "") -> None:
        x, y, width, height = map(str, box)
        place = {"x": x, "y": y, "width": width, "height": height, "rx": "6"}
        style = {"fill": fill, "stroke": stroke} | ({"stroke-dasharray": dashes} if dashes else {})
        ET.SubElement(self._svg, "rect", place | style)
