"""What may be written: registered secrets never, other people's text only as one printable line of bounded length."""

from __future__ import annotations

import base64
import json
from typing import Final
from urllib.parse import quote

MASK: Final = "[redacted]"
FOREIGN_CHARS: Final = 256
"""How much of a tenant's text (a label, an annotation) is shown."""
MESSAGE_CHARS: Final = 8192
"""How long a whole message may be."""


class Redactor:
    """Replaces registered secrets wherever they stand. Cost: one substring search per secret and form.

    A secret is known in the forms in which it can turn up: as it is, percent-encoded, in Base64, and escaped as in JSON or
    `repr`. Forms under four characters would hit ordinary words, so only the secret itself may be that short.
    """

    def __init__(self) -> None:
        self._forms: tuple[str, ...] = ()

    def add(self, secret: str) -> None:
        """Registers a secret (surrounding white space does not count; an empty one is nothing)."""
        secret = secret.strip()
        if not secret:
            return
        derived = {
            quote(secret, safe=""),
            base64.b64encode(secret.encode("utf-8", "surrogatepass")).decode().rstrip("="),
            json.dumps(secret)[1:-1],
            json.dumps(secret, ensure_ascii=False)[1:-1],
            repr(secret)[1:-1],
        }
        forms = {*self._forms, secret, *(form for form in derived if len(form) >= 4)}
        # Longest first: a form that contains another must go as a whole.
        self._forms = tuple(sorted(forms, key=lambda form: (-len(form), form)))

    def __call__(self, text: str) -> str:
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text

    def __repr__(self) -> str:
        return f"Redactor({len(self._forms)} forms)"


def printable(text: str, limit: int = MESSAGE_CHARS) -> str:
    """`text` on one line: everything unprintable (control and format characters, terminal escapes, direction overrides,
    line separators, lone surrogates) escaped as in Python source, cut to `limit` characters with an ellipsis.

    About 0.1 us for the ordinary case. What was cut is gone: redact first.
    """
    if len(text) <= limit and text.isprintable():
        return text
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
