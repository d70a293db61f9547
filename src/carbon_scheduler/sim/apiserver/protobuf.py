"""Kubernetes' protobuf, as far as kubectl's `create` commands and `drain` send it.

kubectl 1.36 encodes objects of its typed clients this way and does not fall back to JSON. Only the kinds in `_MESSAGES` are
read, by the field numbers of k8s.io/api's generated.proto; answers are always JSON, which those clients accept.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Final

from carbon_scheduler.sim.apiserver.failures import unsupported_body

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbon_scheduler.sim.apiserver.documents import Document

CONTENT_TYPE: Final = "application/vnd.kubernetes.protobuf"
_MAGIC: Final = b"k8s\0"

# field number -> (name, type); the types are text, texts, flag, number, map (text to text), blobs (text to bytes), a message.
_META: Final = {
    1: ("name", "text"),
    2: ("generateName", "text"),
    3: ("namespace", "text"),
    11: ("labels", "map"),
    12: ("annotations", "map"),
    14: ("finalizers", "texts"),
}
_OPTIONS: Final = {1: ("gracePeriodSeconds", "number"), 2: ("preconditions", "preconditions")}
_MESSAGES: Final[dict[str, dict[int, tuple[str, str]]]] = {
    "meta": _META,
    "Namespace": {1: ("metadata", "meta")},
    "ServiceAccount": {1: ("metadata", "meta")},
    "ConfigMap": {1: ("metadata", "meta"), 2: ("data", "map"), 3: ("binaryData", "blobs"), 4: ("immutable", "flag")},
    "Secret": {1: ("metadata", "meta"), 2: ("data", "blobs"), 3: ("type", "text"), 4: ("stringData", "map")},
    "Eviction": {1: ("metadata", "meta"), 2: ("deleteOptions", "options")},
    "options": _OPTIONS,
    "DeleteOptions": _OPTIONS,
    "SelfSubjectAccessReview": {},
    "preconditions": {1: ("uid", "text"), 2: ("resourceVersion", "text")},
}


def decode(body: bytes) -> Document:
    """The object in a body. Raises Failure 415 for a kind that is not read and for anything malformed."""
    try:
        if not body.startswith(_MAGIC):
            raise ValueError("no magic number")
        envelope = dict(_fields(body[len(_MAGIC) :]))
        type_meta = {number: _bytes(value).decode() for number, value in _fields(_bytes(envelope[1]))}
        kind = type_meta[2]
        return {"apiVersion": type_meta[1], "kind": kind, **_message(kind, _bytes(envelope.get(2, b"")))}
    except (ValueError, KeyError, IndexError) as error:
        raise unsupported_body() from error


def _message(name: str, encoded: bytes) -> Document:
    known = _MESSAGES[name]
    found: Document = {}
    for number, value in _fields(encoded):
        if number not in known:
            continue
        field, type_ = known[number]
        match type_:
            case "text":
                found[field] = _bytes(value).decode()
            case "texts":
                found.setdefault(field, []).append(_bytes(value).decode())
            case "flag":
                found[field] = bool(value)
            case "number":
                found[field] = value
            case "map" | "blobs":
                entry = dict(_fields(_bytes(value)))
                inner = _bytes(entry.get(2, b""))
                shown = inner.decode() if type_ == "map" else b64encode(inner).decode()
                found.setdefault(field, {})[_bytes(entry.get(1, b"")).decode()] = shown
            case _:
                found[field] = _message(type_, _bytes(value))
    return found


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError(f"got a number, expected bytes: {value}")
    return value


def _fields(encoded: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field of a message: an int of a varint, the bytes of a string or message."""
    position = 0
    while position < len(encoded):
        tag, position = _varint(encoded, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(encoded, position)
            yield number, value
        elif wire == 2:
            length, position = _varint(encoded, position)
            if position + length > len(encoded):
                raise ValueError("cut off")
            yield number, encoded[position : position + length]
            position += length
        elif wire in (1, 5):
            position += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")


def _varint(encoded: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = encoded[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("varint too long")
