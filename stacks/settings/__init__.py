"""The settings of each environment, and the checks on what a user gives."""

from stacks.settings.checks import SettingsError, from_context
from stacks.settings.settings import APPLICATION_USERNAME, ENVIRONMENTS, SCHEMA_USERNAME, Settings

__all__ = ["APPLICATION_USERNAME", "ENVIRONMENTS", "SCHEMA_USERNAME", "Settings", "SettingsError", "from_context"]
