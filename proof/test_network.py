"""The table of rules taken away has a row for each rule of the templates."""

import re

import pytest

from proof.network import EGRESS, NOT_SHOWN, PAGE, names


@pytest.mark.parametrize("egress", EGRESS)
def test_the_table_has_each_rule_of_the_templates(egress: str) -> None:
    _, _, table = PAGE.read_text().partition(f"## egress={egress}\n")
    rows = dict.fromkeys(EGRESS, "") | {egress: table.partition("\n## ")[0]}
    found = re.findall(r"^\| (.+?) \| (.*) \|$", rows[egress], re.MULTILINE)[1:]
    assert sorted(name for name, _ in found) == names(egress)
    for name, then in found:
        assert then.startswith("not shown here: ") == (name in NOT_SHOWN), name
        assert then, name
