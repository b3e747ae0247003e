"""Benchmarks of the function beside what one would write or pick instead."""

import os

# As in Lambda: the functions read their variables when they are imported.
for _name, _value in {
    "AWS_REGION": "us-east-1",
    "ENV": "dev",
    "APP_CONFIG_PATH": "config",
    "CREDS_PATH": "secret",
}.items():
    os.environ.setdefault(_name, _value)
