"""Cuts JSON into its outermost parts without decoding them and without recursion.

The way out when a decoder refuses a whole list or line because of one object in it: that object can then be found and the
others saved. Slow (about 20 MB/s), for that case only.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],]', re.DOTALL)
_MEMBER = re.compile(rb'\s*"([^"\\]*(?:\\.[^"\\]*)*)"\s*:\s*', re.DOTALL)


def elements(raw: bytes) -> Iterator[bytes]:
    """The outermost comma-separated parts of an object or array, as they stand. Raises ValueError when it is not whole."""
    depth, start = 0, 0
    for token in _TOKEN.finditer(raw):
        mark = raw[token.start()]
        if mark in b"{[":
            depth += 1
            if depth == 1:
                if raw[: token.start()].strip():
                    break
                start = token.end()
        elif depth == 0:
            break
        elif mark in b"}]":
            depth -= 1
            if depth == 0:
                if last := raw[start : token.start()].strip():
                    yield last
                if raw[token.end() :].strip():
                    break
                return
        elif mark in b"," and depth == 1:
            yield raw[start : token.start()].strip()
            start = token.end()
    raise ValueError("not a whole object or array")


def members(raw: bytes) -> dict[bytes, bytes]:
    """The members of an object: name (escapes not resolved) -> value as it stands. Raises ValueError when it is none."""
    found: dict[bytes, bytes] = {}
    if not raw.lstrip().startswith(b"{"):
        raise ValueError("not an object")
    for part in elements(raw):
        match = _MEMBER.match(part)
        if match is None:
            raise ValueError("not an object's member")
        found[match[1]] = part[match.end() :]
    return found
