"""Where the key comes from, and that it is shown nowhere."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from carbon_scheduler.errors import ConfigError
from carbon_scheduler.providers.key import ApiKey, KeySource

SECRET = "s3cr3t-key-of-electricity-maps"


def test_a_key_is_not_shown() -> None:
    key = ApiKey(SECRET)
    assert key.reveal() == SECRET
    for shown in (repr(key), str(key), f"{key}", f"{key!r:>40}", repr({"key": key}), repr(KeySource(SECRET))):
        assert SECRET not in shown
    with pytest.raises(TypeError):
        pickle.dumps(key)
    assert key.hide_in(f"got {SECRET} there") == "got [redacted] there"


def test_equal_keys_are_equal() -> None:
    assert ApiKey("a") == ApiKey("a") != ApiKey("b")
    assert ApiKey("a") != "a"


ORDER = {
    "the variable": ({"ELECTRICITY_MAPS_API_KEY": "variable"}, False, "variable"),
    "the file's variable before it": (
        {"ELECTRICITY_MAPS_API_KEY": "variable", "ELECTRICITY_MAPS_API_KEY_FILE": "{file}"}, False, "in-file",
    ),
    "the flag before both": (
        {"ELECTRICITY_MAPS_API_KEY": "variable", "ELECTRICITY_MAPS_API_KEY_FILE": "/nope"}, True, "in-file",
    ),
    "blanks around it do not count": ({"ELECTRICITY_MAPS_API_KEY": " variable\n"}, False, "variable"),
    "an empty variable is no key": ({"ELECTRICITY_MAPS_API_KEY": ""}, False, None),
    "a variable of blanks is no key": ({"ELECTRICITY_MAPS_API_KEY": " \n"}, False, None),
    "nothing is no key": ({}, False, None),
}  # fmt: skip


@pytest.mark.parametrize(("environ", "flag", "want"), ORDER.values(), ids=ORDER)
def test_where_the_key_comes_from(tmp_path: Path, environ: dict[str, str], flag: bool, want: str | None) -> None:
    file = tmp_path / "key"
    file.write_text("in-file\n")
    environ = {name: value.format(file=file) for name, value in environ.items()}
    key = KeySource.from_environ(environ, str(file) if flag else "").key()
    assert (key.reveal() if key else None) == want


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file, told = tmp_path / "key", []
    file.write_text("first")
    source = KeySource(file=str(file), on_key=told.append)
    assert source.key() == source.key() == ApiKey("first")
    version = source.version
    replacement = tmp_path / "new"  # as a mounted Secret changes: another file takes the name
    replacement.write_text("second")
    replacement.rename(file)
    assert source.key() == ApiKey("second")
    assert source.version == version + 1
    file.write_text("")
    assert source.key() is None
    assert source.version == version + 2
    assert told == ["first", "second"]


def test_a_file_that_goes_takes_the_key_along(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("first")
    source = KeySource(file=str(file))
    assert source.key()
    file.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        source.key()
    file.write_text("second")
    assert source.key() == ApiKey("second")


CANNOT_BE_KEYS = {
    "two lines": "abc\ndef",
    "a header smuggled in": "abc\r\nX-Evil: 1",
    "letters of other scripts": "schlüssel",
    "a blank within": "two words",
    "too long": "x" * 5000,
    "a NUL": "abc\0def",
}


@pytest.mark.parametrize("text", CANNOT_BE_KEYS.values(), ids=CANNOT_BE_KEYS)
def test_what_cannot_be_a_key_is_said_without_showing_it(tmp_path: Path, text: str) -> None:
    file = tmp_path / "key"
    file.write_text(text)
    for source in (KeySource(text), KeySource(file=str(file))):
        with pytest.raises(ConfigError, match="expected the Electricity Maps key") as caught:
            source.key()
        assert text[:9] not in str(caught.value).replace(str(file), "")
