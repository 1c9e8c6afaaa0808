"""`resources:` in Kubernetes' quantities, refused where a pod could not be made of them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from kubernetes.utils.quantity import parse_quantity

from etl_ml.spec import InvalidPipeline, Pipeline, parse
from etl_ml.spec.resources import largest, memory, processors
from etl_ml_tests.project import attributes


def _parsed(**resources: Any) -> Pipeline:
    return parse(attributes(resources=resources), file="defs.yaml")


@pytest.mark.parametrize("quantity", ["512Mi", "4Gi", "1.5Gi", "8G", "16777216", "20000k", "1Ti"])
def test_memory_is_what_kubernetes_takes_it_for(quantity: str) -> None:
    assert memory(quantity) == parse_quantity(quantity)


@pytest.mark.parametrize("quantity", ["1", "0.5", "2.25", "500m", "1m"])
def test_processors_are_what_kubernetes_takes_them_for(quantity: str) -> None:
    assert processors(quantity) == parse_quantity(quantity)


@pytest.mark.parametrize(
    ("cpu", "told"),
    [
        (0, "above 0"),
        ("0m", "above 0"),
        (-1, "write processors"),
        ("2 cores", "write processors"),
        ("1e3", "write processors"),
        ("2Gi", "write processors"),
        (True, "should be one value"),
    ],
)
def test_what_is_no_number_of_processors_is_refused(cpu: object, told: str) -> None:
    with pytest.raises(InvalidPipeline, match=told) as raised:
        _parsed(trained_model={"requests": {"cpu": cpu}})
    assert "resources.trained_model.requests.cpu" in str(raised.value)


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (4, "is 4 bytes; write a unit, such as 4Gi"),
        ("400m", "write bytes with a unit"),
        ("4GB", "write bytes with a unit"),
        ("4gi", "write bytes with a unit"),
        ("1Ki", "is 1024 bytes"),
        ("-4Gi", "write bytes with a unit"),
        ("", "write bytes with a unit"),
    ],
)
def test_what_is_no_memory_for_a_step_is_refused(size: object, told: str) -> None:
    with pytest.raises(InvalidPipeline, match=told) as raised:
        _parsed(trained_model={"limits": {"memory": size}})
    assert "resources.trained_model.limits.memory" in str(raised.value)


def test_a_step_asks_for_no_more_than_its_limit() -> None:
    with pytest.raises(InvalidPipeline, match=r"requests.memory: 8Gi is more than limits.memory"):
        _parsed(trained_model={"requests": {"memory": "8Gi"}, "limits": {"memory": "8G"}})
    _parsed(trained_model={"requests": {"cpu": "1500m"}, "limits": {"cpu": 1.5}})


def test_steps_that_are_not_there_are_refused() -> None:
    asked = {"requests": {"cpu": 1}}
    with pytest.raises(InvalidPipeline, match="no such step without load"):
        _parsed(loaded_data=asked)
    with pytest.raises(InvalidPipeline, match="no such step without predictions"):
        _parsed(predictions=asked)
    with pytest.raises(InvalidPipeline, match="validated_data"):
        _parsed(quarantined_data=asked)
    with pytest.raises(InvalidPipeline, match="name cpu or memory"):
        _parsed(clean_data={"requests": {}})


def test_memory_is_limited_to_what_is_asked_for() -> None:
    def asked(**sides: Any) -> Any:
        return _parsed(clean_data=sides).resources["clean_data"].asked()

    assert asked(requests={"memory": "2Gi", "cpu": 2}) == {
        "requests": {"memory": "2Gi", "cpu": "2"},
        "limits": {"memory": "2Gi"},
    }
    assert asked(limits={"memory": "2Gi", "cpu": 2}) == {
        "requests": {"memory": "2Gi", "cpu": "2"},
        "limits": {"memory": "2Gi", "cpu": "2"},
    }


def test_one_process_for_all_steps_needs_what_the_largest_needs() -> None:
    resources = _parsed(
        raw_data={"requests": {"memory": "3000Mi", "cpu": "900m"}, "limits": {"cpu": 2}},
        trained_model={"requests": {"memory": "2Gi", "cpu": 1}, "limits": {"memory": "4Gi"}},
    ).resources.values()
    # 3000Mi is more than 2Gi; a step whose processors are not limited leaves none on the process.
    assert largest(resources) == {
        "requests": {"memory": "3000Mi", "cpu": "1"},
        "limits": {"memory": "4Gi"},
    }
    assert memory("3000Mi") == Decimal(3000 * 2**20)
    assert largest([]) == {}
