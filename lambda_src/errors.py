"""The four ways an invocation can fail, which the caller sees as the error's type.

Here and not with the code that raises them, because three modules raise the same four.
"""


class ServiceError(Exception):
    """An invocation failed; the message says at which stage, and never holds an answer.

    `facts` is for the message and for the log: stage, status or errno, attempts, VersionId, elapsed and
    remaining milliseconds, where they are known.
    """

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.facts = facts

    def __str__(self) -> str:
        named = ", ".join(f"{name}={value}" for name, value in self.facts.items())
        return f"{self.args[0]} ({named})" if named else str(self.args[0])


class ConfigurationError(ServiceError):
    """Permanent: an operator must act before a retry can succeed."""


class TLSVerificationError(ConfigurationError):
    """The server is not the one it should be, or offers no TLS: a security event."""


class DependencyUnavailableError(ServiceError):
    """Transient: the extension or the database did not answer in time; the caller may retry."""


class CredentialsRefusedError(ServiceError):
    """The database refused the user or the password."""


class QueryFailedError(ServiceError):
    """The database answered the query with an error that is not the connection's."""
