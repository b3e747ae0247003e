"""The pictures are those that the templates of now make."""

import pytest

from local import diagram


@pytest.fixture(scope="module")
def pictures() -> dict[str, str]:
    return diagram.pictures()


def test_no_picture_is_stale(pictures: dict[str, str]) -> None:
    assert {path.name: path.read_text() for path in diagram.PICTURES.glob("*.svg")} == pictures


def test_arrows_are_what_security_groups_let_through(pictures: dict[str, str]) -> None:
    endpoints, nat = pictures["architecture-endpoints.svg"], pictures["architecture-nat.svg"]
    assert endpoints.count(">3306<") == nat.count(">3306<") == 2
    assert "NatGateway" in nat
    assert "NatGateway" not in endpoints
    assert "secretsmanager:PutSecretValue" in endpoints
