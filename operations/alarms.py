"""The alarms of an environment, those that are off first (`make alarms`)."""

import sys

from operations.aws import listed
from operations.environment import HASH, Environment, EnvironmentUnknownError, command
from operations.logs import printable

ORDER = ("ALARM", "INSUFFICIENT_DATA", "OK")


def main(environment: Environment) -> None:
    """Print state, name and reason of each."""
    names = {each: name for name, each in environment.named("AWS::CloudWatch::Alarm").items()}
    if not names:
        raise EnvironmentUnknownError(
            f"no alarms of {environment.env} here: make up, or make deploy ENV={environment.env}"
        )
    alarms = listed(environment.client("cloudwatch"), "describe_alarms", "MetricAlarms")
    ours = [each for each in alarms if each["AlarmName"] in names]
    for each in sorted(ours, key=lambda each: (ORDER.index(each["StateValue"]), names[each["AlarmName"]])):
        print(f"{each['StateValue']:17} {HASH.sub('', names[each['AlarmName']])}: {printable(each['StateReason'])}")
        if each["StateValue"] == "ALARM":
            print(f"{'':17} {printable(each.get('AlarmDescription', ''))}")
    print(f"{sum(each['StateValue'] == 'ALARM' for each in ours)} of {len(ours)} in alarm")


if __name__ == "__main__":
    command(main, sys.argv[1:])
