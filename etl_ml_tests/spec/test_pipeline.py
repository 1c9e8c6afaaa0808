"""What holds between the sections, the defaults, and the JSON schema."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from etl_ml.spec import InvalidPipeline, Pipeline, parse
from etl_ml.spec.json_schema import made_schema, stored_schema
from etl_ml.spec.training import Training
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.project import ATTRIBUTES


def labelled(column: dict[str, Any], **target: Any) -> Pipeline:
    columns = {"age": {"type": "integer"}, "y": column}
    return parse(
        {**ATTRIBUTES, "contract": {"columns": columns}, "target": {"column": "y", **target}},
        file="defs.yaml",
    )


def test_the_defaults_are_those_that_are_documented() -> None:
    pipeline = make_pipeline(training={"folds": 5, "candidates": ["logistic_regression"]})
    found = pipeline.model_dump(mode="json", exclude={"name", "contract", "target", "source"})
    assert found == {
        "description": "",
        "owners": [],
        "validation": {
            "max_quarantined": 0.05,
            "min_rows": 100,
            "drift": {
                "reference": "deployed",
                "false_discovery_rate": 0.05,
                "min_effect": 0.1,
                "on_drift": "warn",
            },
        },
        "lake": {"keep": 30, "older_than": "30d"},
        "cleaning": {"duplicates": "keep", "drop_columns": [], "json_rows": 1_000_000},
        "split": {
            "strategy": "hash",
            "test_size": 0.2,
            "column": None,
            "seed": 42,
            "keep_duplicates_together": True,
        },
        "features": {
            "numeric": {"impute": "median", "add_indicator": False, "scale": "none"},
            "outliers": {"method": "none", "factor": 3.0, "action": "clip"},
            "categorical": {"impute": "most_frequent", "encode": "auto"},
            "datetime": {"parts": ["year", "month", "day_of_week", "hour"]},
            "exclude": [],
            "function": None,
        },
        "training": {
            "seed": 42,
            "metric": None,
            "folds": 5,
            "candidates": [{"name": "logistic_regression", "params": {}}],
            "search": {"method": "none", "trials": 20, "timeout_seconds": 300.0},
            "threshold": {
                "maximize": None,
                "precision_at_least": None,
                "recall_at_least": None,
                "cost": None,
            },
            "calibrate": "none",
            "class_weight": "none",
            "tracking": None,
        },
        "evaluation": {
            "gates": {},
            "slices": [],
            "max_overfit": None,
            "champion": {"rule": "not_worse", "margin": 0.01, "confidence": 0.95},
        },
        "deployment": {"approval": "automatic", "targets": []},
        "load": [],
        "predictions": None,
        "automation": {
            "new_data": None,
            "schedule": None,
            "retrain_on_drift": False,
            "freshness": {"raw_data": None, "deployed_model": None},
            "alerts": [],
        },
        "partitions": None,
        "resources": {},
    }
    assert pipeline.source.null_values == ("", "na", "NA", "?")
    assert pipeline.contract.unknown_columns == "fail"
    assert pipeline.contract.primary_key == ()
    assert pipeline.contract.columns["age"].nullable is True
    assert pipeline.metric == "f1"
    assert [c.name for c in Training().candidates_of("classification")] == [
        "logistic_regression",
        "random_forest",
        "lightgbm",
    ]
    assert Training().metric_of("regression") == "r2"
    assert [c.name for c in Training().candidates_of("regression")] == [
        "ridge",
        "random_forest",
        "lightgbm",
    ]


def sections(model: BaseModel) -> list[BaseModel]:
    inner = [v for v in dict(model).values() if isinstance(v, BaseModel)]
    return [model, *(section for value in inner for section in sections(value))]


def test_nothing_of_a_pipeline_can_be_changed(pipeline: Pipeline) -> None:
    found = [
        *sections(pipeline),
        *pipeline.contract.columns.values(),
        *pipeline.candidates,
    ]
    assert len(found) > 15
    for section in found:
        key = next(iter(type(section).model_fields))
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, key, getattr(section, key))


def test_the_stored_json_schema_is_that_of_the_models() -> None:
    assert stored_schema() == json.loads(json.dumps(made_schema())), "run: make schema"


def test_the_json_schema_is_small_and_names_every_key() -> None:
    schema = Pipeline.model_json_schema()
    assert set(schema["properties"]) == set(Pipeline.model_fields)
    assert schema["additionalProperties"] is False
    assert len(json.dumps(schema)) < 70_000


def test_the_target_is_a_column_of_the_contract() -> None:
    with pytest.raises(
        InvalidPipeline, match=r"target\.column: 'defaulte' is not under .*'defaulted'"
    ):
        make_pipeline(target={"column": "defaulte"})


def test_a_sensitive_target_is_refused() -> None:
    with pytest.raises(InvalidPipeline, match="sensitive column cannot be the target"):
        labelled({"type": "integer", "allowed": [0, 1], "sensitive": True})


@pytest.mark.parametrize(
    "column",
    [
        {"type": "integer", "allowed": [0, 1]},
        {"type": "integer", "allowed": [1, 0]},
        {"type": "float", "allowed": [0, 1]},
        {"type": "boolean", "allowed": [True, False]},
        {"type": "category", "allowed": ["a", "b", "c"]},
        {"type": "category"},
    ],
)
def test_the_positive_label_may_be_left_out_where_it_is_obvious_unknown_or_there_is_none(
    column: dict[str, Any],
) -> None:
    assert labelled(column).target.positive is None


@pytest.mark.parametrize(
    "column",
    [
        {"type": "category", "allowed": ["yes", "no"]},
        {"type": "category", "allowed": ["0", "1"]},
        {"type": "integer", "allowed": [1, 2]},
    ],
)
def test_the_positive_label_of_two_others_must_be_named_and_be_one_of_them(
    column: dict[str, Any],
) -> None:
    with pytest.raises(InvalidPipeline, match=r"target\.positive: name one of the labels"):
        labelled(column)
    with pytest.raises(InvalidPipeline, match=r"target\.positive: not one of the labels"):
        labelled(column, positive="maybe")
    label = column["allowed"][1]
    assert labelled(column, positive=label).target.positive == label


def test_three_labels_have_no_positive_one() -> None:
    with pytest.raises(InvalidPipeline, match=r"target\.positive: there are 3 labels"):
        labelled({"type": "category", "allowed": ["a", "b", "c"]}, positive="a")


def test_dropped_columns_are_columns_and_not_the_target() -> None:
    with pytest.raises(InvalidPipeline, match=r"cleaning\.drop_columns: 'defaulted' is the target"):
        make_pipeline(cleaning={"drop_columns": ["defaulted"]})
    with pytest.raises(InvalidPipeline, match=r"cleaning\.drop_columns: 'agee' is not under"):
        make_pipeline(cleaning={"drop_columns": ["agee"]})
    keep = make_pipeline(cleaning={"drop_columns": ["x"]}, contract={"unknown_columns": "keep"})
    assert keep.cleaning.drop_columns == ("x",)


def test_features_are_what_is_neither_target_key_nor_dropped() -> None:
    pipeline = make_pipeline(
        cleaning={"drop_columns": ["age"]}, contract={"primary_key": ["opened"]}
    )
    assert list(pipeline.features_of()) == ["income", "country"]
    with pytest.raises(InvalidPipeline, match="no feature is left"):
        make_pipeline(
            cleaning={"drop_columns": ["age", "income", "country"]},
            contract={"primary_key": ["opened"]},
        )


def test_every_key_of_the_json_schema_is_described() -> None:
    schema = stored_schema()
    for name, section in [("Pipeline", schema), *schema["$defs"].items()]:
        for key, told in section.get("properties", {}).items():
            assert told.get("description"), f"{name}.{key}"
