"""What reading a source costs, against what people use for it.

python benchmarks/extract.py [csv] [mongodb] [sql] [--rows N]
"""

from __future__ import annotations

import argparse
import importlib

PARTS = ("csv", "mongodb", "sql")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", default=PARTS)
    parser.add_argument("--rows", type=int, default=1_000_000)
    given = parser.parse_args()
    for part in given.parts or PARTS:
        importlib.import_module(f"extract_{part}").main(given.rows)


if __name__ == "__main__":
    main()
