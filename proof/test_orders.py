"""An application of orders, made by editing application.py, its tests and migrations/ alone, deploys and answers."""

import re
import shutil
from pathlib import Path

from operations.commands import ROOT
from proof.copies import copied, filled, run_in

ORDERS = ROOT / "proof" / "orders"
EDITED = {
    "application.py": "lambda_src/application.py",
    "tests.py": "tests/lambda_src/test_application.py",
    "server_tests.py": "local/tests/test_application.py",
}


def test_its_tests_and_all_others_of_a_copy_pass(tmp_path: Path) -> None:
    copy = filled(copied(tmp_path / "orders", "proof"))
    for ours, theirs in EDITED.items():
        shutil.copy(ORDERS / ours, copy / theirs)
    for migration in ORDERS.glob("*.sql"):
        shutil.copy(migration, copy / "migrations")
    assert re.search(r"\d\d\d passed", run_in(copy, "make", "test"))
