"""The language of `contract.rules`: what must hold between the columns of a row.

    paid_at >= created_at
    income > 0 or employed == false
    country in ('DE', 'FR') and length(`post code`) between 4 and 8

Rules are parsed and type-checked when the pipeline is loaded, and never evaluated as Python.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

from etl_ml.spec.error import bounded, nearest

Kind = Literal["number", "text", "boolean", "date", "datetime"]
Value = bool | int | float | str | date | datetime
_KINDS: Mapping[str, Kind] = {
    "integer": "number",
    "float": "number",
    "boolean": "boolean",
    "string": "text",
    "category": "text",
    "date": "date",
    "datetime": "datetime",
}
FUNCTIONS: Mapping[str, tuple[Kind, Kind]] = {
    "abs": ("number", "number"),
    "length": ("text", "number"),
    "lower": ("text", "text"),
    "upper": ("text", "text"),
}
"""By name: what the argument is, and what comes out."""

_LONGEST, _DEEPEST = 1000, 40
_WORDS = {"and", "or", "not", "in", "is", "null", "between", "true", "false"}
_COMPARISONS = ("==", "!=", "<=", ">=", "<", ">")
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
  | (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
  | (?P<quoted>`[^`]+`)
  | (?P<word>[^\W\d]\w*(?:\.\w+)*)
  | (?P<sign>==|!=|<>|<=|>=|[-+*/()<>=,])
)""",
    re.VERBOSE,
)


class InvalidRule(ValueError):
    """A rule that cannot be read, or that no row can be asked."""


@dataclass(frozen=True)
class Name:
    """A column's value."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class Constant:
    """A value as it was written."""

    value: Value
    kind: Kind


@dataclass(frozen=True)
class Call:
    """A function of `FUNCTIONS`, or one of + - * /, of operands."""

    function: str
    operands: tuple[Operand, ...]
    kind: Kind


@dataclass(frozen=True)
class Compare:
    """`left operator right`, both of one kind, or date and datetime."""

    operator: str
    left: Operand
    right: Operand


@dataclass(frozen=True)
class IsNull:
    """Whether a value is missing; never unknown."""

    operand: Operand


@dataclass(frozen=True)
class OneOf:
    """Whether a value is one of several."""

    operand: Operand
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Not:
    """The opposite; unknown stays unknown."""

    operand: Condition


@dataclass(frozen=True)
class Both:
    """`and` (all) or `or` (any) of conditions."""

    operator: Literal["and", "or"]
    operands: tuple[Condition, ...]


Operand = Name | Constant | Call
Condition = Name | Compare | IsNull | OneOf | Not | Both


def parse_rule(text: str, columns: Mapping[str, str]) -> Condition:
    """Read a rule.

    Parameters
    ----------
    text : up to 1,000 characters
    columns : the contract's columns and their types

    Raises
    ------
    InvalidRule
        Says what is wrong at which character, and what to write instead.
    """
    if len(text) > _LONGEST:
        raise InvalidRule(f"is {len(text)} characters long; up to {_LONGEST} are read")
    condition = _Parser(text, columns).rule()
    if not columns_of(condition):
        raise InvalidRule("names no column: it holds always or never")
    return condition


def columns_of(part: Condition | Operand) -> tuple[str, ...]:
    """The columns that a rule names, each once."""
    if isinstance(part, Name):
        return (part.name,)
    if isinstance(part, Constant):
        return ()
    below: tuple[Condition | Operand, ...]
    if isinstance(part, Compare):
        below = (part.left, part.right)
    elif isinstance(part, Call | Both):
        below = part.operands
    else:
        below = (part.operand,)
    return tuple(dict.fromkeys(name for inner in below for name in columns_of(inner)))


class _Parser:
    """Recursive descent over the tokens: or, and, not, comparison, sum, product, factor."""

    def __init__(self, text: str, columns: Mapping[str, str]) -> None:
        self._columns = columns
        self._tokens: list[tuple[str, str, int]] = []
        self._next = self._depth = 0
        place = 0
        while text[place:].strip():
            found = _TOKEN.match(text, place)
            if not found or not found.lastgroup:
                at = place + len(text[place:]) - len(text[place:].lstrip())
                raise InvalidRule(f"cannot be read at character {at + 1}: {bounded(text[at:], 20)}")
            token = found[found.lastgroup]
            kind = found.lastgroup
            if kind == "word" and token.lower() in _WORDS:
                kind, token = "sign", token.lower()
            self._tokens.append((kind, token, found.start(found.lastgroup) + 1))
            place = found.end()
        self._tokens.append(("end", "", len(text) + 1))

    def rule(self) -> Condition:
        condition = self._either()
        if self._tokens[self._next][0] != "end":
            raise self._unexpected("and, or, or the end of the rule")
        return condition

    def _either(self) -> Condition:
        return self._several("or", self._every)

    def _every(self) -> Condition:
        return self._several("and", self._negation)

    def _several(self, operator: Literal["and", "or"], part: Callable[[], Condition]) -> Condition:
        operands = [part()]
        while self._took(operator):
            operands.append(part())
        return operands[0] if len(operands) == 1 else Both(operator, tuple(operands))

    def _negation(self) -> Condition:
        if self._took("not"):
            self._descend()
            inner = self._negation()
            self._depth -= 1
            return Not(inner)
        return self._comparison()

    def _comparison(self) -> Condition:
        start, depth = self._next, self._depth
        if self._took("("):  # a condition in parentheses, or a sum that begins with one
            self._descend()
            try:
                inner = self._either()
                closed = self._took(")")
            except _NoCondition:
                closed = False
            self._depth = depth
            if closed and self._tokens[self._next][1] in ("", "and", "or", ")"):
                return inner
            self._next = start
        left = self._sum()
        place = self._tokens[self._next][2]
        if self._took("is"):
            negated = self._took("not")
            self._expect("null")
            return Not(IsNull(left)) if negated else IsNull(left)
        negated = self._took("not")
        if self._took("in"):
            return _negated(self._one_of(left), negated)
        if self._took("between"):
            low = self._sum()
            self._expect("and")
            inside = (_compare(">=", left, low, place), _compare("<=", left, self._sum(), place))
            return _negated(Both("and", inside), negated)
        if negated:
            raise self._unexpected("in or between after not")
        for operator in ("=", "<>"):
            if self._tokens[self._next][1] == operator:
                better = "==" if operator == "=" else "!="
                raise InvalidRule(f"at character {place}: write {better} and not {operator}")
        for operator in _COMPARISONS:
            if self._took(operator):
                return _compare(operator, left, self._sum(), place)
        if isinstance(left, Name) and left.kind == "boolean":
            return left
        raise _NoCondition(
            f"at character {place}: a comparison is missing (== != < <= > >= in, between, is null)"
        )

    def _one_of(self, operand: Operand) -> Condition:
        self._expect("(")
        values: list[Value] = []
        while True:
            place = self._tokens[self._next][2]
            value = self._factor()
            if not isinstance(value, Constant):
                raise InvalidRule(f"at character {place}: `in` takes values, not columns")
            compared = _compare("==", operand, value, place)
            assert isinstance(compared.right, Constant)
            values.append(compared.right.value)
            if not self._took(","):
                break
        self._expect(")")
        return OneOf(operand, tuple(values))

    def _sum(self) -> Operand:
        left = self._product()
        while (sign := self._tokens[self._next])[1] in ("+", "-") and sign[0] == "sign":
            self._next += 1
            left = _arithmetic(sign[1], left, self._product(), sign[2])
        return left

    def _product(self) -> Operand:
        left = self._factor()
        while (sign := self._tokens[self._next])[1] in ("*", "/") and sign[0] == "sign":
            self._next += 1
            left = _arithmetic(sign[1], left, self._factor(), sign[2])
        return left

    def _factor(self) -> Operand:
        kind, token, place = self._tokens[self._next]
        if kind == "sign" and token in ("-", "("):
            self._next += 1
            self._descend()
            inner = self._factor() if token == "-" else self._sum()
            self._depth -= 1
            if token == "(":
                self._expect(")")
                return inner
            if isinstance(inner, Constant) and isinstance(inner.value, int | float):
                return Constant(-inner.value, "number")
            return _arithmetic("-", Constant(0, "number"), inner, place)
        if kind == "number":
            self._next += 1
            number = float(token) if re.search("[.eE]", token) else int(token)
            if not math.isfinite(number) or (abs(number) >= 2**63 and isinstance(number, int)):
                raise InvalidRule(f"at character {place}: {token[:20]} is no 64-bit number")
            return Constant(number, "number")
        if kind == "text":
            self._next += 1
            return Constant(token[1:-1].replace(token[0] * 2, token[0]), "text")
        if kind == "sign" and token in ("true", "false"):
            self._next += 1
            return Constant(token == "true", "boolean")
        if kind in ("word", "quoted"):
            self._next += 1
            if kind == "word" and self._took("("):
                return self._call(token, place)
            return self._name(token.strip("`"), place)
        raise self._unexpected("a column or a value")

    def _call(self, function: str, place: int) -> Operand:
        if function.lower() not in FUNCTIONS:
            known = ", ".join(FUNCTIONS)
            raise InvalidRule(f"at character {place}: no function {function!r}; there are {known}")
        wanted, given = FUNCTIONS[function.lower()]
        self._descend()
        operand = self._sum()
        self._depth -= 1
        self._expect(")")
        if operand.kind != wanted:
            raise InvalidRule(
                f"at character {place}: {function} takes a {wanted}, not a {operand.kind}"
            )
        return Call(function.lower(), (operand,), given)

    def _name(self, name: str, place: int) -> Name:
        if name not in self._columns:
            close = nearest(name, self._columns)
            hint = f"; did you mean {close!r}?" if close else "; texts stand in quotes"
            raise InvalidRule(f"at character {place}: no column {name!r} under columns{hint}")
        return Name(name, _KINDS[self._columns[name]])

    def _took(self, sign: str) -> bool:
        kind, token, _ = self._tokens[self._next]
        if kind != "sign" or token != sign:
            return False
        self._next += 1
        return True

    def _expect(self, sign: str) -> None:
        if not self._took(sign):
            raise self._unexpected(sign)

    def _descend(self) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise InvalidRule(f"is nested more than {_DEEPEST} deep")

    def _unexpected(self, wanted: str) -> InvalidRule:
        kind, token, place = self._tokens[self._next]
        seen = "the rule ends" if kind == "end" else f"{bounded(token, 20)} stands"
        return InvalidRule(f"at character {place}: {seen} where {wanted} was expected")


class _NoCondition(InvalidRule):
    """A value stands where a condition was expected."""


def _negated(condition: Condition, negated: bool) -> Condition:
    return Not(condition) if negated else condition


def _arithmetic(sign: str, left: Operand, right: Operand, place: int) -> Operand:
    for side in (left, right):
        if side.kind != "number":
            raise InvalidRule(f"at character {place}: {sign} takes numbers, not a {side.kind}")
    return Call(sign, (left, right), "number")


def _compare(operator: str, left: Operand, right: Operand, place: int) -> Compare:
    left, right = _as(left, right.kind, place), _as(right, left.kind, place)
    kinds = {left.kind, right.kind}
    if len(kinds) > 1 and kinds != {"date", "datetime"}:
        raise InvalidRule(
            f"at character {place}: a {left.kind} cannot be compared with a {right.kind}"
        )
    if left.kind == "boolean" and operator not in ("==", "!="):
        raise InvalidRule(f"at character {place}: true and false have no order")
    if left == right:
        raise InvalidRule(f"at character {place}: both sides are the same")
    return Compare(operator, left, right)


def _as(operand: Operand, kind: Kind, place: int) -> Operand:
    """A text that stands beside a moment, as that moment."""
    if not isinstance(operand, Constant) or operand.kind != "text":
        return operand
    if kind not in ("date", "datetime"):
        return operand
    try:
        moment = datetime.fromisoformat(str(operand.value))
    except ValueError:
        seen = bounded(str(operand.value), 40)
        raise InvalidRule(f"at character {place}: {seen} is no ISO 8601 date or time") from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return Constant(moment, "datetime")
