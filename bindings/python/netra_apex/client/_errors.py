from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from netra_apex.errors import ErrorCode


class ApexError(Exception):
    """Whatever goes wrong: a refusal of the server's, or a connection that is closed for good."""

    code: ErrorCode
    """The stable code of the catalogue."""
    retryable: bool
    """Whether the same call may help later."""
    correlation: str | None
    """Leads to the server's log."""
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

    def __repr__(self) -> str:
        return f"ApexError({self.code!r}, {str(self)!r}, retryable={self.retryable}, correlation={self.correlation!r})"

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> ApexError:
        """As the server tells it, in `error` frames and HTTP answers."""
        wait = report.get("retry_after_ms")
        return cls(
            report.get("code", "unavailable"),
            report.get("message", "the server said no, and not why"),
            retryable=report.get("retryable", False),
            correlation=report.get("correlation"),
            retry_after=None if wait is None else wait / 1_000,
        )

    def again(self) -> ApexError:
        """The same for one more who waits: an exception that is raised in two places mixes their tracebacks."""
        return ApexError(
            self.code,
            str(self),
            retryable=self.retryable,
            correlation=self.correlation,
            retry_after=self.retry_after,
        )
