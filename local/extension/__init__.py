"""Emulator of the AWS Parameters and Secrets Lambda Extension.

The extension itself is a closed binary that runs in Lambda only. This serves the same
HTTP interface on 127.0.0.1, with the caching, the errors and the environment variables
that AWS documents, and reads from AWS (or from the emulated cloud) with the credentials
that botocore finds. `python -m local.extension` serves a handler on a laptop; the local
cloud starts one for each execution environment, as Lambda does.

docs/extension.md has what is known of the extension, and the sources.
"""

from local.extension.cache import Cache
from local.extension.configuration import Configuration
from local.extension.server import TOKEN_HEADER, ExtensionEmulator
from local.extension.upstream import Upstream

__all__ = ["TOKEN_HEADER", "Cache", "Configuration", "ExtensionEmulator", "Upstream"]
