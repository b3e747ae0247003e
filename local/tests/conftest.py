"""The fixtures of `local.tests.fixtures`."""

pytest_plugins = ["local.tests.fixtures"]
