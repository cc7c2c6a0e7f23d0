"""What usage files cost, why, and what could be saved."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union, cast

from netra_apex import _native

if TYPE_CHECKING:
    from netra_apex.wire import Finding, Headline, Recommendation, Totals
    from netra_apex.wire import Report as ReportData

__all__ = ["Report", "Source", "analyse", "inspect"]

Source: TypeAlias = Union[str, "os.PathLike[str]", tuple[str, bytes]]
"""A usage file: its path, or a name with its bytes."""


class Report:
    """A report whose figures were computed twice; money is text with exact decimals."""

    def __init__(self, native: _native.Report) -> None:
        self._native = native

    def __repr__(self) -> str:
        return f"<Report of {self.totals['requests']} requests>"

    def __str__(self) -> str:
        return self._native.summary()

    @cached_property
    def data(self) -> ReportData:
        """All of it."""
        return json.loads(self.json())

    @property
    def totals(self) -> Totals:
        """All requests together."""
        return self.data["totals"]

    @property
    def headline(self) -> Headline:
        """What could be saved together."""
        return self.data["headline"]

    @property
    def findings(self) -> list[Finding]:
        """What the reader must know, the gravest first."""
        return self.data["findings"]

    @property
    def recommendations(self) -> list[Recommendation]:
        """What to do, and what not to."""
        return self.data["recommendations"]

    def json(self) -> str:
        """As JSON, for machines."""
        return self._native.json()

    def markdown(self) -> str:
        """As Markdown."""
        return self._native.markdown()

    def html(self) -> str:
        """As a page that stands alone."""
        return self._native.html()

    def _repr_html_(self) -> str:
        return self.html()

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Writes `report.json`, `report.md` and `report.html` into a folder, which is made where it is not there."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        for name, text in ("json", self.json()), ("md", self.markdown()), ("html", self.html()):
            (place / f"report.{name}").write_text(text, encoding="utf-8")
        return place


def analyse(*files: Source, contract: Mapping[str, Any] | bytes | None = None) -> Report:
    """Analyses usage files and computes every figure a second way; blocks, without the GIL, and ends at Ctrl-C.

    `contract` has prices that hold instead of the list's. Raises `ApexError`: `bad_data` for a file that is not there,
    `bad_figures` for figures that do not add up.
    """
    if isinstance(contract, Mapping):
        contract = json.dumps(contract).encode()
    return Report(_native.analyse([_native_source(file) for file in files], contract))


def inspect(file: Source) -> dict[str, Any]:
    """Looks at the beginning of a usage file: what it is, which columns it has, what is missing and needed for what."""
    return cast(dict[str, Any], _native.look(_native_source(file)))


def _native_source(file: Source) -> Any:
    return file if isinstance(file, tuple) else os.fspath(file)
