"""The log's words, letter for letter, and what must never get into it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_scheduler.core.decision import Bind, Decision, Overcommitted, PodDetected, Unschedulable, ZoneNotKnown
from carbon_scheduler.core.model import GridZone, NodeName, PodUid
from carbon_scheduler.observe.lines import LineWriter
from carbon_scheduler.observe.log import Narrator, Sink
from carbon_scheduler.observe.redact import MASK, Redactor, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from carbon_scheduler.observe.log import LogFormat

AT_S = 1_795_628_886.123456


def make_bind(pod: str = "test-pod", namespace: str = "default", **decision: Any) -> Bind:
    choice: dict[str, Any] = {
        "seq": 7,
        "at_us": 1_795_628_886_123_456,
        "node": NodeName("minikube"),
        "grid_zone": GridZone("US-NY-NYIS"),
        "intensity_g_per_kwh": 300.0,
        "cleanest_g_per_kwh": 300.0,
        "quality": "measured",
        "source": "electricity-maps",
        "feasible": 3,
        "policy": "carbon-first",
        "blind": NodeName("other"),
        "saved_g_per_kwh": 12.5,
    }
    made = Decision(**(choice | decision))
    return Bind(uid=PodUid("u-1"), namespace=namespace, name=pod, node=made.node, decision=made)


def make_unschedulable(**fields: Any) -> Unschedulable:
    given: dict[str, Any] = {
        "uid": PodUid("u-1"),
        "namespace": "default",
        "name": "test-pod",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 Insufficient cpu.",
        "patch": True,
    }
    return Unschedulable(**(given | fields))


def listen(log_format: LogFormat = "text", level: int = logging.INFO) -> tuple[Narrator, list[str]]:
    lines: list[str] = []
    return Narrator(Sink(log_format, lines.append, Redactor()), level, now=lambda: AT_S), lines


DETECTED = PodDetected(uid=PodUid("u-1"), namespace="default", name="test-pod")

SAID: dict[str, tuple[Callable[[Narrator], object], list[str]]] = {
    "connected": (lambda n: n.connected(server="https://10.0.0.1"), ["Connected to Kubernetes API"]),
    "client ready": (lambda n: n.client_ready(), ["Carbon intensity client initialized successfully"]),
    "pod detected": (lambda n: n.detected(DETECTED), ["Unscheduled pod detected: default/test-pod"]),
    "node selected": (
        lambda n: n.selected(make_bind()),
        ["Selected node minikube in zone US-NY-NYIS with carbon intensity 300.00 gCO₂eq/kWh"],
    ),
    "an estimate counts as live": (
        lambda n: n.selected(make_bind(quality="estimated")),
        ["Selected node minikube in zone US-NY-NYIS with carbon intensity 300.00 gCO₂eq/kWh"],
    ),
    "two decimals, rounded": (
        lambda n: n.selected(make_bind(intensity_g_per_kwh=21.2349)),
        ["Selected node minikube in zone US-NY-NYIS with carbon intensity 21.23 gCO₂eq/kWh"],
    ),
    "a static value says so": (
        lambda n: n.selected(make_bind(quality="static")),
        ["Selected node minikube in zone US-NY-NYIS with carbon intensity 300.00 gCO₂eq/kWh (static)"],
    ),
    "a stale value says so": (
        lambda n: n.selected(make_bind(quality="stale")),
        ["Selected node minikube in zone US-NY-NYIS with carbon intensity 300.00 gCO₂eq/kWh (stale)"],
    ),
    "the operator's default for a node without a zone": (
        lambda n: n.selected(make_bind(quality="default", grid_zone=None)),
        ["Selected node minikube with carbon intensity 300.00 gCO₂eq/kWh (default)"],
    ),
    "no carbon data": (
        lambda n: n.selected(make_bind(intensity_g_per_kwh=None, quality=None, source=None)),
        ["Selected node minikube without carbon data (standard scheduling)"],
    ),
    "pod scheduled": (lambda n: n.scheduled(make_bind()), ["Pod test-pod scheduled to minikube"]),
    "the user's own error": (
        lambda n: n.error("API request failed with status 401: Request unauthorized"),
        ["Error: API request failed with status 401: Request unauthorized"],
    ),
    "a warning": (lambda n: n.warning("slow"), ["Warning: slow"]),
    "debug is off": (lambda n: n.debug("detail"), []),
    "a pod that fits nowhere": (
        lambda n: n.unschedulable(make_unschedulable()),
        ["Pod default/test-pod cannot be scheduled: 0/3 nodes are available: 3 Insufficient cpu."],
    ),
    "the same verdict again is silent": (lambda n: n.unschedulable(make_unschedulable(news=False)), []),
    "the same error again is silent": (
        lambda n: n.unschedulable(make_unschedulable(reason="SchedulerError", news=False)),
        [],
    ),
    "an attempt that failed": (
        lambda n: n.unschedulable(make_unschedulable(reason="SchedulerError", message="spec.cpu: got -1", patch=False)),
        ["Error: Pod default/test-pod cannot be scheduled: spec.cpu: got -1"],
    ),
    "a refused Binding": (
        lambda n: n.refused(make_bind(), 409, "pod is gone"),
        [
            "Warning: Pod default/test-pod was not bound to minikube: status 409: pod is gone; reading it to see what became of it"
        ],
    ),
    "a Binding that was never sent": (
        lambda n: n.refused(make_bind(), 0, "connection refused"),
        ["Warning: Pod default/test-pod was not bound to minikube: connection refused; it will be decided again"],
    ),
    "a lost answer": (
        lambda n: n.unknown(make_bind()),
        ["Warning: The answer to binding pod default/test-pod to minikube was lost; reading the pod to settle it"],
    ),
    "an over-committed node": (
        lambda n: n.overcommitted(Overcommitted(NodeName("a"), "", (("cpu", 1200, 1000),))),
        [
            (
                "Warning: node a: The pods on this node request more than it offers (cpu: 1200 of 1000); the kubelet fails "
                "those that do not fit. Does another scheduler use it too?"
            )
        ],
    ),
    "a misspelled zone": (
        lambda n: n.zone_not_known(
            ZoneNotKnown(node=NodeName("a"), text="US-NY-NYXX", where="label carbon-zone", nearest=("US-NY-NYIS",))
        ),
        [
            (
                "Warning: node a: label carbon-zone: 'US-NY-NYXX' is not a grid zone, so the node's carbon intensity is not "
                "known. Did you mean 'US-NY-NYIS'? `kubectl label node a carbon-zone=ZONE --overwrite` corrects it"
            )
        ],
    ),
}


@pytest.mark.parametrize("case", SAID)
def test_text(case: str) -> None:
    say, want = SAID[case]
    narrator, lines = listen()
    say(narrator)
    assert lines == want


def test_json_has_one_line_per_decision() -> None:
    narrator, lines = listen("json")
    bind = make_bind(quality="static")
    narrator.detected(DETECTED)
    narrator.selected(bind)
    narrator.scheduled(bind)
    (line,) = lines
    got = json.loads(line)
    assert got == {
        "time": "2026-11-25T17:48:06.123456Z",
        "level": "info",
        "message": "Pod test-pod scheduled to minikube",
        "namespace": "default",
        "pod": "test-pod",
        "uid": "u-1",
        "seq": 7,
        "at_us": 1_795_628_886_123_456,
        "node": "minikube",
        "grid_zone": "US-NY-NYIS",
        "intensity_g_per_kwh": 300.0,
        "cleanest_g_per_kwh": 300.0,
        "quality": "static",
        "source": "electricity-maps",
        "feasible": 3,
        "policy": "carbon-first",
        "blind": "other",
        "saved_g_per_kwh": 12.5,
        "blind_g_per_kwh": None,
        "blind_grid_zone": None,
    }


def test_json_of_a_whole_second_still_has_microseconds() -> None:
    sink = Sink("json", lambda _: None, Redactor())
    assert json.loads(sink.line(logging.INFO, "x", {}, 1_795_628_886.0))["time"] == "2026-11-25T17:48:06.000000Z"


@given(
    text=st.text(),
    fields=st.dictionaries(
        st.sampled_from(["a", "b", "level", "time"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.builds(object),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
            max_leaves=5,
        ),
    ),
    trace=st.text(),
)
def test_every_json_line_is_one_object_on_one_line(text: str, fields: dict[str, object], trace: str) -> None:
    line = Sink("json", lambda _: None, Redactor()).line(logging.WARNING, text, fields, AT_S, trace)
    assert "\n" not in line
    line.encode()
    got = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert got["level"] == "warning"
    assert got["time"] == "2026-11-25T17:48:06.123456Z"


# Once


def test_a_problem_is_said_once_and_so_is_its_end() -> None:
    narrator, lines = listen()
    assert narrator.problem("provider", "API request failed with status 401: Request unauthorized")
    assert not narrator.problem("provider", "API request failed with status 401: Request unauthorized")
    assert narrator.recovered("provider", "carbon data are back")
    assert not narrator.recovered("provider", "carbon data are back")
    assert narrator.problem("provider", "API request failed with status 401: Request unauthorized")
    assert lines == [
        "Error: API request failed with status 401: Request unauthorized",
        "carbon data are back",
        "Error: API request failed with status 401: Request unauthorized",
    ]


def test_another_kind_of_the_same_problem_is_news() -> None:
    narrator, lines = listen()
    narrator.problem("provider", "status 401", kind="401")
    narrator.problem("provider", "status 429", kind="429", level=logging.WARNING)
    narrator.problem("provider", "status 429 again", kind="429", level=logging.WARNING)
    assert lines == ["Error: status 401", "Warning: status 429"]


def test_no_end_without_a_beginning() -> None:
    narrator, lines = listen()
    assert not narrator.recovered("provider", "carbon data are back")
    assert lines == []


# Secrets

SECRETS = {
    "as it is": "acxh6ftJvjTYpUZvbBKx",
    "with characters that are escaped": 'pass"word\\with/odd chars+é',
    "short": "k3y",
}


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("case", SECRETS)
def test_a_registered_secret_never_passes(case: str, log_format: LogFormat) -> None:
    secret = SECRETS[case]
    narrator, lines = listen(log_format)
    narrator.redact.add(secret + "\n")
    forms = {secret, repr(secret), json.dumps(secret)}
    for form in forms:
        narrator.error(f"said {form} aloud", header=f"auth-token: {form}", nested={"a": [form], form: 1})
    narrator.unschedulable(make_unschedulable(message=f"label {secret}"))
    narrator.refused(make_bind(), 400, "x" * (256 - len(secret) // 2) + secret)
    narrator.exception("failed", ValueError(f"bad header {secret!r}"))
    narrator.problem("p", f"key {secret}")
    assert len(lines) == len(forms) + 4
    for line in lines:
        assert secret not in line
        assert secret[: max(3, len(secret) // 2)] not in line
        for form in forms:
            assert form not in line
    assert any(MASK in line for line in lines)


def test_the_redactor_knows_percent_and_base64_forms() -> None:
    redact = Redactor()
    redact.add("a/b+c=d/secret")
    assert redact("https://x/?k=a%2Fb%2Bc%3Dd%2Fsecret&y") == f"https://x/?k={MASK}&y"
    assert "YS9iK2M9ZC9zZWNyZXQ" not in redact("Basic YS9iK2M9ZC9zZWNyZXQ=")
    assert "secret" not in repr(redact)


def test_nothing_registered_changes_nothing() -> None:
    redact = Redactor()
    redact.add("")
    redact.add(" \n")
    assert redact("any text") == "any text"


# Other people's text

FOREIGN = {
    "a line break cannot fake a line": ("US\nPod x scheduled to y", "US\\nPod x scheduled to y"),
    "a terminal escape": ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
    "a direction override": ("abc\u202edef", "abc\\u202edef"),
    "a line separator": ("a\u2028b", "a\\u2028b"),
    "a lone surrogate": ("a\ud800b", "a\\ud800b"),
    "letters of any script stay": ("Zürich 東京", "Zürich 東京"),
    "the unit stays": ("gCO₂eq/kWh", "gCO₂eq/kWh"),
    "long text is cut": ("x" * 300, "x" * 255 + "…"),
    "exactly the limit is not": ("x" * 256, "x" * 256),
    "escapes count as they are shown": ("\n" * 200, "\\n" * 127 + "\\…"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_text_is_one_printable_line(case: str) -> None:
    text, want = FOREIGN[case]
    narrator, _ = listen()
    assert narrator.foreign(text) == want


@given(st.text(max_size=600))
def test_printable_is_printable_and_bounded(text: str) -> None:
    shown = printable(text, 256)
    assert shown.isprintable()
    assert len(shown) <= 256
    assert printable(shown, 256) == shown


def test_a_hostile_label_is_one_line_in_the_log() -> None:
    narrator, lines = listen()
    text = "DE\nPod a scheduled to b\x1b[31m" + "x" * 10_000
    narrator.zone_not_known(ZoneNotKnown(node=NodeName("a"), text=text, where="label carbon-zone", nearest=()))
    (line,) = lines
    assert "\n" not in line
    assert "\x1b" not in line
    assert len(line) < 700


# The whole process: `start` takes over stderr, logging and what nobody caught

PROGRAM = """
import logging, sys, threading, warnings
from carbon_scheduler.observe import log
assert not log.started()
narrator, close = log.start(sys.argv[1], "info", secrets=("s3cr3t-value",))
assert log.started()
narrator.connected()
logging.getLogger("carbon_scheduler.kube").info("watch of %s ended", "pods", extra={"fields": {"kind": "pods"}})
logging.getLogger("carbon_scheduler.kube").debug("not said")
logging.getLogger("aiohttp.server").info("not said")
logging.getLogger("aiohttp.server").warning("token %s", "s3cr3t-value")
logging.getLogger("carbon_scheduler.kube").error("%d", "s3cr3t-value")
warnings.warn("s3cr3t-value is deprecated")
def fail():
    raise RuntimeError("in a thread: s3cr3t-value")
thread = threading.Thread(target=fail, name="worker"); thread.start(); thread.join()
def outer():
    raise ValueError("got s3cr3t-value")
outer()
"""


def run_program(log_format: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, log_format], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_process_logs_everything_in_text() -> None:
    done = run_program("text")
    assert done.returncode == 1
    assert "s3cr3t" not in done.stderr + done.stdout
    lines = done.stderr.splitlines()
    assert lines[:3] == ["Connected to Kubernetes API", "watch of pods ended", f"Warning: token {MASK}"]
    assert lines[3].startswith("Error: a log line of ")
    assert "TypeError" in lines[3]
    assert "Error: a thread failed (worker)" in lines
    assert "Error: the program failed; this is a defect, please report it with these lines" in lines
    assert lines[-1] == f"ValueError: got {MASK}"
    assert not any("not said" in line for line in lines)


def test_a_process_logs_everything_in_json() -> None:
    done = run_program("json")
    assert "s3cr3t" not in done.stderr + done.stdout
    got = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in got] == ["info", "info", "warning", "error", "warning", "error", "error"]
    assert got[1]["message"] == "watch of pods ended"
    assert got[1]["kind"] == "pods"
    assert got[2]["logger"] == "aiohttp.server"
    assert got[-1]["traceback"].endswith(f"ValueError: got {MASK}")
    assert "in outer" in got[-1]["traceback"]


async def test_an_error_that_no_task_caught_is_logged() -> None:
    narrator, lines = listen()
    loop = asyncio.get_running_loop()
    narrator.loop_exception(loop, {"message": "Task exception was never retrieved", "exception": ValueError("odd")})
    narrator.loop_exception(loop, {"message": "socket.send() raised exception"})
    assert lines[0].startswith("Error: Task exception was never retrieved\n")
    assert lines[0].endswith("ValueError: odd")
    assert lines[1] == "Error: socket.send() raised exception"


# The writer


def test_a_reader_that_stalls_does_not_stop_the_writer() -> None:
    """A full pipe: the caller goes on, the surplus is dropped, counted, and said once it is read again."""
    read_fd, write_fd = os.pipe()
    writer = LineWriter(write_fd, lambda count: f"DROPPED {count}", limit_chars=100_000)
    for number in range(20_000):  # 1 MB into a pipe of 64 KiB that nobody reads: a blocking write would hang here
        writer.put(f"{number:049d}")
    assert writer.dropped > 10_000
    got = bytearray()

    def read() -> None:
        while chunk := os.read(read_fd, 65536):
            got.extend(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    writer.close(timeout_s=30)
    os.close(write_fd)
    reader.join(30)
    os.close(read_fd)
    lines = got.decode().splitlines()
    said = [int(line.removeprefix("DROPPED ")) for line in lines if line.startswith("DROPPED")]
    assert sum(said) == writer.dropped
    numbers = [int(line) for line in lines if not line.startswith("DROPPED")]
    assert numbers == sorted(numbers)
    assert len(numbers) + writer.dropped == 20_000


def test_a_reader_that_left_is_no_error() -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    writer = LineWriter(write_fd, lambda count: f"DROPPED {count}")
    writer.put("nobody reads this")
    writer.close(timeout_s=30)
    writer.put("nor this")
    assert writer.dropped == 1
    os.close(write_fd)


def test_close_writes_what_is_queued(tmp_path: Any) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        writer = LineWriter(file.fileno(), lambda count: f"DROPPED {count}")
        for number in range(1000):
            writer.put(f"line {number}")
        writer.close(timeout_s=30)
    assert path.read_text().splitlines() == [f"line {number}" for number in range(1000)]
