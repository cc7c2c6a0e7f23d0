"""The log of Apex in Python's `logging`, under `netra_apex`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from netra_apex import _native

_log = logging.getLogger("netra_apex")
_collected = False


def collect() -> None:
    """Begins to hand over what this process's Apex says from the level on that the logger has now; once."""
    global _collected
    if not _collected:
        _collected = True
        _native.collect_logs(min(_log.getEffectiveLevel(), 255), _write)


def _write(level: int, target: str, message: str, fields: Mapping[str, Any], dropped: int) -> None:
    logger = logging.getLogger("netra_apex." + target.removeprefix("apex_").replace("::", "."))
    if dropped:
        logger.warning("%d lines of the log were dropped, since they came faster than they were written", dropped)
    if logger.isEnabledFor(level):
        facts = " ".join(f"{name}={value}" for name, value in fields.items())
        logger.log(level, "%s", f"{message} {facts}".strip(), extra={"apex": dict(fields)})
