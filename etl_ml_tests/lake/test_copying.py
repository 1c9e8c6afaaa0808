"""A lake carried from each backend to the next."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from etl_ml.lake import Contents, Lake, Log, Run, open_lake
from etl_ml.lake.copying import NotEmpty, copy
from etl_ml.lake.verification import verify
from etl_ml.spec.error import EtlMlError
from etl_ml_tests.lake.conftest import BACKENDS, place
from etl_ml_tests.lake.test_growing import following, values

ROUTE = [*BACKENDS, "s3", "local"]


def fill(lake: Lake) -> None:
    for _ in range(3):
        lake.write("p", "raw_data", Contents(grow=following), run_id="r")
    lake.write("p", "raw_data", Contents(grow=lambda head: None), run_id="r")
    rows = pl.LazyFrame({"_etl_ml_row": ["a", "b"], "x": [1.5, None], "t": [["q"], []]})
    for number in range(2):
        lake.write(
            "p",
            "clean_data",
            Contents(rows, {"x.json": {"x": number}}),
            upstream={"raw_data": "0000000002"},
        )
    Run(lake, "p", "r").wrote("clean_data", "0000000002")
    Log(lake, "p").promote(
        "0000000001", replaces=None, run_id="r", reason="", metric="f1", value=1.0, compared=False
    )


def substance(lake: Lake) -> dict[str, object]:
    """Everything but where tables are and how their versions are numbered."""
    found: dict[str, object] = {"log": [vars(entry) for entry in Log(lake, "p").entries()]}
    for asset in ("raw_data", "clean_data"):
        for name in lake.versions("p", asset):
            version = lake.open("p", asset, name)
            manifest = version.manifest
            found[f"{asset} {name}"] = (
                [(file.path, file.sha256) for file in manifest.files],
                version.table.content(),
                version.table.rows,
                version.table.cursor,
                dict(manifest.upstream),
                (manifest.run_id, manifest.created_at),
            )
    return found


def test_a_lake_goes_round_all_backends_and_comes_back_equal(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lakes = []
    for number, kind in enumerate(ROUTE):
        folder = tmp_path / str(number)
        folder.mkdir()
        lakes.append(open_lake(place(kind, request, folder, monkeypatch)))
    fill(lakes[0])
    expected = substance(lakes[0])
    for here, there in pairwise(lakes):
        copy(here, there, "p")
        assert substance(there) == expected
        assert not verify(there, "p").damage
    last = lakes[-1]
    assert values(last) == [0, 1, 2]
    last.write("p", "raw_data", Contents(grow=following))
    assert values(last) == [0, 1, 2, 3]
    assert last.latest("p", "raw_data") == "0000000005"


def test_a_copy_that_was_interrupted_has_whole_versions_and_goes_on(
    lake: Lake, tmp_path: Path
) -> None:
    fill(lake)
    target = open_lake(tmp_path / "target")
    left = 9

    def cut(line: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise ConnectionError("cut off")

    with pytest.raises(ConnectionError):
        copy(lake, target, "p", told=cut)
    for asset in ("raw_data", "clean_data"):
        for version in target.versions("p", asset):
            assert target.open("p", asset, version).table.to_polars().height
    copy(lake, target, "p")
    assert substance(target) == substance(lake)
    again = copy(lake, target, "p")
    assert again.tables == 0


def test_a_lake_with_versions_of_its_own_is_not_written_over(lake: Lake, tmp_path: Path) -> None:
    fill(lake)
    target = open_lake(tmp_path / "target")
    for _ in range(3):
        target.write("p", "clean_data", Contents(pl.LazyFrame({"x": [1]})))
    with pytest.raises(NotEmpty, match="has versions of p that"):
        copy(lake, target, "p")
    assert target.table("p", "clean_data").to_polars()["x"].to_list() == [1]


def test_a_pipeline_that_is_not_there_is_named_beside_those_that_are(
    lake: Lake, tmp_path: Path
) -> None:
    fill(lake)
    with pytest.raises(EtlMlError, match="no pipeline 'q'") as caught:
        copy(lake, open_lake(tmp_path / "target"), "q")
    assert "p" in str(caught.value.seen)


def test_a_large_object_goes_through_a_file(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl_ml.lake.copying._LARGE", 1000)
    array = np.arange(1_000_000)
    lake.write("p", "a", Contents(files={"a.npy": array}))
    target = open_lake(tmp_path / "target")
    copy(lake, target, "p")
    np.testing.assert_array_equal(target.read("p", "a", "a.npy"), array)
    assert not verify(target, "p").damage


def test_tables_that_were_copied_are_read_without_being_proved(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(lake)
    target = open_lake(tmp_path / "target")
    copy(lake, target, "p")
    monkeypatch.setattr("etl_ml.lake.version.content_of", lambda rows: pytest.fail("was proved"))
    for version in target.versions("p", "clean_data"):
        assert target.table("p", "clean_data", version).to_polars().height == 2
