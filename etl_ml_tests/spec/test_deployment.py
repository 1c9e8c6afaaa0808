"""What a target refuses when the pipeline is loaded, by the parser and by the schema of editors."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest

from etl_ml.orchestration.component import Attributes
from etl_ml.spec import InvalidPipeline, Pipeline, parse
from etl_ml.spec.deployment import target_names
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.project import attributes

FILE: dict[str, Any] = {"type": "file", "url": "models"}
S3: dict[str, Any] = {"type": "s3", "url": "s3://bucket/models"}
AZURE_BLOB: dict[str, Any] = {"type": "azure_blob", "url": "az://container/models"}
GCS: dict[str, Any] = {"type": "gcs", "url": "gs://bucket/models"}
SAGEMAKER: dict[str, Any] = {
    "type": "sagemaker",
    "url": "s3://bucket/models",
    "image": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/etl_ml:1",
    "role_arn": "arn:aws:iam::123456789012:role/sagemaker",
}
AZURE_ML: dict[str, Any] = {
    "type": "azure_ml",
    "url": "az://container/models",
    "subscription_id": "12345678-1234-1234-1234-123456789abc",
    "resource_group": "group",
    "workspace": "space",
    "image": "registry.azurecr.io/etl_ml:1",
}
CUSTOM: dict[str, Any] = {"type": "my_project.targets:Registry", "url": "https://models", "n": 3}
EVERY = [FILE, S3, AZURE_BLOB, GCS, SAGEMAKER, AZURE_ML, CUSTOM, "my_project.targets:Registry"]


def deploying(*targets: Any, **keys: Any) -> Pipeline:
    deployment = {"targets": list(targets), **keys}
    return parse(attributes(deployment=deployment), file="defs.yaml")


def refusal(*targets: Any, **keys: Any) -> str:
    with pytest.raises(InvalidPipeline) as refused:
        deploying(*targets, **keys)
    return str(refused.value)


def by_schema(*targets: Any) -> bool:
    """Whether `dg check defs` would take it, which validates against the component's schema."""
    schema = Attributes.model_json_schema()
    document = attributes(deployment={"targets": list(targets)})
    return not list(jsonschema.Draft202012Validator(schema).iter_errors(document))


def test_every_type_is_taken_with_what_it_must_have() -> None:
    found = deploying(*EVERY).deployment.targets
    assert [target.type for target in found] == [
        *("file", "s3", "azure_blob", "gcs", "sagemaker", "azure_ml"),
        *["my_project.targets:Registry"] * 2,
    ]
    assert by_schema(*EVERY)
    assert deploying().deployment.approval == "automatic"


def test_the_defaults_are_those_that_are_documented() -> None:
    sagemaker, azure_ml = deploying(SAGEMAKER, AZURE_ML).deployment.targets
    assert (sagemaker.instance_type, sagemaker.instance_count) == ("ml.m5.large", 1)
    assert (sagemaker.variant, sagemaker.verify, sagemaker.wait_seconds) == (
        "AllTraffic",
        True,
        1800,
    )
    assert (azure_ml.datastore, azure_ml.auth_mode, azure_ml.port) == (
        "workspaceblobstore",
        "key",
        8080,
    )


WRONG: list[tuple[Any, str, str]] = [
    ({"url": "models"}, "deployment.targets.0.type", "is required"),
    ({"type": "s4", "url": "s3://b"}, "deployment.targets.0.type", "'s3'"),
    ({"type": "SageMaker"}, "deployment.targets.0.type", "'sagemaker'"),
    ({"type": "module"}, "deployment.targets.0.type", "should be one of"),
    ({"type": 7}, "deployment.targets.0.type", "should be one of"),
    ("s3://bucket/models", "deployment.targets.0", "module:Class"),
    ("registry", "deployment.targets.0", "module:Class"),
    (7, "deployment.targets.0", ""),
    ({**FILE, "url": ""}, "deployment.targets.0.url", "at least 1 character"),
    ({**FILE, "url": "s3://bucket"}, "deployment.targets.0.url", "object stores are of type"),
    ({"type": "file"}, "deployment.targets.0.url", "is required"),
    ({**S3, "url": "bucket/models"}, "deployment.targets.0.url", "s3://"),
    ({**S3, "url": "s3://key:secret@bucket"}, "deployment.targets.0.url", "s3://"),
    ({**S3, "regoin": "x"}, "deployment.targets.0.regoin", "'region'"),
    ({**S3, "project": "x"}, "deployment.targets.0.project", "is not a key"),
    ({**AZURE_BLOB, "url": "s3://b"}, "deployment.targets.0.url", "az://"),
    ({**GCS, "url": "gcs://b"}, "deployment.targets.0.url", "gs://"),
    (
        {k: v for k, v in SAGEMAKER.items() if k != "image"},
        "deployment.targets.0.image",
        "required",
    ),
    ({**SAGEMAKER, "role_arn": "sagemaker"}, "deployment.targets.0.role_arn", "arn:aws"),
    ({**SAGEMAKER, "endpoint_name": "a_b"}, "deployment.targets.0.endpoint_name", "like churn-eu"),
    ({**SAGEMAKER, "instance_type": "m5.large"}, "deployment.targets.0.instance_type", "ml"),
    ({**SAGEMAKER, "instance_count": 0}, "deployment.targets.0.instance_count", "greater than"),
    ({**SAGEMAKER, "bake_seconds": 3601}, "deployment.targets.0.bake_seconds", "3600"),
    ({**SAGEMAKER, "alarms": "errors"}, "deployment.targets.0.alarms", ""),
    ({**SAGEMAKER, "environment": {"A": 1}}, "deployment.targets.0.environment.A", "text"),
    ({**AZURE_ML, "subscription_id": "mine"}, "deployment.targets.0.subscription_id", "-0000-"),
    ({**AZURE_ML, "endpoint_name": "ab"}, "deployment.targets.0.endpoint_name", "at least 3"),
    ({**AZURE_ML, "endpoint_name": "1abc"}, "deployment.targets.0.endpoint_name", "like churn-eu"),
    ({**AZURE_ML, "auth_mode": "keys"}, "deployment.targets.0.auth_mode", "one of key, "),
    ({**AZURE_ML, "port": 0}, "deployment.targets.0.port", "greater than"),
    (
        {**CUSTOM, "type": "my project:Registry"},
        "deployment.targets.0.type",
        "module:Class, or",
    ),
    (
        {**CUSTOM, "type": "my_project:Registry()"},
        "deployment.targets.0.type",
        "module:Class, or",
    ),
]


@pytest.mark.parametrize(("target", "path", "told"), WRONG)
def test_what_is_wrong_is_named_by_its_path(target: Any, path: str, told: str) -> None:
    message = refusal(target)
    assert path in message
    assert told in message
    assert "defs.yaml" in message
    assert re.search(r"fix it", message)


@pytest.mark.parametrize("target", [wrong for wrong, *_ in WRONG])
def test_what_the_parser_refuses_the_schema_refuses(target: Any) -> None:
    # The one thing that a pattern cannot say of a path.
    if target == {**FILE, "url": "s3://bucket"}:
        assert by_schema(target)
    else:
        assert not by_schema(target)


def test_the_place_of_a_wrong_one_is_counted() -> None:
    message = refusal(FILE, S3, {**GCS, "url": "gcs://b"})
    assert "deployment.targets.2.url" in message


@pytest.mark.parametrize("twice", [FILE, S3, GCS, SAGEMAKER, AZURE_ML, CUSTOM, "a.b:C"])
def test_one_place_is_not_named_twice(twice: Any) -> None:
    assert "1: the same place as 0" in refusal(twice, twice)


def test_several_of_one_type_are_told_apart() -> None:
    there = deploying(
        S3,
        S3 | {"url": "s3://other"},
        SAGEMAKER,
        SAGEMAKER | {"endpoint_name": "staging"},
        CUSTOM,
        CUSTOM | {"n": 4},
    ).deployment.targets
    names = target_names(there)
    assert names == ["s3", "s3_2", "sagemaker", "sagemaker_2", "Registry", "Registry_2"]
    assert len({target.display for target in there[:4]}) == 4


def test_a_slash_at_the_end_changes_nothing() -> None:
    (target,) = deploying(S3 | {"url": "s3://bucket/models//"}).deployment.targets
    assert target.url == "s3://bucket/models"
    assert "the same place" in refusal(S3, S3 | {"url": f"{S3['url']}/"})


def test_a_class_is_called_with_the_other_keys_and_shows_none_of_them() -> None:
    (target,) = deploying(CUSTOM | {"token": "hunter2"}).deployment.targets
    assert target.options == {"url": "https://models", "n": 3, "token": "hunter2"}
    assert "hunter2" not in repr(target)
    assert "hunter2" not in target.display
    (plain,) = deploying("my_project.targets:Registry").deployment.targets
    assert plain.options == {}


def test_an_approval_that_is_none_is_told() -> None:
    message = refusal(approval="manually")
    assert "deployment.approval" in message
    assert "'manual'" in message


def test_options_of_a_class_are_in_no_hash() -> None:
    from etl_ml.orchestration.code_version import code_version

    codes = {
        code_version(make_pipeline(deployment={"targets": [CUSTOM | {"n": n}]}), "deployed_model")
        for n in (3, 3, 4)
    }
    assert len(codes) == 1  # its options may be secrets, which are in no hash
