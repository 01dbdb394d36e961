"""Every error that sipagent raises on purpose.

SipagentError
├── ConfigError        the configuration is wrong; names the field and the fix
├── ParseError         bytes from the network are not what they claim to be
├── RemoteError        the far end broke a rule; carries the status to answer
├── ServiceError       a speech or language service failed or missed its deadline
└── LocalError         we were asked for something that the state does not allow
"""


class SipagentError(Exception):
    """Base of all errors of this package."""


class ConfigError(SipagentError):
    """A configuration that cannot be used; `field` is its dotted name and `fix` says what to write instead."""

    def __init__(self, field: str, problem: str, fix: str = "") -> None:
        self.field, self.problem, self.fix = field, problem, fix
        super().__init__(f"{field}: {problem}" + (f" ({fix})" if fix else ""))


class ParseError(SipagentError):
    """Input that does not follow its grammar; `offset` is in bytes (or lines, for SDP), `expected` what stood there."""

    def __init__(self, expected: str, offset: int = 0) -> None:
        self.expected, self.offset = expected, offset
        super().__init__(f"at {offset}: expected {expected}")


class RemoteError(SipagentError):
    """The far end broke a rule; answer it with SIP `status`."""

    def __init__(self, status: int, reason: str) -> None:
        self.status, self.reason = status, reason
        super().__init__(f"{status} {reason}")


class ServiceError(SipagentError):
    """A service that a conversation uses failed; `retryable` when the same request may well succeed later."""

    def __init__(self, service: str, problem: str, *, status: int = 0, retryable: bool = False) -> None:
        self.service, self.problem, self.status, self.retryable = service, problem, status, retryable
        super().__init__(f"{service}: {problem}")


class LocalError(SipagentError):
    """An operation that the present state does not allow."""
