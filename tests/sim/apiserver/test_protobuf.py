"""kubectl's protobuf bodies. (The kubectl tests send real ones.)"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_scheduler.sim.apiserver.failures import Failure
from carbon_scheduler.sim.apiserver.protobuf import decode


def _field(number: int, value: bytes) -> bytes:
    assert len(value) < 128
    return bytes([number << 3 | 2, len(value)]) + value


def _body(kind: str, message: bytes) -> bytes:
    type_meta = _field(1, b"v1") + _field(2, kind.encode())
    return b"k8s\0" + _field(1, type_meta) + _field(2, message)


def test_a_secret() -> None:
    labels = _field(11, _field(1, b"a") + _field(2, b"b"))
    metadata = _field(1, b"name") + labels
    message = _field(1, metadata) + _field(2, _field(1, b"key") + _field(2, b"\xff")) + _field(3, b"Opaque")
    assert decode(_body("Secret", message)) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "name", "labels": {"a": "b"}},
        "data": {"key": "/w=="},
        "type": "Opaque",
    }


def test_a_kind_that_is_not_read_is_refused() -> None:
    with pytest.raises(Failure) as caught:
        decode(_body("Deployment", b""))
    assert caught.value.code == 415


@given(st.binary(max_size=60))
def test_anything_else_is_refused_too(noise: bytes) -> None:
    for body in (noise, b"k8s\0" + noise, _body("Secret", noise)):
        try:
            assert decode(body)["kind"]
        except Failure as failure:
            assert failure.code == 415  # noqa: PT017 - noise may happen to be a message
