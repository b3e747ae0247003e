"""The settings of each environment, and the checks on what a user gives."""

from stacks.settings.checks import SettingsError, from_context
from stacks.settings.settings import ENVIRONMENTS, Settings

__all__ = ["ENVIRONMENTS", "Settings", "SettingsError", "from_context"]
