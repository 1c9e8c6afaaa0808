"""Fail if a test run skipped anything: what CI does not run, CI does not promise.

Reads the JUnit file that pytest wrote. An expected failure (xfail) is a test that ran; it is
counted and told, not failed.
"""

import sys
from xml.etree import ElementTree


def main(path: str) -> int:
    """Print what was run and what was skipped; 1 if any test was skipped or none was run."""
    cases = ElementTree.parse(path).findall(".//testcase")
    skips = [(case, skip) for case in cases for skip in case.findall("skipped")]
    expected = [case for case, skip in skips if skip.get("type") == "pytest.xfail"]
    skipped = [(case, skip) for case, skip in skips if skip.get("type") != "pytest.xfail"]
    print(f"{len(cases)} tests: {len(skipped)} skipped, {len(expected)} expected to fail.")
    for case, skip in skipped:
        name = "::".join(filter(None, [case.get("classname"), case.get("name")]))
        print(f"  {name}: {skip.get('message') or 'no reason given'}", file=sys.stderr)
    if skipped:
        print("Nothing may be skipped in CI: install what these tests need.", file=sys.stderr)
    return 1 if skipped or not cases else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
