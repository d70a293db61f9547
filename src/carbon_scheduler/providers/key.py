"""The key of a source: where it comes from, and a class that never shows it."""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from carbon_scheduler.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KEY_VARIABLE: Final = "ELECTRICITY_MAPS_API_KEY"
FILE_VARIABLE: Final = "ELECTRICITY_MAPS_API_KEY_FILE"
MAX_KEY_B: Final = 4096
MASK: Final = "[redacted]"


class ApiKey:
    """A secret. Only `reveal()` gives it; `repr`, `str` and `format` show a mask, and it cannot be pickled."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The key itself: for the request header, and for nothing else."""
        return self._text

    def hide_in(self, text: str) -> str:
        """`text` with the key masked wherever it stands."""
        return text.replace(self._text, MASK)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ApiKey) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return f"ApiKey({MASK})"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not written anywhere")


class KeySource:
    """The key now: from a file when one is named (read again whenever it changes), else fixed.

    An empty file or variable means "no key", which is not an error: a Secret may be applied before it is filled. `origin` says
    where the key comes from, for messages. `version` counts its changes. `on_key` gets every new key: for the log's redactor.
    """

    def __init__(self, key: str = "", file: str = "", on_key: Callable[[str], None] | None = None) -> None:
        self._file = Path(file) if file else None
        self.origin = f"the file {file}" if file else KEY_VARIABLE
        self.version = 0
        self._seen: tuple[int, int, int] | None = None
        self._on_key = on_key
        self._key: ApiKey | None = None
        self._problem: ConfigError | None = None
        if self._file is None:
            try:
                self._key = _key(key, self.origin)
            except ConfigError as error:
                self._problem = error
            self._tell()

    @classmethod
    def from_environ(
        cls, environ: Mapping[str, str], file: str = "", on_key: Callable[[str], None] | None = None
    ) -> KeySource:
        """`file` (a flag or the configuration), else the file's variable, else the key's. A file wins: it can be renewed."""
        return cls(environ.get(KEY_VARIABLE, ""), file or environ.get(FILE_VARIABLE, ""), on_key)

    def key(self) -> ApiKey | None:
        """The key, or None without one. One `stat` per call, a read when the file has changed.

        Raises ConfigError when the file cannot be read, or when there is something that cannot be a key; a key from before is
        then gone too.
        """
        if self._problem is not None:
            raise self._problem.with_traceback(None)
        if self._file is None:
            return self._key
        try:
            stat = self._file.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen == self._seen:
                return self._key
            return self._take(self._read(self._file), seen)
        except OSError as error:
            self._forget()
            raise ConfigError(
                f"{self.origin}: cannot be read: {error.strerror or error}; expected the Electricity Maps key on one line. "
                f"Correct {FILE_VARIABLE} (or --api-key-file), or the Secret that the file is mounted from"
            ) from error

    def read_again(self) -> ApiKey | None:
        """As `key`, but reads the file even if it looks unchanged (after the source refused the key)."""
        if self._file is not None:
            self._seen = None
        return self.key()

    def __repr__(self) -> str:
        return f"KeySource({self.origin})"

    def _read(self, file: Path) -> str:
        with file.open("rb") as stream:
            return stream.read(MAX_KEY_B + 1).decode("utf-8", "replace")

    def _take(self, text: str, seen: tuple[int, int, int]) -> ApiKey | None:
        try:
            key = _key(text, self.origin)
        except ConfigError:
            self._forget()
            raise
        if key != self._key:
            self.version += 1
        self._key, self._seen = key, seen
        self._tell()
        return key

    def _tell(self) -> None:
        if self._key is not None and self._on_key is not None:
            self._on_key(self._key.reveal())

    def _forget(self) -> None:
        if self._key is not None:
            self.version += 1
        self._key, self._seen = None, None


def _key(text: str, origin: str) -> ApiKey | None:
    """Raises ConfigError for what cannot stand in a header; never quotes it."""
    text = text.strip()
    if not text:
        return None
    if len(text) > MAX_KEY_B or not (text.isascii() and text.isprintable() and " " not in text):
        raise ConfigError(
            f"{origin}: got {len(text)} characters, over {MAX_KEY_B} or with blanks, line breaks or non-ASCII among them, "
            "expected the Electricity Maps key alone on one line; copy it again from https://portal.electricitymaps.com"
        )
    return ApiKey(text)
