"""What a person is told about a defs.yaml that cannot be a pipeline."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest

from etl_ml.spec import InvalidPipeline, parse
from etl_ml_tests.project import ATTRIBUTES, attributes


def refused(**sections: Any) -> InvalidPipeline:
    with pytest.raises(InvalidPipeline) as caught:
        parse(attributes(**sections), file="defs/loans/defs.yaml")
    return caught.value


@pytest.mark.parametrize(
    ("sections", "key", "close"),
    [
        ({"splt": {}}, "splt", "split"),
        ({"split": {"test_sise": 0.2}}, "split.test_sise", "test_size"),
        ({"validation": {"drift": {"on_drif": "warn"}}}, "validation.drift.on_drif", "on_drift"),
        ({"features": {"numeric": {"imput": "mean"}}}, "features.numeric.imput", "impute"),
        ({"source": {"formt": "csv"}}, "source.formt", "format"),
        (
            {
                "contract": {
                    "columns": {
                        "age": {"type": "integer", "mim": 1},
                        "defaulted": {"type": "integer"},
                    }
                }
            },
            "contract.columns.age.mim",
            "min",
        ),
    ],
)
def test_an_unknown_key_is_named_with_its_path_the_nearest_key_and_the_file(
    sections: dict[str, Any], key: str, close: str
) -> None:
    error = refused(**sections)
    assert f"{key!r} is not a key" in error.what
    assert error.close == repr(close)
    assert error.where == "defs/loans/defs.yaml"
    assert close in (error.fix or "")


def test_an_unknown_key_that_is_near_to_none_lists_the_keys_there_are() -> None:
    error = refused(cleaning={"xyzzy": 1})
    assert error.close is None
    assert error.fix == "the keys here are duplicates, drop_columns, json_rows"


@pytest.mark.parametrize(
    ("sections", "key", "seen"),
    [
        ({"split": {"test_size": 1.5}}, "split.test_size", "1.5"),
        ({"split": {"test_size": 0}}, "split.test_size", "0"),
        ({"split": {"seed": -1}}, "split.seed", "-1"),
        ({"validation": {"max_quarantined": 1.01}}, "validation.max_quarantined", "1.01"),
        ({"validation": {"min_rows": -1}}, "validation.min_rows", "-1"),
        ({"training": {"folds": 1}}, "training.folds", "1"),
        ({"training": {"folds": "many"}}, "training.folds", "'many'"),
        ({"evaluation": {"max_overfit": math.nan}}, "evaluation.max_overfit", "nan"),
        ({"evaluation": {"champion": {"confidence": 1}}}, "evaluation.champion.confidence", "1"),
        ({"name": "Bad Name"}, "name", "'Bad Name'"),
        ({"owners": ["bob"]}, "owners.0", "'bob'"),
        ({"source": {"path": ""}}, "source.path", "''"),
        ({"source": {"type": "mongo"}}, "source.type", "'mongo'"),
        ({"cleaning": {"duplicates": "dorp"}}, "cleaning.duplicates", "'dorp'"),
        ({"contract": 5}, "contract", "5"),
    ],
)
def test_a_wrong_value_is_named_with_its_path_and_shown(
    sections: dict[str, Any], key: str, seen: str
) -> None:
    error = refused(**sections)
    assert f": {key}: " in error.what
    assert error.seen == seen
    assert error.where == "defs/loans/defs.yaml"
    assert error.fix == f"correct {key}"


def test_a_misspelt_choice_is_told_the_nearest_one() -> None:
    assert refused(cleaning={"duplicates": "dorp"}).close == "'drop'"
    assert refused(training={"metric": "acuracy"}).close == "'accuracy'"


def test_a_misspelt_gate_is_told_the_nearest_metric_and_not_its_limit() -> None:
    error = refused(evaluation={"gates": {"f_1": 0.5}})
    assert (error.seen, error.close) == ("'f_1'", "'f1'")


@pytest.mark.parametrize("candidate", ["lightgmb", {"lightgmb": {"n_estimators": 5}}])
def test_a_misspelt_candidate_is_told_the_nearest_one(candidate: Any) -> None:
    error = refused(training={"candidates": [candidate]})
    assert "training.candidates.0" in error.what
    assert "'lightgmb'" in error.what
    assert error.close == "'lightgbm'"


@pytest.mark.parametrize("candidate", [5, {"svm": {}, "lightgbm": {}}, {"svm": 3}, [], {}])
def test_a_candidate_is_a_name_or_a_name_with_parameters(candidate: Any) -> None:
    assert "a candidate is a name, or" in refused(training={"candidates": [candidate]}).what


@pytest.mark.parametrize("key", ["name", "source", "contract", "target"])
def test_a_missing_section_is_asked_for(key: str) -> None:
    given = {name: value for name, value in ATTRIBUTES.items() if name != key}
    with pytest.raises(InvalidPipeline, match=f"{key!r} is required") as caught:
        parse(given, file="defs.yaml")
    assert caught.value.fix == f"add {key}"


def test_a_missing_key_of_a_section_is_asked_for_by_its_path() -> None:
    given = attributes() | {"source": {"type": "file"}}
    with pytest.raises(InvalidPipeline, match=r"'source\.path' is required"):
        parse(given, file="defs.yaml")


@pytest.mark.parametrize(
    "sections",
    [
        {"source": [{"path": "s3cret"}]},
        {"owners": {"s3cret": "s3cret"}},
        {"training": {"candidates": {"s3cret": "s3cret"}}},
        {"split": {"test_size": {"s3cret": ["s3cret"]}}},
        {"source": {"null_values": [["s3cret"]]}},
    ],
)
def test_a_section_is_never_printed(sections: dict[str, Any]) -> None:
    error = refused(**sections)
    assert error.seen is None
    assert "s3cret" not in str(error)


def test_a_long_value_is_cut() -> None:
    assert len(str(refused(name="X" * 10_000))) < 500


def test_a_value_of_a_limit_that_is_no_scalar_is_one_problem_with_the_path_that_was_written() -> (
    None
):
    columns = {"age": {"type": "integer", "allowed": [{"a": 1}]}, "defaulted": {"type": "integer"}}
    error = refused(contract={"columns": columns})
    assert "contract.columns.age.allowed.0: should be one value" in error.what
    assert "contract.columns.age.allowed.0" in (error.fix or "")
    assert str(error).count("contract.columns") == 2


def test_every_problem_is_told_at_once_up_to_five() -> None:
    error = refused(split={"test_size": 2}, training={"folds": 1})
    assert "split.test_size" in str(error)
    assert "training.folds" in str(error)
    many = refused(**{f"unknown_{i}": 1 for i in range(8)})
    assert str(many).count("is not a key") == 5
    assert "and 3 more" in str(many)


def test_an_error_crosses_a_process_boundary_whole() -> None:
    error = refused(splt={})
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is InvalidPipeline
    assert str(again) == str(error)
