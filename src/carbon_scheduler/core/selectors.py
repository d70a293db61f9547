"""Requirements on labels, alone and as selectors (metav1.LabelSelector, and the expressions of node affinity).

Source: apimachinery v0.36.3 pkg/labels/selector.go (NewRequirement, Requirement.Matches).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carbon_scheduler.core.model import Requirement, Selector

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}\Z")
_LABEL_VALUE: Final = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?\Z")

_LABEL_WORD: Final = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?\Z")
_TOO_LONG: Final = "must be no more than 63 bytes"
_NO_WORD: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def as_int64(text: str) -> int | None:
    """What Go's strconv.ParseInt(text, 10, 64) reads, or None."""
    if not _INTEGER.match(text):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


def problem(requirement: Requirement) -> str:
    """Why a label requirement is not valid (labels.NewRequirement), or "". Its key was checked by the API server."""
    count = len(requirement.values)
    if any(not _LABEL_VALUE.match(value) for value in requirement.values):
        return (
            "a valid label value has at most 63 letters, digits, '-', '_' and '.', and a letter or digit at both ends"
        )
    match requirement.operator:
        case "In" | "NotIn":
            return "" if count else "for 'in', 'notin' operators, values set can't be empty"
        case "Exists" | "DoesNotExist":
            return "values set must be empty for exists and does not exist" if count else ""
        case "Gt" | "Lt":
            if count != 1:
                return "for 'Gt', 'Lt' operators, exactly one value is required"
            return (
                ""
                if as_int64(requirement.values[0]) is not None
                else "for 'Gt', 'Lt' operators, the value must be an integer"
            )
        case _:
            return f"{requirement.operator!r} is not a valid node selector operator"


def fault(selector: Selector) -> str:
    """Why a label selector cannot be read, in upstream's words, or "".

    Sources: apimachinery v0.36.3 apis/meta/v1/helpers.go (LabelSelectorAsSelector), labels/selector.go (NewRequirement),
    api/validate/content/kube.go (IsLabelValue). Of these only a bad value can come from an API server.
    """
    for requirement in selector or ():
        key, operator, values = requirement.key, requirement.operator, requirement.values
        if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            return f"{_quoted(operator)} is not a valid label selector operator"
        wrong: list[str] = []
        if operator in ("In", "NotIn") and not values:
            wrong.append("values: Invalid value: null: for 'in', 'notin' operators, values set can't be empty")
        if operator in ("Exists", "DoesNotExist") and values:
            shown = ",".join(map(_quoted, values))
            wrong.append(f"values: Invalid value: [{shown}]: values set must be empty for exists and does not exist")
        for at, value in enumerate(values):
            bad = [_TOO_LONG] if len(value.encode()) > 63 else []
            if not _LABEL_WORD.match(value):
                bad.append(_NO_WORD)
            if bad:
                wrong.append(f"values[{at}][{key}]: Invalid value: {_quoted(value)}: {'; '.join(bad)}")
        if wrong:
            return wrong[0] if len(wrong) == 1 else f"[{', '.join(dict.fromkeys(wrong))}]"
    return ""


def _quoted(text: str) -> str:
    """As Go's %q, for what a valid UTF-8 string may hold."""
    return json.dumps(text, ensure_ascii=False)


def meets(requirement: Requirement, value: str | None) -> bool:
    """Whether one label value (None: missing) meets a valid requirement."""
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value is None or value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    mine, bound = None if value is None else as_int64(value), as_int64(requirement.values[0])
    if mine is None or bound is None:
        return False
    return mine > bound if requirement.operator == "Gt" else mine < bound


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether a selector matches labels. None matches nothing, () everything."""
    return selector is not None and all(meets(requirement, labels.get(requirement.key)) for requirement in selector)
