"""Every error that the product can raise says what to do next, and shows no unbounded value."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import etl_ml
from etl_ml.spec.error import EtlMlError

ROOT = Path(etl_ml.__file__).parent
# Raised where another message follows, or turned into one by whoever catches it.
_PASSED_ON = {"Moved", "AlreadyExists", "TooLarge"}
# An answer of the scoring service: it says what was expected instead.
_ANSWERS = {"Refused"}


def kinds() -> dict[str, type[EtlMlError]]:
    """Every class of error, by name."""
    for module in pkgutil.walk_packages([str(ROOT)], "etl_ml."):
        if ".defs" not in module.name and "__main__" not in module.name:
            importlib.import_module(module.name)
    found: dict[str, type[EtlMlError]] = {"EtlMlError": EtlMlError}
    waiting = [EtlMlError]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            if kind.__module__.startswith("etl_ml."):
                found[kind.__name__] = kind
                waiting.append(kind)
    return found


def raised() -> Iterator[tuple[str, ast.Call]]:
    """Every place where one is made: file and line, and the call."""
    names = kinds()
    for file in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                if name in names and name not in _PASSED_ON | _ANSWERS:
                    yield f"{file.relative_to(ROOT)}:{node.lineno} {name}", node


CALLS = dict(raised())


def text_of(node: ast.expr) -> str | None:
    """The constant parts of a message; None where it is made elsewhere."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = [v.value if isinstance(v, ast.Constant) else "…" for v in node.values]
        return "".join(map(str, parts))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = text_of(node.left), text_of(node.right)
        return f"{left or '…'}{right or '….'}"
    return None


def test_there_are_errors_to_look_at() -> None:
    assert len(CALLS) > 150


@pytest.mark.parametrize("place", CALLS)
def test_it_says_what_to_do_next(place: str) -> None:
    given = {keyword.arg for keyword in CALLS[place].keywords}
    assert "fix" in given or None in given, f"{place} has no fix="


@pytest.mark.parametrize("place", CALLS)
def test_it_is_a_sentence(place: str) -> None:
    arguments = CALLS[place].args
    assert arguments, f"{place} does not say what failed"
    text = text_of(arguments[0])
    if text is not None:
        assert text.rstrip().endswith((".", "?", "…")), f"{place}: {text!r}"
        assert "\n" not in text


def test_every_kind_of_error_says_what_it_is_about() -> None:
    for name, kind in kinds().items():
        assert kind.__doc__, f"{name} has no docstring"


def test_an_error_crosses_a_process_whole() -> None:
    import pickle

    for name, kind in kinds().items():
        if name in _ANSWERS:
            continue
        error = kind("What failed.", seen="s", where="w", close="c", fix="f")
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (kind, str(error))
