"""The log: what the program tells its operator, on stderr.

Text format: the user's own wording, letter for letter, one line each, no time stamp (`kubectl logs --timestamps` has one).
JSON format: one object per line (`time` RFC 3339 with microseconds, `level`, `message`, fields), one line per decision
instead of the three of the text format.

Two ways in, one way out: `Narrator` says what the scheduler did; modules and libraries use `logging` (fields as
`extra={"fields": {...}}`). Both pass the redactor, are made printable, and are written by a thread (see `lines.py`).
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import time
import traceback
from collections import OrderedDict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from carbon_scheduler.core.carbon import LIVE
from carbon_scheduler.observe.lines import LineWriter
from carbon_scheduler.observe.redact import FOREIGN_CHARS, Redactor, printable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from carbon_scheduler.core.decision import (
        Bind,
        Decision,
        Evict,
        Overcommitted,
        PodDetected,
        Unschedulable,
        ZoneNotKnown,
    )

LogFormat = Literal["text", "json"]
LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
UNIT: Final = "gCO₂eq/kWh"
_MAX_PROBLEMS: Final = 4096


class Sink:
    """Turns what is said into lines. `put` gets each finished line; it must be safe to call from any thread."""

    def __init__(self, log_format: LogFormat, put: Callable[[str], None], redact: Redactor) -> None:
        self.json = log_format == "json"
        self.redact = redact
        self._put = put

    def write(self, level: int, text: str, fields: Mapping[str, object], at_s: float, trace: str = "") -> None:
        """One line (and, in the text format, the traceback's lines below it)."""
        self._put(self.line(level, text, fields, at_s, trace))

    def line(self, level: int, text: str, fields: Mapping[str, object], at_s: float, trace: str = "") -> str:
        text = printable(self.redact(text))
        trace = self.redact(trace)
        if self.json:
            when = datetime.fromtimestamp(at_s, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
            record: dict[str, object] = {"time": when, "level": _level_name(level), "message": text}
            record.update((key, self._value(value)) for key, value in fields.items() if key not in record)
            if trace:
                record["traceback"] = "\n".join(printable(part, FOREIGN_CHARS * 4) for part in trace.splitlines())
            return self.redact(msgspec.json.encode(record, enc_hook=_unknown).decode())
        prefix = "Error: " if level >= logging.ERROR else "Warning: " if level >= logging.WARNING else ""
        lines = [prefix + text, *(printable(part, FOREIGN_CHARS * 4) for part in trace.splitlines())]
        return "\n".join(lines)

    def _value(self, value: object) -> object:
        if isinstance(value, str):
            return printable(self.redact(value))
        if isinstance(value, (list, tuple)):
            return [self._value(item) for item in value]
        if isinstance(value, dict):
            return {str(self._value(str(key))): self._value(item) for key, item in value.items()}
        if isinstance(value, int) and not -(2**63) <= value < 2**64:
            return str(value)
        return value


class _Handler(logging.Handler):
    """The way in for the standard library's `logging`."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        try:
            trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
            fields = getattr(record, "fields", None)
            origin: dict[str, object] = {} if record.name.startswith("carbon_scheduler") else {"logger": record.name}
            self._sink.write(
                record.levelno,
                record.getMessage(),
                origin | fields if isinstance(fields, dict) else origin,
                record.created,
                trace,
            )
        except Exception:  # noqa: BLE001  # a wrong format string must not end the program; handleError says so
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's own name
        """Never prints the record's arguments, as the inherited one would: they have not passed the redactor."""
        error = sys.exc_info()[1]
        where = f"{record.pathname}:{record.lineno}"
        text = (
            f"a log line of {where} could not be written: {type(error).__name__}; report it, nothing else is affected"
        )
        self._sink.write(logging.ERROR, text, {}, record.created)


class Narrator:
    """Says what the scheduler does. Each method is one statement and never blocks: 2 us in text, 15 us a decision in JSON.

    In the JSON format `detected` and `selected` are silent and `scheduled`, `refused` or `unknown` writes the decision's line.
    """

    def __init__(self, sink: Sink, level: int = logging.INFO, now: Callable[[], float] = time.time) -> None:
        self._sink = sink
        self._level = level
        self._now = now
        self._problems: OrderedDict[str, str] = OrderedDict()

    @property
    def redact(self) -> Redactor:
        """`narrator.redact.add(secret)` keeps a secret out of everything said from now on."""
        return self._sink.redact

    def foreign(self, text: str) -> str:
        """A tenant's text as it may stand in a message: redacted, on one line, at most 256 characters."""
        return printable(self._sink.redact(text), FOREIGN_CHARS)

    # Anything

    def debug(self, text: str, **fields: object) -> None:
        self._say(logging.DEBUG, text, fields)

    def info(self, text: str, **fields: object) -> None:
        self._say(logging.INFO, text, fields)

    def warning(self, text: str, **fields: object) -> None:
        self._say(logging.WARNING, text, fields)

    def error(self, text: str, **fields: object) -> None:
        self._say(logging.ERROR, text, fields)

    def exception(self, text: str, error: BaseException, **fields: object) -> None:
        """An error with its traceback: for what was not foreseen."""
        trace = "".join(traceback.format_exception(error))
        self._sink.write(logging.ERROR, text, fields, self._now(), trace)

    def problem(self, name: str, text: str, *, kind: str = "", level: int = logging.ERROR, **fields: object) -> bool:
        """Says a problem once: again only after `recovered(name)`, or when it has become another `kind`. True when said."""
        if self._problems.get(name) == kind:
            self._problems.move_to_end(name)
            return False
        self._problems[name] = kind
        self._problems.move_to_end(name)
        if len(self._problems) > _MAX_PROBLEMS:  # names can come from tenants' text
            self._problems.popitem(last=False)
        self._say(level, text, {"problem": name, **({"kind": kind} if kind not in ("", text) else {}), **fields})
        return True

    def recovered(self, name: str, text: str, **fields: object) -> bool:
        """Says the end of a problem, once; nothing when there was none. True when said."""
        if self._problems.pop(name, None) is None:
            return False
        self._say(logging.INFO, text, {"problem": name, **fields})
        return True

    # The user's own wording (design section 8)

    def connected(self, server: str = "", version: str = "") -> None:
        self._say(logging.INFO, "Connected to Kubernetes API", _given(server=server, version=version))

    def client_ready(self, source: str = "") -> None:
        self._say(logging.INFO, "Carbon intensity client initialized successfully", _given(source=source))

    def detected(self, pod: PodDetected) -> None:
        if self._level <= logging.INFO and not self._sink.json:
            self._say(logging.INFO, f"Unscheduled pod detected: {pod.namespace}/{pod.name}", _NONE)

    def selected(self, bind: Bind) -> None:
        if self._level <= logging.INFO and not self._sink.json:
            self._say(logging.INFO, selection(bind.decision), _NONE)

    def scheduled(self, bind: Bind) -> None:
        """The Binding was accepted."""
        if self._level <= logging.INFO:
            fields = _decision_fields(bind) if self._sink.json else _NONE
            self._say(logging.INFO, f"Pod {bind.name} scheduled to {bind.node}", fields)

    def refused(self, bind: Bind, code: int, message: str) -> None:
        """The Binding was certainly not carried out; the pod is decided again."""
        why = f"status {code}: {self.foreign(message)}" if code else self.foreign(message)
        then = "reading it to see what became of it" if code in (404, 409) else "it will be decided again"
        text = f"Pod {bind.namespace}/{bind.name} was not bound to {bind.node}: {why}; {then}"
        self._say(logging.WARNING, text, _decision_fields(bind) | {"code": code} if self._sink.json else _NONE)

    def unknown(self, bind: Bind) -> None:
        """The Binding's answer was lost; the pod is read to find out."""
        text = f"The answer to binding pod {bind.namespace}/{bind.name} to {bind.node} was lost; reading the pod to settle it"
        self._say(logging.WARNING, text, _decision_fields(bind) if self._sink.json else _NONE)

    def unschedulable(self, pod: Unschedulable) -> None:
        """Said when it is news; a repeated attempt with the same result only at level debug."""
        error = pod.reason == "SchedulerError"
        level = logging.DEBUG if not pod.news else logging.ERROR if error else logging.INFO
        if self._level <= level:
            message = printable(self._sink.redact(pod.message), 1024)
            fields = {"namespace": pod.namespace, "pod": pod.name, "uid": pod.uid, "reason": pod.reason}
            self._say(level, f"Pod {pod.namespace}/{pod.name} cannot be scheduled: {message}", fields)

    def evicted(self, effect: Evict) -> None:
        """A victim of preemption was deleted."""
        if self._level <= logging.INFO:
            text = (
                f"Pod {effect.namespace}/{effect.name} evicted from {effect.node} to make room for "
                f"{effect.preemptor_namespace}/{effect.preemptor_name}"
            )
            fields = {"namespace": effect.namespace, "pod": effect.name, "uid": effect.uid, "node": effect.node}
            self._say(logging.INFO, text, fields | {"preemptor": effect.preemptor_uid} if self._sink.json else _NONE)

    def not_evicted(self, effect: Evict, message: str) -> None:
        """A victim was not deleted, or its answer was lost; its preemptor looks again. Said once until one is deleted."""
        text = (
            f"Pod {effect.namespace}/{effect.name} was not evicted: {self.foreign(message)}; the pod that needs its room is "
            "tried again. `preemption: false` switches evictions off"
        )
        self.problem("eviction", text)

    def zone_not_known(self, effect: ZoneNotKnown) -> None:
        """A node names a grid zone that does not exist (the core says each spelling once)."""
        nearest = f" Did you mean {' or '.join(repr(zone) for zone in effect.nearest)}?" if effect.nearest else ""
        text = (
            f"node {effect.node}: {effect.where}: {self.foreign(effect.text)!r} is not a grid zone, so the node's carbon "
            f"intensity is not known.{nearest} `kubectl label node {effect.node} carbon-zone=ZONE --overwrite` corrects it"
        )
        self._say(logging.WARNING, text, {"node": effect.node, "nearest": effect.nearest})

    def overcommitted(self, effect: Overcommitted) -> None:
        """The pods on a node request more than it offers (the core says each spell once)."""
        self._say(
            logging.WARNING, f"node {effect.node}: {effect.message}", {"node": effect.node, "short": effect.short}
        )

    # What nobody caught

    def loop_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """For `loop.set_exception_handler`."""
        text, error = str(context.get("message", "unhandled error in a task")), context.get("exception")
        if isinstance(error, BaseException):
            self.exception(text, error)
        else:
            self.error(text)

    def _say(self, level: int, text: str, fields: Mapping[str, object]) -> None:
        if level >= self._level:
            self._sink.write(level, text, fields, self._now())


def start(
    log_format: LogFormat = "text", level: str = "info", *, secrets: tuple[str, ...] = (), fd: int = 2
) -> tuple[Narrator, Callable[[], None]]:
    """Begins logging to `fd` for the whole process: the narrator, and what ends it (also called at exit; call it before
    `os._exit`). Takes over `logging`, `warnings`, and uncaught exceptions of the main and other threads."""
    redact = Redactor()
    for secret in secrets:
        redact.add(secret)
    sink = Sink(log_format, lambda line: writer.put(line), redact)

    def dropped(count: int) -> str:
        text = f"{count} log lines were dropped because nothing read them in time"
        return sink.line(logging.WARNING, text, {"dropped": count}, time.time())

    writer = LineWriter(fd, dropped)
    narrator = Narrator(sink, LEVELS[level])
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(_Handler(sink))
    root.setLevel(max(logging.WARNING, LEVELS[level]))  # libraries: their warnings only
    logging.getLogger("carbon_scheduler").setLevel(LEVELS[level])
    logging.captureWarnings(True)

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
        else:
            narrator.exception("the program failed; this is a defect, please report it with these lines", error)

    def uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            narrator.exception(f"a thread failed ({args.thread.name if args.thread else '?'})", args.exc_value)

    sys.excepthook = uncaught
    threading.excepthook = uncaught_in_thread
    atexit.register(writer.close)
    return narrator, writer.close


def started() -> bool:
    """Whether `start` has taken over: then an error belongs into the log, in its format."""
    return any(isinstance(handler, _Handler) for handler in logging.getLogger().handlers)


def selection(decision: Decision) -> str:
    """The sentence of the user's document about a choice; a value that is not live says what it is."""
    if decision.intensity_g_per_kwh is None:
        return f"Selected node {decision.node} without carbon data (standard scheduling)"
    where = f" in zone {decision.grid_zone}" if decision.grid_zone else ""
    remark = "" if decision.quality in LIVE else f" ({decision.quality or 'quality not known'})"
    return (
        f"Selected node {decision.node}{where} with carbon intensity {decision.intensity_g_per_kwh:.2f} {UNIT}{remark}"
    )


_NONE: Final[Mapping[str, object]] = {}


def _decision_fields(bind: Bind) -> dict[str, object]:
    return {"namespace": bind.namespace, "pod": bind.name, "uid": bind.uid, **msgspec.structs.asdict(bind.decision)}


def _given(**fields: str) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value}


def _level_name(level: int) -> str:
    return next((name for name, floor in reversed(LEVELS.items()) if level >= floor), "debug")


def _unknown(value: object) -> str:
    """A field of a type that JSON does not have: its type only, a repr could carry anything."""
    return f"<{type(value).__name__}>"
