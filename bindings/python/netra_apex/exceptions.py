"""What goes wrong, as exceptions: one class for each family of the catalogue of errors, below `ApexError`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, cast

from netra_apex.errors import ERRORS, ErrorCode

__all__ = [
    "AccessError",
    "ApexError",
    "ConfigurationError",
    "DataError",
    "DefectError",
    "Fault",
    "LimitError",
    "RequestError",
    "RunError",
    "StorageError",
    "UnavailableError",
]


class Fault(TypedDict):
    """What is wrong with one value of a configuration."""

    key: str
    """The dotted name of the field."""
    source: str
    """Where the value came from."""
    problem: str
    """What is wrong."""
    advice: str
    """What to do about it."""
    code: str
    """What kind of fault."""


class ApexError(Exception):
    """Whatever goes wrong. Raised in an agent or a tool with a code of the catalogue, it is the step's error."""

    code: ErrorCode
    """The stable code of the catalogue."""
    retryable: bool
    """Whether the same call may help later."""
    correlation: str | None
    """Leads to the log."""
    retry_after: float | None
    """How long to wait, in seconds, where that is known."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retryable: bool = False,
        correlation: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = cast(ErrorCode, code)
        self.retryable = retryable
        self.correlation = correlation
        self.retry_after = retry_after

    @property
    def kind(self) -> str:
        """The family of the catalogue that it belongs to, such as `limit`."""
        row = ERRORS.get(self.code)
        return row.category if row else "unavailable"

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}({self.code!r}, {str(self)!r}, retryable={self.retryable}, correlation={self.correlation!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), str(self), dict(self.__dict__))

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> ApexError:
        """The exception for a report: as Apex tells it, in `error` frames and in HTTP answers."""
        code: ErrorCode = report.get("code", "unavailable")
        row = ERRORS.get(code)
        wait = report.get("retry_after_ms")
        error = _CLASSES.get(row.category if row else "", ApexError)(
            code,
            report.get("message", "the server said no, and not why"),
            retryable=report.get("retryable", False),
            correlation=report.get("correlation"),
            retry_after=None if wait is None else wait / 1_000,
        )
        if isinstance(error, ConfigurationError):
            error.faults = tuple(report.get("faults", ()))
        return error

    def again(self) -> ApexError:
        """The same for one more who waits: an exception that is raised in two places mixes their tracebacks."""
        return _again(type(self), str(self), dict(self.__dict__))


def _again(kind: type[ApexError], message: str, said: dict[str, Any]) -> ApexError:
    same = kind(said["code"], message)
    same.__dict__.update(said)
    return same


class RequestError(ApexError):
    """The request is wrong."""


class AccessError(ApexError):
    """The caller is not let in, or not to this."""


class LimitError(ApexError):
    """A limit is reached."""


class UnavailableError(ApexError):
    """Something needed is not there for now."""


class StorageError(ApexError):
    """The store failed."""


class ConfigurationError(ApexError):
    """The configuration is wrong."""

    faults: Sequence[Fault] = ()
    """Everything that is wrong with it."""


class RunError(ApexError):
    """A run, an agent or a tool did not work."""


class DataError(ApexError):
    """Data or figures are wrong."""


class DefectError(ApexError):
    """A defect of Apex's."""


_CLASSES: dict[str, type[ApexError]] = {
    "request": RequestError,
    "access": AccessError,
    "limit": LimitError,
    "unavailable": UnavailableError,
    "storage": StorageError,
    "configuration": ConfigurationError,
    "run": RunError,
    "data": DataError,
    "defect": DefectError,
}
