"""The pictures are those that the present templates make, and legible."""

import itertools
import re

import pytest

from proof import diagram
from proof.picture import DARK, Box, Picture, Point


@pytest.fixture(scope="module")
def pictures() -> dict[str, Picture]:
    return diagram.pictures()


def test_no_picture_is_stale(pictures: dict[str, Picture]) -> None:
    drawn = {name: str(picture) for name, picture in pictures.items()}
    assert {path.name: path.read_text() for path in diagram.PICTURES.glob("architecture-*.svg")} == drawn


def test_arrows_are_what_security_groups_let_through(pictures: dict[str, Picture]) -> None:
    endpoints, nat = pictures["architecture-endpoints.svg"], pictures["architecture-nat.svg"]
    for picture in (endpoints, nat):
        assert sum(title.endswith("the database, port 3306") for title in picture.arrows) == 3
    assert sum("endpoint, port 443" in title for title in endpoints.arrows) == 4
    assert sum("the internet, port 443" in title for title in nat.arrows) == 3
    assert "secretsmanager:PutSecretValue" in str(endpoints)


def _crosses(start: Point, end: Point, box: Box) -> bool:
    """Whether a horizontal or vertical line runs inside the box, not only along or up to its edge."""
    left, top, width, height = box
    (x1, x2), (y1, y2) = sorted((start[0], end[0])), sorted((start[1], end[1]))
    return x1 < left + width and x2 > left and y1 < top + height and y2 > top


@pytest.mark.parametrize("name", ["architecture-endpoints.svg", "architecture-nat.svg"])
def test_no_arrow_runs_through_a_box_and_no_text_out_of_one(pictures: dict[str, Picture], name: str) -> None:
    picture = pictures[name]
    for title, points in picture.arrows.items():
        for start, end in itertools.pairwise(points):
            assert start[0] == end[0] or start[1] == end[1], title
            assert [box for box, place in picture.boxes.items() if _crosses(start, end, place)] == [], title
    for box, (left, top, width, height) in picture.boxes.items():
        lines = re.findall(rf'<text x="{left + 12}" y="(\d+)"[^>]*>([^<]*)<', str(picture))
        inside = [text for y, text in lines if top < int(y) < top + height]
        assert inside, box
        # Helvetica's letters are 0.56 of the font's size wide on average, at most.
        assert max(len(text) for text in inside) * 14 * 0.56 < width - 12, (box, inside)
        assert len(inside) * 18 + 8 <= height, box


def test_every_colour_has_another_in_a_dark_scheme(pictures: dict[str, Picture]) -> None:
    for picture in pictures.values():
        colours = set(re.findall('(?:fill|stroke)="(#[0-9a-f]+)"', str(picture)))
        assert colours
        assert colours <= set(DARK)
