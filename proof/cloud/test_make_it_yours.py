"""docs/make-it-yours.md, followed from a copy to an answer on a local cloud under another name."""

import json
import re
import shutil
from pathlib import Path

import pytest

from operations.commands import ROOT
from proof.copies import copied, filled, run_in

PAGE = (ROOT / "docs/make-it-yours.md").read_text()
BLOCKS = re.findall(r"^```(sh|json|text)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
"""What the page does here, in its order. Blocks marked otherwise are done by hand, or in an account."""


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_the_page_leads_from_a_copy_to_an_answer_under_another_name(tmp_path: Path) -> None:
    copy = filled(copied(tmp_path / "orders"))
    said = ""
    try:
        for kind, block in BLOCKS:
            if kind == "json":
                _merge(copy / "cdk.json", json.loads(block))
            elif kind == "text":
                assert block in said
            else:
                # Outside any repository, where `git apply` only patches.
                said = run_in(copy, "bash", "-ec", block, GIT_CEILING_DIRECTORIES=str(tmp_path))
                if "make up" in block:
                    assert "orders-dev-Service" in said
                    assert "demoApp" not in said
    finally:
        run_in(copy, "make", "down")


def _merge(file: Path, settings: dict[str, object]) -> None:
    content = json.loads(file.read_text())
    content["context"] |= settings
    file.write_text(json.dumps(content, indent=2))
