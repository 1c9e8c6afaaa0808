"""The `etl-ml` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command; what a person must mend is told on standard error, with exit code 1."""
    from etl_ml.cli.app import app
    from etl_ml.spec.error import EtlMlError

    try:
        app()
    except EtlMlError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)
