"""The estimate counts the resources of the templates."""

from collections.abc import Iterator
from typing import Any

import pytest

from proof import cost


def test_the_table_has_every_item_of_every_variant_priced() -> None:
    table = cost.table()
    for item in cost.TABLE["prices"]:
        assert f"| {item} |" in table
    assert "the AWS sample" in table


def test_endpoints_and_nat_differ_in_how_aws_is_reached_and_in_nothing_else() -> None:
    endpoints, nat = cost.quantities("dev", "endpoints"), cost.quantities("dev", "nat")
    assert endpoints - nat == {"Interface endpoint, each zone": 4 * cost.HOURS}
    assert nat - endpoints == {"NAT gateway": cost.HOURS, "Public IPv4 address": cost.HOURS}


def test_the_masters_secret_is_counted_though_no_template_shows_it() -> None:
    assert cost.quantities("dev", "endpoints")["Secret"] == 3


def test_a_class_without_a_price_is_named_and_the_rest_is_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    def resources(env: str, egress: str) -> Iterator[dict[str, Any]]:
        for each in made(env, egress):
            if each["Type"] == "AWS::RDS::DBInstance" and env == "prod":
                yield {**each, "Properties": {**each["Properties"], "DBInstanceClass": "db.r8g.large"}}
            else:
                yield each

    made = cost._resources
    before = cost.table().splitlines()[-1]
    monkeypatch.setattr(cost, "_resources", resources)
    head, *_, line, together = cost.table().splitlines()
    columns = head.split(" | ")
    of_dev, of_prod = columns.index("dev, endpoints"), columns.index("prod, endpoints")
    assert line.startswith("| RDS for MySQL, Multi-AZ, db.r8g.large |")
    assert (line.split(" | ")[of_dev], line.split(" | ")[of_prod]) == ("", "no price")
    dev, prod = together.split(" | ")[of_dev], together.split(" | ")[of_prod]
    assert dev == before.split(" | ")[of_dev]
    priced = before.split(" | ")[of_prod].strip("*")
    assert prod == f"**{int(priced) - round(0.336 * cost.HOURS)} + ?**"
