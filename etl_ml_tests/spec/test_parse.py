"""What a person is told about a defs.yaml that cannot be a pipeline."""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from pydantic.fields import FieldInfo

from etl_ml.spec import InvalidPipeline, parse
from etl_ml.spec.section import Section
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
    assert refused(evaluation={"gates": {"F1": 0.5}}).close == "'f1'"


def test_only_what_the_task_has_is_offered() -> None:
    told = refused(training={"metric": "f2"}).what
    assert "recall, f1, roc_auc" in told
    assert "mae" not in told
    numbers = {"target": {"column": "income", "task": "regression"}, "training": {"metric": "f2"}}
    assert "should be one of r2, mae, rmse, mape." in refused(**numbers).what
    for metric in ("bogus", "roc_auc"):  # none of them depends on a threshold
        told = refused(training={"threshold": {"maximize": metric}}).what
        assert "one of accuracy, balanced_accuracy, precision, recall, f1, mcc." in told


@pytest.mark.parametrize("candidate", ["lightgmb", {"lightgmb": {"n_estimators": 5}}])
def test_a_misspelt_candidate_is_told_the_nearest_one(candidate: Any) -> None:
    error = refused(training={"candidates": [candidate]})
    assert "training.candidates.0" in error.what
    assert "'lightgmb'" in error.what
    assert error.close == "'lightgbm'"


@pytest.mark.parametrize("candidate", [5, {"svm": {}, "lightgbm": {}}, {"svm": 3}, [], {}])
def test_a_candidate_is_a_name_or_a_name_with_parameters(candidate: Any) -> None:
    assert "a candidate is a name, or" in refused(training={"candidates": [candidate]}).what


A_RANGE = "a range is {low: 1, high: 10, log: false}"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"low": 1, "hgh": 5}, "'hgh' is not a key; 'high' is"),
        ({"low": 5, "high": 1}, "low 5 is not below high 1"),
        ({"low": 1, "high": 1}, "low 1 is not below high 1"),
        ({"low": 1, "high": math.inf}, "low 1 is not below high inf"),
        ({"low": 0, "high": 1, "log": True}, "a logarithmic range begins above 0, not at 0"),
        ({"low": 1}, "high is missing"),
        ({}, "low is missing; high is missing"),
        ({"low": "a", "high": None}, "low should be a number; high should be a number"),
        ({"low": 1, "high": 2, "log": "maybe"}, "log should be true or false"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_range_is_one_sentence(given: dict[str, Any], told: str) -> None:
    error = refused(training={"candidates": [{"logistic_regression": {"C": given}}]})
    place = "loans: training.candidates.0: logistic_regression.C"
    assert error.what == f"{place}: {told}; {A_RANGE}."
    assert str(error).count("training.candidates") == 2


def test_a_class_written_with_a_dot_is_told_how_it_is_written() -> None:
    dotted = "sklearn.linear_model.LogisticRegression"
    for candidate in (dotted, {dotted: {"C": 1}}):
        error = refused(training={"candidates": [candidate]})
        assert "write sklearn.linear_model:LogisticRegression" in error.what


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        (
            {"features": {"outliers": "iqr"}},
            "features.outliers: should be a mapping, as in {method: iqr}",
        ),
        (
            {"evaluation": {"champion": "ignore"}},
            "evaluation.champion: should be a mapping, as in {rule: ignore}",
        ),
        (
            {"training": {"search": "radnom"}},
            "training.search: should be a mapping with the keys method, trials, timeout_seconds",
        ),
        (
            {"evaluation": {"gates": ["f1"]}},
            "evaluation.gates: should be a mapping of names to values",
        ),
        ({"source": "loans.csv"}, "source: should be a mapping with the key type"),
        (
            {"evaluation": {"slices": "country"}},
            "evaluation.slices: should be a list, as in [country]",
        ),
        ({"load": "x"}, "load: should be a list of mappings"),
        (
            {"training": {"candidates": []}},
            "training.candidates: should have 1 or more items, and has 0",
        ),
        (
            {"features": {"function": "mine.add"}},
            "features.function: should be written like module:function",
        ),
        ({"owners": ["bob"]}, "owners.0: should be written like team:name, name@example.com"),
        ({"training": {"folds": 2.5}}, "training.folds: should be a whole number"),
        ({"split": {"test_size": "many"}}, "split.test_size: should be a number"),
        (
            {"split": {"keep_duplicates_together": "maybe"}},
            "split.keep_duplicates_together: should be true or false",
        ),
        ({"features": {"exclude": [1]}}, "features.exclude.0: should be text; put it in quotes"),
        ({"cleaning": {"duplicates": "dorp"}}, "cleaning.duplicates: should be one of keep, drop"),
        ({"split": {"test_size": 2}}, "split.test_size: should be less than 1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_told_in_words_of_yaml(sections: dict[str, Any], told: str) -> None:
    assert refused(**sections).what == f"loans: {told}."


@pytest.mark.parametrize(
    "section",
    [
        "features",
        "split",
        "training",
        "evaluation",
        "cleaning",
        "validation",
        "deployment",
        "automation",
        "lake",
        "load",
        "owners",
        "resources",
        "description",
    ],
)
def test_an_empty_key_has_its_default(section: str) -> None:
    given = {name: value for name, value in ATTRIBUTES.items() if name != section}
    assert parse(given | {section: None}, file="") == parse(given, file="")


def test_an_empty_key_inside_a_section_has_its_default() -> None:
    features = {"numeric": None, "exclude": None, "outliers": {"method": "iqr", "factor": None}}
    made = parse(attributes(features=features, training={"folds": None}), file="")
    assert made == parse(
        attributes(features={"outliers": {"method": "iqr"}}, training={"folds": 5}), file=""
    )


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"source": None}, "source"),
        ({"source": {"path": None}}, "source.path"),
        ({"contract": {"columns": {"age": None}}}, "contract.columns.age"),
        ({"evaluation": {"gates": {"f1": None}}}, "evaluation.gates.f1"),
        ({"owners": [None]}, "owners.0"),
    ],
    ids=str,
)
def test_an_empty_key_without_a_default_is_told_so(sections: dict[str, Any], key: str) -> None:
    error = refused(**sections)
    assert error.what == f"loans: {key!r} is empty."
    assert error.fix == f"fill in {key}"


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


@pytest.mark.parametrize(
    "sections",
    [
        {"training": {"tracking": "http://me:s3cret@mlflow"}},
        {"source": "mongodb://me:s3cret@host"},
        {"source": {"type": "rest_api", "base_url": "https://x", "headers": "s3cret"}},
    ],
)
def test_a_secret_that_is_written_one_key_too_high_is_not_shown(sections: dict[str, Any]) -> None:
    assert "s3cret" not in str(refused(**sections))


def patterned() -> Iterator[tuple[str, FieldInfo, str]]:
    """Every key that is held to a pattern."""
    waiting: list[type[Section]] = [Section]
    while waiting:
        kinds = waiting.pop().__subclasses__()
        waiting += kinds
        for kind in kinds:
            for name, field in kind.model_fields.items():
                if found := re.search(r"pattern='(.*?)'[,)]", repr(field)):
                    yield f"{kind.__name__}.{name}", field, found[1].replace("\\\\", "\\")


def test_every_pattern_has_examples_that_match_it() -> None:
    found = {name: (field, pattern) for name, field, pattern in patterned()}
    assert {"Pipeline.name", "Pipeline.owners", "Features.function"} <= set(found)
    for name, (field, pattern) in found.items():
        assert field.examples, name
        assert all(re.search(pattern, example) for example in field.examples), name


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


def test_on_is_a_word_and_not_true() -> None:
    document = yaml.safe_load("alerts: [{type: slack, url: 'https://x', on: [drift]}]")
    assert True in document["alerts"][0]  # what YAML 1.1 makes of it, and Dagster with it
    (alert,) = parse(attributes(automation=document), file="defs.yaml").automation.alerts
    assert alert.on == ("drift",)
    error = refused(automation={"alerts": [{"type": "slack", "url": "https://x", True: ["drif"]}]})
    assert "automation.alerts.0.on" in error.what
