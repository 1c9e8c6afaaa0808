"""`resources:` the memory and processors that an asset's step asks for, where each has a pod."""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StrictFloat, StrictInt, StrictStr, model_validator

from etl_ml.spec.section import Section

_CPU = re.compile(r"\d{1,6}(?:\.\d{1,3})?|\d{1,9}m")
_MEMORY = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(?:([KMGTP])(i?)|k)?")
_POWERS = {"K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_MIB = 2**20


def processors(quantity: str) -> Decimal:
    """A Kubernetes quantity of CPU as processors: `2`, `0.5`, `500m`.

    Raises
    ------
    ValueError
        It is none, or not above zero.
    """
    if not _CPU.fullmatch(quantity):
        raise ValueError("write processors: 2, 0.5 or 500m (thousandths)")
    number = Decimal(quantity.removesuffix("m")) / (1000 if quantity.endswith("m") else 1)
    if number <= 0:
        raise ValueError("should be above 0")
    return number


def memory(quantity: str) -> Decimal:
    """A Kubernetes quantity of memory as bytes: `512Mi`, `4Gi`, `8G`.

    Raises
    ------
    ValueError
        It is none, or less than any step needs: `4` is four bytes, `4m` four thousandths of one.
    """
    found = _MEMORY.fullmatch(quantity)
    if found is None:
        raise ValueError("write bytes with a unit: 512Mi, 4Gi or 8G")
    number, unit, binary = found.groups()
    power = _POWERS.get(unit or ("K" if quantity.endswith("k") else ""), 0)
    base = Decimal(1024 if binary else 1000)
    size = Decimal(number) * base**power
    if size < 16 * _MIB:
        raise ValueError(f"is {size.normalize():f} bytes; write a unit, such as {number}Gi")
    return size


def _cpu(value: int | float | str) -> str:
    text = str(value).strip()
    processors(text)
    return text.removesuffix(".0")


def _memory(value: int | str) -> str:
    text = str(value).strip()
    memory(text)
    return text


class Quantities(Section):
    """Processors and memory, in Kubernetes' units."""

    cpu: Annotated[StrictInt | StrictFloat | StrictStr, AfterValidator(_cpu)] | None = Field(
        None, description="Processors: 2, 0.5, 500m."
    )
    memory: Annotated[StrictInt | StrictStr, AfterValidator(_memory)] | None = Field(
        None, description="Bytes with a unit: 512Mi, 4Gi."
    )

    def given(self) -> dict[str, str]:
        """The quantities that are named."""
        named = {"cpu": self.cpu, "memory": self.memory}
        return {name: str(value) for name, value in named.items() if value is not None}


class StepResources(Section):
    """What one step asks for, and what it gets at most; memory is limited to what is asked for."""

    requests: Quantities = Field(Quantities(), description="What is set aside for the step.")
    limits: Quantities = Field(
        Quantities(), description="Where it is slowed down (cpu), or ended (memory)."
    )

    @model_validator(mode="after")
    def _asks_for_no_more_than_it_gets(self) -> Self:
        if not self.requests.given() and not self.limits.given():
            raise ValueError("name cpu or memory under requests or limits")
        for name, size in (("cpu", processors), ("memory", memory)):
            asked, most = self.requests.given().get(name), self.limits.given().get(name)
            if asked and most and size(asked) > size(most):
                raise ValueError(f"requests.{name}: {asked} is more than limits.{name}, {most}")
        return self

    def asked(self) -> dict[str, dict[str, str]]:
        """Requests and limits as Kubernetes takes them.

        Requests that are not named are the limits, and the limit of memory is its request: then
        neither meets the other side of a default of the cluster that is smaller, or larger.
        """
        requests = self.limits.given() | self.requests.given()
        limits = self.limits.given()
        if "memory" in requests:
            limits.setdefault("memory", requests["memory"])
        return {"requests": requests} | ({"limits": limits} if limits else {})


Step = Literal[
    "raw_data",
    "validated_data",
    "clean_data",
    "transformed_arrays",
    "trained_model",
    "model_evaluation",
    "deployed_model",
    "loaded_data",
    "predictions",
]
"""The assets that are steps of their own: `quarantined_data` is written by `validated_data`'s."""


def largest(steps: Iterable[StepResources]) -> dict[str, dict[str, str]]:
    """What one process needs that runs these steps, one after another."""
    asked = [step.asked() for step in steps]
    most: dict[str, dict[str, str]] = {}
    for side in ("requests", "limits"):
        for name, size in (("cpu", processors), ("memory", memory)):
            given = [step.get(side, {}).get(name) for step in asked if name in step["requests"]]
            known = [quantity for quantity in given if quantity is not None]
            if known and len(known) == len(given):  # a step without a limit has none
                most.setdefault(side, {})[name] = max(known, key=size)
    return most
