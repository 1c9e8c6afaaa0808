"""DynamoDB's typed JSON as Python objects."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

Decode = Callable[[Mapping[str, Any]], dict[str, Any]]


def decoder() -> Decode:
    """Items as the API gives them: numbers become Decimal, binary becomes bytes.

    The function that it gives raises ValueError, TypeError, AttributeError or ArithmeticError for
    what is no item.
    """
    from boto3.dynamodb.types import Binary, TypeDeserializer

    deserialize = TypeDeserializer().deserialize

    def plain(value: Any) -> Any:
        if isinstance(value, Decimal) and not value.is_finite():
            raise ValueError("not a number")  # boto3 takes any text for NaN
        if isinstance(value, Binary):
            return bytes(value)
        if isinstance(value, dict):
            return {name: plain(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [plain(inner) for inner in value]
        return {plain(inner) for inner in value} if isinstance(value, set) else value

    return lambda item: {name: plain(deserialize(cell)) for name, cell in item.items()}


def unpacked(item: Any) -> Any:
    """An item from a file as the API gives it: binary is base64 in the one, bytes in the other.

    Raises
    ------
    ValueError
        Binary is not base64.
    """
    if isinstance(item, dict):
        # An attribute of the name B holds a typed value, never a text.
        if set(item) == {"B"} and isinstance(item["B"], str):
            return {"B": base64.b64decode(item["B"], validate=True)}
        if set(item) == {"BS"} and isinstance(item["BS"], list):
            return {"BS": [base64.b64decode(value, validate=True) for value in item["BS"]]}
        return {name: unpacked(value) for name, value in item.items()}
    return [unpacked(value) for value in item] if isinstance(item, list) else item
