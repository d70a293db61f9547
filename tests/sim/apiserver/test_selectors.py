"""Selectors: what is understood, and what is refused in which words. (The contract suite compares them with upstream.)"""

from __future__ import annotations

import pytest

from carbon_scheduler.sim.apiserver.failures import Failure
from carbon_scheduler.sim.apiserver.kinds import EVENTS_V1, NODES, PODS, Kind
from carbon_scheduler.sim.apiserver.selectors import Selector, parse_fields, parse_labels

LABELS = {"k": "1", "empty": "", "n": "7"}
CASES = {
    "": True,
    "k": True,
    "missing": False,
    "!k": False,
    "!missing": True,
    "k=1": True,
    "k==1": True,
    " k = 1 , n = 7 ": True,
    "k!=1": False,
    "missing!=1": True,
    "k in (1, 2)": True,
    "k in (2)": False,
    "missing in (1)": False,
    "k notin (1,2)": False,
    "missing notin (1)": True,
    "empty=": True,
    "empty=,k": True,
    "empty in (,x)": True,
    "n>6": True,
    "n>7": False,
    "n<8": True,
    "missing>1": False,
    "example.com/k notin (x),k": True,
}


def test_label_selectors() -> None:
    document = {"metadata": {"labels": LABELS}}
    got = {written: Selector(labels=parse_labels(written))(document) for written in CASES}
    assert got == CASES


BROKEN = {
    "a b c": "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
    "a in": "unable to parse requirement: found '' expected: '('",
    "a in (b": "unable to parse requirement: found '', expected: ',' or ')'",
    "a=b c": "found 'c', expected: ',' or 'end of string'",
    "a>b": "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer",
}


@pytest.mark.parametrize("written", BROKEN)
def test_broken_label_selectors(written: str) -> None:
    with pytest.raises(Failure) as caught:
        parse_labels(written)
    assert (caught.value.code, caught.value.message) == (400, BROKEN[written])


FIELDS: dict[str, tuple[Kind, str, bool]] = {
    "an absent field is empty": (PODS, "spec.nodeName=", True),
    "an absent boolean is false": (NODES, "spec.unschedulable=false", True),
    "a present field": (PODS, "status.phase=Running", True),
    "both must hold": (PODS, "status.phase=Running,metadata.name=other", False),
    "the new view's names reach the stored ones": (EVENTS_V1, "regarding.name=p", True),
}


@pytest.mark.parametrize("sentence", FIELDS)
def test_field_selectors(sentence: str) -> None:
    kind, written, want = FIELDS[sentence]
    document = {
        "metadata": {"name": "p"},
        "spec": {},
        "status": {"phase": "Running"},
        "involvedObject": {"name": "p"},
    }
    assert Selector(fields=parse_fields(kind, written))(document) is want
