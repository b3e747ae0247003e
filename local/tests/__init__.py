"""The tests of a local run, with its tools and caches."""

import os

from operations.commands import environment
from tests import conftest  # noqa: F401 - sets the variables that the functions read when they are imported

os.environ |= environment()
