"""Label and field selectors: parsed once per request, tested once per object. Texts of errors are the real server's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from carbon_scheduler.sim.apiserver.documents import Document, mapping
from carbon_scheduler.sim.apiserver.failures import bad_request

if TYPE_CHECKING:
    from carbon_scheduler.sim.apiserver.kinds import Kind

_TOKEN: Final = re.compile(r"\s*(?:(==|!=|=|!|,|\(|\)|<|>)|([^\s=!,()<>]+))")
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}")
_OPERATORS: Final = "in, notin, =, ==, !=, gt, lt"


class LabelTest(msgspec.Struct, frozen=True):
    """`operator` is in, notin, exists, !, gt or lt."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def __call__(self, labels: Document) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "in":
                return value in self.values
            case "notin":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
        bound = int(next(iter(self.values)))
        if not isinstance(value, str) or not _INTEGER.fullmatch(value):
            return False
        return int(value) > bound if self.operator == "gt" else int(value) < bound


class FieldTest(msgspec.Struct, frozen=True):
    path: tuple[str, ...]
    value: str
    equal: bool

    def __call__(self, document: Document) -> bool:
        found = mapping(document, *self.path[:-1]).get(self.path[-1])
        if isinstance(found, bool):
            found = "true" if found else "false"
        elif found is None:
            found = "false" if self.path in _BOOLEANS else ""
        return (str(found) == self.value) is self.equal


_BOOLEANS: Final = {("spec", "unschedulable"), ("spec", "hostNetwork")}


class Selector(msgspec.Struct, frozen=True):
    """What a list, watch or deletecollection is about. "" namespace stands for all."""

    namespace: str = ""
    labels: tuple[LabelTest, ...] = ()
    fields: tuple[FieldTest, ...] = ()

    @property
    def everything(self) -> bool:
        return not (self.namespace or self.labels or self.fields)

    def __call__(self, document: Document) -> bool:
        metadata = mapping(document, "metadata")
        if self.namespace and metadata.get("namespace") != self.namespace:
            return False
        if self.labels:
            labels = mapping(metadata, "labels")
            if not all(test(labels) for test in self.labels):
                return False
        return all(test(document) for test in self.fields)


def parse_fields(kind: Kind, selector: str) -> tuple[FieldTest, ...]:
    """`a=b,c!=d`. Raises Failure 400 for a form or a field that the kind does not support."""
    tests: list[FieldTest] = []
    for part in filter(None, selector.split(",")):
        match = re.fullmatch(r"([^=!]+)(==|!=|=)(.*)", part, re.DOTALL)
        if not match:
            raise bad_request(f"invalid selector: '{selector}'; can't understand '{part}'")
        name, operator, value = match.groups()
        if name in ("metadata.name", "metadata.namespace"):
            path = tuple(name.split("."))
        elif name in kind.fields:
            path = kind.fields[name]
        elif kind.group and kind.storage != "events":
            raise bad_request(
                f'"{name}" is not a known field selector: only "metadata.name"'
                + (', "metadata.namespace"' if kind.namespaced else "")
            )
        else:
            raise bad_request(f"field label not supported: {name}")
        tests.append(FieldTest(path, value, operator != "!="))
    return tuple(tests)


class _Tokens:
    """The words of a label selector, one after another; "" past the end."""

    def __init__(self, selector: str) -> None:
        self._words = [match.group(1) or match.group(2) for match in _TOKEN.finditer(selector.strip())]
        self._next = 0

    def peek(self) -> str:
        return self._words[self._next] if self._next < len(self._words) else ""

    def take(self) -> str:
        word = self.peek()
        self._next += 1
        return word


def parse_labels(selector: str) -> tuple[LabelTest, ...]:
    """Equality and set-based requirements, comma separated. Raises Failure 400."""
    tokens = _Tokens(selector)
    tests: list[LabelTest] = []
    while tokens.peek():
        key = tokens.take()
        if key == "!":
            tests.append(LabelTest(tokens.take(), "!"))
        elif tokens.peek() in ("", ","):
            tests.append(LabelTest(key, "exists"))
        else:
            tests.append(_comparison(key, tokens))
        separator = tokens.take()
        if separator not in ("", ","):
            raise bad_request(f"found '{separator}', expected: ',' or 'end of string'")
    return tuple(tests)


def _comparison(key: str, tokens: _Tokens) -> LabelTest:
    operator = tokens.take()
    match operator:
        case "=" | "==" | "!=":
            value = "" if tokens.peek() in ("", ",") else tokens.take()
            return LabelTest(key, "notin" if operator == "!=" else "in", frozenset((value,)))
        case ">" | "<" | "gt" | "lt":
            value = tokens.take()
            if not _INTEGER.fullmatch(value):
                raise bad_request(
                    f"unable to parse requirement: values[0]: Invalid value: \"{value}\": for 'Gt', 'Lt' operators, the value "
                    "must be an integer"
                )
            return LabelTest(key, "gt" if operator in (">", "gt") else "lt", frozenset((value,)))
        case "in" | "notin":
            return LabelTest(key, operator, _values(tokens))
    raise bad_request(f"unable to parse requirement: found '{operator}', expected: {_OPERATORS}")


def _values(tokens: _Tokens) -> frozenset[str]:
    opening = tokens.take()
    if opening != "(":
        raise bad_request(f"unable to parse requirement: found '{opening}' expected: '('")
    values: set[str] = set()
    while True:
        values.add("" if tokens.peek() in (",", ")") else tokens.take())
        separator = tokens.take()
        if separator == ")":
            return frozenset(values)
        if separator != ",":
            raise bad_request(f"unable to parse requirement: found '{separator}', expected: ',' or ')'")
