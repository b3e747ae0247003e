"""The estimate counts the resources of the templates."""

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
