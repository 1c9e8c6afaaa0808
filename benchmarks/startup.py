"""What loading the code location costs, against importing Dagster alone.

python benchmarks/startup.py [--repeats N]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys

CODE = {
    "import dagster": "import dagster",
    "load etl_ml.definitions": "import etl_ml.definitions as d; d.defs()",
    "the same by dg.load_from_defs_folder": (
        "import dagster as dg, etl_ml; from pathlib import Path; "
        "dg.load_from_defs_folder(path_within_project=Path(etl_ml.__file__).parent)"
    ),
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--repeats", type=int, default=5)
    repeats = arguments.parse_args().repeats
    spent: dict[str, list[float]] = {name: [] for name in CODE}
    for repeat in range(repeats + 1):  # the first one warms the disk
        for name, code in CODE.items():
            seconds = _cpu(code)
            if repeat:
                spent[name].append(seconds)
    base = statistics.median(spent["import dagster"])
    print(f"{'':38}{'CPU s':>8}{'ratio':>8}   (bar: 1.30)")
    for name, seconds in spent.items():
        median = statistics.median(seconds)
        print(f"{name:38}{median:8.2f}{median / base:8.2f}")


def _cpu(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
