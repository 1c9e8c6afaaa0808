"""`etl-ml report`: the page of the latest run, or of an earlier evaluation."""

from __future__ import annotations

import tempfile
import webbrowser
from pathlib import Path

from etl_ml.cli.show import known
from etl_ml.lake import open_lake
from etl_ml.report import collect, page


def write_report(pipeline: str, version: str | None, output: Path | None, opened: bool) -> None:
    """Write the page, and open it if that was asked for."""
    lake = open_lake()
    known(lake, pipeline)
    text = page(collect(lake, pipeline, version))
    file = output or Path(tempfile.gettempdir()) / f"etl_ml-{pipeline}-report.html"
    file.write_text(text, encoding="utf-8")
    print(file)
    if opened:
        webbrowser.open(file.absolute().as_uri())
