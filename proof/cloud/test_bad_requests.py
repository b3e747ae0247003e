"""Bad requests of the deployed application are no failure for Lambda."""

import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from local.cloud import LocalCloud
from local.tests.fixtures import counted


def test_a_thousand_bad_requests_are_no_error_for_lambdas_count_and_one_failure_is(
    cloud: LocalCloud, invoke: Callable[..., dict[str, Any]], outputs: dict[str, str]
) -> None:
    """The count that FunctionErrors and ReleaseErrors watch; none is subtracted from it, so that none can come late."""
    name = outputs["FunctionName"].split(":")[-2]
    before = {metric: counted(cloud, metric, FunctionName=name) for metric in ("Invocations", "Errors")}
    with ThreadPoolExecutor(2) as callers:
        told = Counter(callers.map(lambda _: invoke({"note": ""})["errorType"], range(1000)))
    assert told == {"BadRequestError": 1000}
    assert counted(cloud, "Invocations", FunctionName=name) == before["Invocations"] + 1000
    assert counted(cloud, "Errors", FunctionName=name) == before["Errors"]
    with cloud.database_connection(outputs["DatabaseSecretArn"]) as connection, connection.cursor() as cursor:
        cursor.execute("RENAME TABLE note TO elsewhere")
        try:
            answer = invoke({"note": "a"})
            assert answer["errorType"] == "QueryFailedError"
            # MySQL's own sentence, which a laptop alone is told.
            assert re.search(r"says=.*Table '\w+\.note' doesn't exist", answer["errorMessage"])
        finally:
            cursor.execute("RENAME TABLE elsewhere TO note")
    assert counted(cloud, "Errors", FunctionName=name) == before["Errors"] + 1
