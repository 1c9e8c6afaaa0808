"""One run sees one version of each asset, and they belong together."""

from __future__ import annotations

import subprocess
import sys

import pytest

from etl_ml.lake import Contents, Inconsistent, Lake, MissingVersion, Run


def write(lake: Lake, asset: str, run: str = "", **upstream: int) -> str:
    above = {name: f"{version:010d}" for name, version in upstream.items()}
    version = lake.write(
        "p", asset, Contents(files={"a.txt": run}), run_id=run, upstream=above
    ).version
    if run:
        Run(lake, "p", run).wrote(asset, version)
    return version


def read(lake: Lake, run: str, *assets: str, parents: tuple[str, ...] = ()) -> list[int]:
    found = Run(lake, "p", run, parents).read(assets)
    assert list(found) == list(assets)
    return [int(found[asset].version) for asset in assets]


def test_first_comes_what_the_run_itself_wrote(lake: Lake) -> None:
    write(lake, "raw", "mine")
    write(lake, "raw", "other")
    assert read(lake, "mine", "raw") == [1]
    assert read(lake, "third", "raw") == [2]


def test_what_a_run_wrote_is_found_again_and_what_it_read_is_not(lake: Lake) -> None:
    write(lake, "raw")
    read(lake, "mine", "raw")
    assert Run(lake, "p", "mine").written("raw") is None
    write(lake, "raw", "mine")
    write(lake, "raw", "other")
    found = Run(lake, "p", "mine").written("raw")
    assert found is not None
    assert int(found.version) == 2


def test_what_the_run_wrote_comes_before_what_it_read(lake: Lake) -> None:
    write(lake, "raw")
    assert read(lake, "mine", "raw") == [1]
    write(lake, "raw", "mine")
    assert read(lake, "mine", "raw") == [2]


def test_second_comes_what_the_run_already_read(lake: Lake) -> None:
    write(lake, "raw")
    assert read(lake, "mine", "raw") == [1]
    write(lake, "raw")
    assert read(lake, "mine", "raw") == [1]
    assert read(lake, "later", "raw") == [2]


def test_what_the_run_read_comes_before_what_its_parents_read(lake: Lake) -> None:
    write(lake, "raw")
    read(lake, "mine", "raw")
    write(lake, "raw")
    read(lake, "parent", "raw")
    assert read(lake, "mine", "raw", parents=("parent",)) == [1]


def test_third_comes_what_the_other_inputs_were_made_from(lake: Lake) -> None:
    write(lake, "raw")
    write(lake, "clean", raw=1)
    write(lake, "model", clean=1)
    write(lake, "raw")
    write(lake, "clean", raw=2)
    assert read(lake, "a", "model", "clean", "raw") == [1, 1, 1]
    assert read(lake, "b", "raw", "clean", "model") == [1, 1, 1]
    assert read(lake, "c", "raw", "model") == [1, 1]
    assert read(lake, "d", "clean", "raw") == [2, 2]


def test_what_an_input_was_made_from_comes_before_what_the_parents_read(lake: Lake) -> None:
    write(lake, "raw")
    write(lake, "model", raw=1)
    write(lake, "raw")
    read(lake, "parent", "raw")
    assert read(lake, "mine", "raw", "model", parents=("parent",)) == [1, 1]


def test_fourth_comes_what_the_runs_before_it_wrote_or_read_nearest_first(lake: Lake) -> None:
    write(lake, "raw", "grandparent")
    write(lake, "raw", "parent")
    write(lake, "raw")
    write(lake, "other")
    read(lake, "grandparent", "other")
    write(lake, "other")
    chain = ("parent", "grandparent")
    assert read(lake, "mine", "raw", parents=chain) == [2]
    assert read(lake, "mine", "other", parents=chain) == [1]
    assert read(lake, "alone", "raw", "other") == [3, 2]


def test_last_comes_the_latest(lake: Lake) -> None:
    for _ in range(3):
        write(lake, "raw")
    assert read(lake, "mine", "raw") == [3]


def test_inputs_that_disagree_are_refused_and_both_versions_are_named(lake: Lake) -> None:
    write(lake, "clean")
    write(lake, "model", clean=1)
    write(lake, "clean", "mine")
    write(lake, "model", "mine", clean=1)
    with pytest.raises(Inconsistent) as caught:
        read(lake, "mine", "model", "clean")
    for part in ("model 0000000002", "clean 0000000001", "clean 0000000002"):
        assert part in str(caught.value)
    assert "materialize p/model again" in str(caught.value.fix)


def test_inputs_that_disagree_far_above_are_refused(lake: Lake) -> None:
    for version in (1, 2):
        write(lake, "raw")
        write(lake, "clean", raw=version)
    write(lake, "arrays", "mine", clean=1)
    write(lake, "model", "mine", clean=2)
    with pytest.raises(Inconsistent, match="0000000001") as caught:
        read(lake, "mine", "arrays", "model")
    assert "0000000002" in str(caught.value)


def test_a_pin_holds_in_another_process(lake: Lake) -> None:
    write(lake, "raw")
    code = (
        "import sys; from etl_ml.lake import Run, open_lake; "
        "print(Run(open_lake(sys.argv[1]), 'p', 'mine').read(['raw'])['raw'].version)"
    )

    def elsewhere() -> str:
        command = [sys.executable, "-c", code, lake.url]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert elsewhere() == "0000000001"
    write(lake, "raw")
    assert read(lake, "mine", "raw") == [1]
    write(lake, "raw")
    assert elsewhere() == "0000000001"


def test_steps_of_one_run_that_race_agree_on_one_version(lake: Lake) -> None:
    write(lake, "raw")
    first = Run(lake, "p", "mine")
    offered = first._offered("raw")
    write(lake, "raw")
    assert read(lake, "mine", "raw") == [2]
    assert offered == "0000000001"
    assert int(first._pin("raw", offered)) == 2
    assert int(first.read(["raw"])["raw"].version) == 2


def test_an_asset_that_was_never_materialized_is_named(lake: Lake) -> None:
    with pytest.raises(MissingVersion, match="p/raw has never been materialized"):
        read(lake, "mine", "raw")
