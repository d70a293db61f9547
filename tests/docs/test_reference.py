"""docs/reference and docs/pictures are what the code makes of them, and nothing is missing there."""

from __future__ import annotations

from pathlib import Path

import pictures
import pytest
import reference
import reference_sources as sources
import reference_words as words

from carbon_scheduler import config
from carbon_scheduler.cli import main
from carbon_scheduler.observe.metrics import Metrics

HINT = "run: make docs"


def page(name: str) -> str:
    return (reference.REFERENCE / name).read_text(encoding="utf-8")


def test_the_pages_are_up_to_date() -> None:
    assert [path.name for path in reference.differing()] == [], HINT


def test_no_page_is_left_over() -> None:
    assert {path.name for path in reference.REFERENCE.glob("*")} == set(reference.PAGES)


def test_the_pictures_are_up_to_date() -> None:
    assert [path.name for path, text in pictures.pictures().items() if path.read_text("utf-8") != text] == [], HINT


def test_every_command_is_there() -> None:
    for command in (*main.COMMANDS, ""):
        assert f"## `{f'carbon-scheduler {command}'.strip()}`" in page("commands.md")
    assert "## `carbon-intensity`" in page("commands.md")


def test_every_key_is_there_with_a_meaning() -> None:
    for variable, path in config.keys().items():
        assert f"| `{'.'.join(path)}` |" in page("configuration.md")
        assert f"`{variable}`" in page("configuration.md")
    assert all(key.meaning for section in sources.sections() for key in section.keys)


def test_every_metric_that_is_exposed_is_there() -> None:
    made = Metrics()
    made.intensity("DE", sources.sample_value())  # type: ignore[arg-type]
    lines = made.exposition()[0].decode().splitlines()
    exposed = {line.split()[2] for line in lines if line.startswith("# TYPE carbon_scheduler_")}
    assert len(exposed) > 15
    for name in exposed:
        assert f"`{name}`" in page("metrics.md")


def test_what_the_code_calls_prefixed_annotations_and_events_was_found() -> None:
    """The reader of the syntax tree sees what it should: else nothing new would ever be missed."""
    assert sources.prefixed() >= {"placement", "decision", "grid-zone", "intensity"}
    assert sources.event_reasons()["Scheduled"] == ("Normal", "Binding")
    assert sources.event_reasons()["InvalidAnnotation"] == ("Warning", "Scheduling")
    assert {"KUBECONFIG", "ELECTRICITY_MAPS_API_KEY_FILE", "DEFAULT_CARBON_ZONE"} <= sources.environment()
    assert any("Waiting for the lease" in line.text for line in sources.log_lines())


@pytest.mark.parametrize(
    ("table", "make"),
    {
        "an event": ("EVENTS", reference.objects),
        "an annotation": ("ANNOTATIONS", reference.objects),
        "a field of the decision": ("FIELDS", reference.objects),
        "a reason of the condition": ("CONDITIONS", reference.objects),
        "a variable": ("VARIABLES", reference.configuration),
        "a plugin": ("PLUGINS", reference.plugins),
        "a label of a metric": ("LABELS", reference.metrics),
    }.values(),
)
def test_what_is_not_described_is_refused(table: str, make: object, monkeypatch: pytest.MonkeyPatch) -> None:
    described = dict(getattr(reference, table))
    name = next(iter(described))
    del described[name]
    monkeypatch.setattr(reference, table, described)
    with pytest.raises(reference.Undocumented, match=name):
        make()  # type: ignore[operator]


def test_what_is_described_and_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "EVENTS", {**words.EVENTS, "Praised": "well done"})
    with pytest.raises(reference.Undocumented, match="Praised"):
        reference.objects()


def test_a_page_that_differs_fails_the_check_and_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = sources.CHECKOUT / "docs/reference"
    monkeypatch.setattr(reference, "pages", lambda: {target / "log.md": "something else"})
    assert reference.run(["--check"]) == 1
    assert "docs/reference/log.md is not up to date; run: make docs" in capsys.readouterr().err
