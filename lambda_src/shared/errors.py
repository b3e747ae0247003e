"""The ways an invocation can fail. The caller sees the class's name as the error's type."""


class InvocationError(Exception):
    """An invocation failed. The message names the operation, and never quotes an answer.

    `facts` go into the message and the log: operation, status or errno, attempts, VersionId,
    elapsed and remaining milliseconds, where they are known.
    """

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.facts = facts

    def __str__(self) -> str:
        named = ", ".join(f"{name}={value}" for name, value in self.facts.items())
        return f"{self.args[0]} ({named})" if named else str(self.args[0])


class ConfigurationError(InvocationError):
    """Permanent: an operator must act before a retry can succeed."""


class SchemaVersionError(ConfigurationError):
    """The database's schema is older than the function's code needs."""


class TLSVerificationError(ConfigurationError):
    """The server's certificate is invalid, or the server offers no TLS: a security event."""


class DependencyUnavailableError(InvocationError):
    """Transient: the extension, AWS or the database did not answer in time; the caller may retry."""

    connection_lost = False
    """Whether an open database connection broke: then a read can be repeated on a new one."""
    throttled = False
    """Whether AWS refused because of too many requests: then a read can be repeated after a pause."""


class CredentialsRefusedError(InvocationError):
    """The database refused the user or the password."""


class QueryFailedError(InvocationError):
    """The database answered the query with an error, or the statement may not be sent."""


class OutcomeUnknownError(InvocationError):
    """COMMIT was sent and not answered: whether the transaction's rows are stored is not known."""


class AnswerError(InvocationError):
    """The application's answer cannot be given: a value has no form in JSON, or it is too large."""


class BadRequestError(InvocationError):
    """The event is wrong, and the caller is told so. It is no failure of the function, and no alarm counts it."""
