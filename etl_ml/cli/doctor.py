"""`etl-ml doctor`: the installation, and one real round trip to every place a pipeline names."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from etl_ml.cli.materialize import DagsterProject, find_project
from etl_ml.cli.terminal import console, print_json, progress, table
from etl_ml.lake import Lake
from etl_ml.spec import Pipeline, parse
from etl_ml.spec.deployment import target_names
from etl_ml.spec.destination import names_of
from etl_ml.spec.error import EtlMlError
from etl_ml.spec.template import Environment, rendered

if TYPE_CHECKING:
    from etl_ml.deploy import Target

_TYPE = "etl_ml.TabularPipeline"
_TOGETHER = ("dagster", "dagster-webserver", "dagster-dg-cli")


@dataclass(frozen=True)
class Finding:
    """What was asked, and how it went; `fix` where it did not go well.

    Attributes
    ----------
    state : ok | failed | not asked
    """

    place: str
    what: str
    state: str
    told: str
    fix: str = ""


def examine(pipelines: list[str], *, reconcile: bool, as_json: bool) -> bool:
    """Print the findings; returns whether all is well."""
    project = find_project()
    with progress() as told:
        found = []
        for finding in _findings(project, pipelines, reconcile, told):
            found.append(finding)
    if as_json:
        print_json([asdict(finding) for finding in found])
    else:
        rows = [(f.place, f.what, f.state, f.told.splitlines()[0]) for f in found]
        console().print(table(str(project.root), ["", "", "", ""], rows))
        for finding in found:
            if finding.state == "failed":
                print(f"\n{finding.place}, {finding.what}: {finding.told}", file=sys.stderr)
                if finding.fix:
                    print(f"  fix it    {finding.fix}", file=sys.stderr)
    return all(finding.state != "failed" for finding in found)


def _findings(
    project: DagsterProject, asked: list[str], reconcile: bool, told: Callable[[str], None]
) -> Iterator[Finding]:
    yield from _installation()
    lake = project.lake()
    yield _tried("project", "lake", partial(_checked, lambda: lake))
    seen = set()
    for file, attributes in _documents(project):
        shown = os.path.relpath(file, project.root)
        name = str(attributes.get("name", shown))
        if asked and name not in asked:
            continue
        seen.add(name)
        try:
            pipeline = parse(rendered(attributes, {"env": Environment()}, file=shown), file=shown)
        except EtlMlError as error:
            yield Finding(name, "defs.yaml", "failed", str(error))
            continue
        told(f"{name}: asking every place that it names")
        yield Finding(name, "defs.yaml", "ok", shown)
        yield from _places(pipeline, file.parent)
        if reconcile:
            yield _tried(name, "reconcile", partial(_missed, lake, pipeline, file.parent))
    for name in sorted(set(asked) - seen):
        yield Finding(name, "defs.yaml", "failed", "the project has no such pipeline")


def _installation() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield Finding(
        "installation",
        "Python",
        "ok" if fits else "failed",
        version,
        "" if fits else "use Python 3.11, 3.12 or 3.13",
    )
    yield Finding("installation", "etl_ml", "ok", metadata.version("etl_ml"))
    versions = {name: metadata.version(name) for name in _TOGETHER}
    one = len(set(versions.values())) == 1
    yield Finding(
        "installation",
        "Dagster",
        "ok" if one else "failed",
        ", ".join(f"{name} {found}" for name, found in versions.items()),
        "" if one else f"install them in one version: {' '.join(_TOGETHER)}",
    )


def _documents(project: DagsterProject) -> Iterator[tuple[Path, dict[str, Any]]]:
    for file in sorted(project.defs().rglob("defs.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            if isinstance(document, dict) and document.get("type") == _TYPE:
                attributes = document.get("attributes")
                yield file, attributes if isinstance(attributes, dict) else {}


def _places(pipeline: Pipeline, home: Path) -> Iterator[Finding]:
    from etl_ml.deploy import open_target
    from etl_ml.load.reach import reach

    name = pipeline.name
    yield _asked(name, "source", pipeline.source, lambda: _read(pipeline, home))
    for place, destination in zip(names_of(pipeline.load), pipeline.load, strict=True):
        told = destination.display

        ask = partial(reach, destination, base=home)
        yield _asked(name, f"destination {place}", destination, partial(_done, ask, told))
    targets = pipeline.deployment.targets
    for place, section in zip(target_names(targets), targets, strict=True):
        made = partial(open_target, section, name, base=home)
        yield _asked(name, f"target {place}", section, partial(_checked, made))


def _asked(place: str, what: str, section: Any, ask: Callable[[], str]) -> Finding:
    resource = getattr(section, "resource", None)
    if resource:
        told = f"its credentials are those of the Dagster resource {resource!r}: see a run"
        return Finding(place, what, "not asked", told)
    return _tried(place, what, ask)


def _tried(place: str, what: str, ask: Callable[[], str]) -> Finding:
    start = time.monotonic()
    try:
        told = ask()
    except EtlMlError as error:
        return Finding(place, what, "failed", str(error))
    return Finding(place, what, "ok", f"{told}, {time.monotonic() - start:.1f} s")


def _checked(open_place: Callable[[], Lake | Target]) -> str:
    place = open_place()
    place.check()
    return place.url


def _done(ask: Callable[[], None], told: str) -> str:
    ask()
    return told


def _read(pipeline: Pipeline, home: Path) -> str:
    """The first rows of the source."""
    from etl_ml.extract.extract import open_reader

    reader = open_reader(pipeline.source, pipeline.contract, pipeline.row_key(), home, None, None)
    first = next(iter(reader), None)
    return f"{pipeline.source.address}: {first.num_rows if first else 0:,} rows read"


def _missed(lake: Lake, pipeline: Pipeline, home: Path) -> str:
    """Rows of the source that are behind the committed cursor, and not in the lake.

    Raises
    ------
    EtlMlError
        There are some: they came later than the lag.
    """
    from etl_ml.extract.reconcile import missed

    if pipeline.source.incremental is None:
        return "every run reads everything"
    count = missed(lake, pipeline, home)
    if count:
        raise EtlMlError(
            f"{count:,} rows of the source are behind the cursor and not in the lake: they came "
            "later than the lag.",
            where=pipeline.source.address,
            fix=f"raise the lag under source.incremental, and run: etl-ml refresh {pipeline.name}",
        )
    return "every row behind the cursor is in the lake"
