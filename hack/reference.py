"""Writes docs/reference and the list of docs/decisions: `python hack/reference.py`, or `make docs`; --check only compares.

Words about meaning that no code can tell stand in tables keyed by name; a name that the code has and a table lacks, or the
reverse, is an error. So nothing is documented that does not exist, and nothing exists undocumented.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import click
import msgspec
import reference_sources as sources
from reference_words import (
    ABSENT,
    ANNOTATIONS,
    CONDITIONS,
    DEVIATIONS,
    EVENTS,
    FIELDS,
    NEEDS,
    PLUGINS,
    VARIABLES,
    listed,
)

from carbon_scheduler.cli import carbon_intensity, main
from carbon_scheduler.core import carbon, decision, grid, model
from carbon_scheduler.core.plugins import default_profile
from carbon_scheduler.errors import CarbonSchedulerError, ConfigError, ProviderError
from carbon_scheduler.kube import fence, kinds
from carbon_scheduler.kube.writes import decision_annotations
from carbon_scheduler.observe import metrics as observed
from carbon_scheduler.observe.log import Narrator, Sink
from carbon_scheduler.observe.redact import Redactor
from carbon_scheduler.providers import electricity_maps
from carbon_scheduler.providers.http import Answer
from carbon_scheduler.providers.key import ApiKey
from carbon_scheduler.units import LABEL_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

REFERENCE: Final = sources.CHECKOUT / "docs/reference"
WIDTH: Final = 100
_HEAD: Final = "<!-- Made by hack/reference.py from the code. `make docs` writes it anew; do not edit. -->\n\n"


class Undocumented(Exception):
    """Something exists and is not described, or is described and does not exist."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|').strip() for cell in line)} |\n" for line in lines)


def described(names: Iterable[str], words: Mapping[str, Any], what: str) -> None:
    """Raises Undocumented when `words` does not have exactly these names."""
    found = set(names)
    missing, extra = found - set(words), set(words) - found
    if missing or extra:
        raise Undocumented(
            f"{what}: not described in hack/reference*.py: {sorted(missing)}; described and not in the code: {sorted(extra)}"
        )


# -- commands

EXIT_CODES: Final = {
    "0": "Done. `carbon-scheduler run`: told to stop by SIGTERM or Ctrl-C.",
    str(main.NO): "The answer is no. `evaluate -f`: no node is feasible, or the pod cannot be judged.",
    str(main.USAGE): "Usage or configuration: a wrong flag, file, variable, address or key. Nothing was begun.",
    str(main.FAILED): "A service failed, the lease was lost, or there is a defect (then with a traceback). "
    "A supervisor should start `run` again.",
    str(
        fence.EXIT_CODE
    ): "`run` was stopped by the system for longer than its lease, and ended before it could write. As 3.",
    str(main.INTERRUPTED): "Interrupted by Ctrl-C (other commands than `run`).",
    "141": "The reader of the output has left, as in `carbon-intensity --type zones | head -1`.",
}


def _context(command: click.Command, name: str, parent: click.Context | None = None) -> click.Context:
    """As click makes it when the command is called, at a fixed width."""
    settings = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    return click.Context(command, info_name=name, parent=parent, **settings)


def commands() -> str:
    group = _context(main.cli, "carbon-scheduler")
    shown = {"carbon-scheduler": main.cli.get_help(group)}
    for name in main.COMMANDS:
        command = main.cli.get_command(group, name)
        if command is None:
            raise Undocumented(f"command {name} has no module")
        shown[f"carbon-scheduler {name}"] = command.get_help(_context(command, name, group))
    data = carbon_intensity.command
    shown["carbon-intensity"] = data.get_help(_context(data, "carbon-intensity"))
    text = (
        "# Commands\n\nResults go to stdout, everything else to stderr. `kubectl carbon` is the same program as "
        "`carbon-scheduler`, installed as `kubectl-carbon`.\n\n"
    )
    for name, help_text in shown.items():
        lines = "\n".join(line.rstrip() for line in help_text.strip().splitlines())
        text += f"## `{name}`\n\n```text\n{lines}\n```\n\n"
    return text + "## Exit codes\n\n" + table(("code", "meaning"), EXIT_CODES.items())


# -- configuration


def configuration() -> str:
    read = {name.upper() for name in sources.environment()} | {"HTTPS_PROXY"}  # its name is put together at run time
    described(read, VARIABLES, "environment variables")
    text = (
        "# Configuration\n\nA YAML file (`carbon-scheduler run --config FILE`), then environment variables, then flags; the "
        "later wins. Unknown keys and variables that begin with `CARBON_SCHEDULER_` are refused, with the nearest name.\n\n"
        "```yaml\nplacement:\n  policy: carbon-first\ncarbon:\n  default_zone: US-NY-NYIS\nelectricity_maps:\n"
        "  requests_per_hour: 120\n```\n\n"
    )
    for section in sources.sections():
        text += f"## {'`' + section.name + '`' if section.name else 'Without a section'}\n\n{section.meaning}\n\n"
        rows = []
        for key in section.keys:
            if not key.meaning:
                raise Undocumented(f"configuration: {key.name} has no docstring in config.py")
            kind = key.type + (f": {key.allowed}" if key.allowed else "")
            rows.append((f"`{key.name}`", kind, key.default or "(empty)", key.meaning, f"`{key.variable}`"))
        text += table(("key", "type", "default", "meaning", "variable"), rows) + "\n"
    text += "## Other variables\n\n"
    return text + table(("variable", "meaning"), ((f"`{name}`", words) for name, words in VARIABLES.items()))


# -- metrics


LABELS: Final = {
    "result": f"of attempts: {listed(observed.ATTEMPTS)}; of Bindings: {listed(observed.BIND_RESULTS)}",
    "profile": "the pod's scheduler name: `scheduler_name` of the configuration, or a profile's",
    "queue": listed(observed.QUEUES),
    "attempts": "`1` to `15`, `16+`",
    "outcome": listed(sources.outcomes()),
    "reason": listed(sources.rejections()),
    "kind": "`Pod`, `Node`, `Namespace`",
    "grid_zone": "grid zones of the cluster's nodes",
    "quality": listed(get_args(carbon.Quality)),
    "version": "of the program",
}


def metrics() -> str:
    found = sources.metrics()
    described({label for metric in found for label in metric.labels}, LABELS, "labels of metrics")
    rows = [(f"`{m.name}`", m.type, listed(m.labels) or "-", m.meaning) for m in found]
    return (
        "# Metrics\n\nAt `/metrics` on port 10259, in the Prometheus or the OpenMetrics format. No label carries a pod's or a "
        "user's name.\n\n"
        + table(("metric", "type", "labels", "meaning"), rows)
        + "\nHistograms have `_bucket`, `_sum` and `_count`. Besides these: "
        + listed(sources.other_metrics())
        + ".\n\n## Values of the labels\n\n"
        + table(("label", "values"), ((f"`{label}`", words) for label, words in LABELS.items()))
    )


# -- plugins


def plugins() -> str:
    profile = {plugin.name: plugin for plugin in default_profile()}
    described(profile, PLUGINS, "plugins")
    if both := sorted(set(profile) & set(ABSENT)):
        raise Undocumented(
            f"plugins: {both} exist now: take them out of ABSENT (reference_words.py), and see README.md"
        )
    rows = [(f"`{name}`", str(plugin.weight or "-"), PLUGINS[name]) for name, plugin in profile.items()]
    return (
        "# Plugins\n\nThe parts of kube-scheduler 1.36 that decide which nodes are feasible, and which of the equally clean "
        "ones is best, with its formulas and its texts. A pod with `schedulingGates` waits until they are gone.\n\n"
        + table(("plugin", "weight of its score", "meaning"), rows)
        + "\n## Preemption\n\nWhen no node fits, `DefaultPreemption` looks for pods of lower priority that could go, as "
        "kube-scheduler does: on each node as few and as unimportant ones as will do, those that a PodDisruptionBudget "
        "protects last; then the node with the fewest broken budgets, the lowest priorities, the fewest and youngest victims, "
        "and among equals the cleanest. Victims get the condition `DisruptionTarget`, then they are deleted with their own "
        "grace; the pod waits with `status.nominatedNodeName`, and others of its priority or less leave it that room. A pod "
        "that this scheduler is binding at that moment can be a victim too: it is deleted like any other, for a Binding cannot "
        "be taken back; one that waits for its volumes looks for another node. "
        "[How to switch it off](../how-to/switch-preemption-off.md).\n"
        "\n## Not here yet\n\nA pod that **requires** one of these (required terms, `DoNotSchedule`, a "
        "PersistentVolumeClaim, resource claims) is refused with a condition that says so; preferences are left "
        "out of the score. Leave such pods to the cluster's own "
        "scheduler.\n\n"
        + table(
            ("plugin of kube-scheduler", "what is not regarded"),
            ((f"`{name}`", words) for name, words in ABSENT.items()),
        )
        + "\n## Different on purpose\n\nThe plugins above are compared with kube-scheduler's own over random clusters "
        "(`make parity`), every code, reason, score and message. Known differences:\n\n"
        + table(("case", "what happens"), DEVIATIONS.items())
    )


# -- objects of the API


def sample_bind(quality: carbon.Quality | None = "measured", g_per_kwh: float | None = 300.0) -> decision.Bind:
    made = decision.Decision(
        seq=1795608000000000,
        at_us=1795608000000000,
        node=model.NodeName("minikube"),
        grid_zone=model.GridZone("US-NY-NYIS") if g_per_kwh is not None else None,
        intensity_g_per_kwh=g_per_kwh,
        cleanest_g_per_kwh=g_per_kwh,
        quality=quality,
        source="electricity-maps" if quality else None,
        feasible=1,
        policy="carbon-first",
        blind=model.NodeName("minikube"),
        saved_g_per_kwh=0.0 if g_per_kwh is not None else None,
        blind_g_per_kwh=g_per_kwh,
        blind_grid_zone=model.GridZone("US-NY-NYIS") if g_per_kwh is not None else None,
    )
    return decision.Bind(
        model.PodUid("5e2f0d1c-7a9b-4c3d-8e6f-1a2b3c4d5e6f"), "default", "test-pod", model.NodeName("minikube"), made
    )


def objects() -> str:
    found = sources.event_reasons()
    described(found, EVENTS, "events")
    described(sources.prefixed(), ANNOTATIONS, "annotations")
    reasons = {field.name: field.type for field in msgspec.structs.fields(decision.Unschedulable)}["reason"]
    described(get_args(reasons), CONDITIONS, "reasons of the condition PodScheduled")
    written = decision_annotations(sample_bind().decision)
    record = json.loads(written[LABEL_PREFIX + "decision"])
    described(record, FIELDS, "fields of the decision")
    events = [(f"`{reason}`", *found[reason], EVENTS[reason]) for reason in EVENTS]
    labels = [(f"`{label}`", "a node's grid zone") for label in grid.ZONE_LABELS]
    described(get_args(kinds.Need), NEEDS, "what kinds are read for")
    always = [("`Pod`", "`/api/v1/pods`", "always"), ("`Node`", "`/api/v1/nodes`", "always")]
    always.append(("`Namespace`", "`/api/v1/namespaces`", "always"))
    read = [*always, *((f"`{kind.name}`", f"`{kind.path}`", NEEDS[kind.need]) for kind in kinds.KINDS)]
    labels.append((f"`{grid.REGION_LABEL}`", "with `spec.providerID`: the cloud region, which leads to a grid zone"))
    return (
        "# On API objects\n\nWhat the scheduler reads and writes in a cluster.\n\n"
        "## Objects read\n\nListed once, then watched; nothing is polled. Nothing is decided before each list is in. A right "
        "to list and watch is needed for each, [as in deploy/k8s.yaml](../../deploy/k8s.yaml).\n\n"
        + table(("kind", "path", "read"), read)
        + "\n"
        "## Labels read on nodes\n\nIn this order; the first that is set decides. A text that names no grid zone ends the "
        "search: the node then has none.\n\n"
        + table(("label", "meaning"), labels)
        + "\n## Annotations\n\n"
        + table(("annotation", "meaning"), ((f"`{LABEL_PREFIX}{name}`", words) for name, words in ANNOTATIONS.items()))
        + "\nA Binding leaves them out when the pod's annotations would exceed 262,144 bytes. Whoever may edit a pod may edit "
        "them: they explain, and nothing is decided by them.\n\n### The decision\n\n```json\n"
        + json.dumps(record, indent=2)
        + "\n```\n\n"
        + table(("field", "meaning"), ((f"`{name}`", words) for name, words in FIELDS.items()))
        + "\n## Condition\n\n`PodScheduled` with status `False`, written when its text changes.\n\n"
        + table(("reason", "meaning"), ((f"`{name}`", words) for name, words in CONDITIONS.items()))
        + "\nWith it `status.nominatedNodeName` is written: the node on which room is made for the pod; it is cleared when "
        "that is of no use any more. A victim of preemption gets the condition `DisruptionTarget` with status `True` and "
        "reason `PreemptionByScheduler`.\n"
        "\n## Events\n\nOf `events.k8s.io/v1`, about pods unless said otherwise. They are best effort: binding never waits "
        "for them, and what cannot be written is counted in `carbon_scheduler_events_dropped_total`.\n\n"
        + table(("reason", "type", "action", "meaning"), events)
        + "\n## Lease\n\n`coordination.k8s.io/v1`, name and times from the section `leader_election` of the "
        "[configuration](configuration.md).\n"
    )


# -- the log


def _said(say: Callable[[Narrator], object], *, log_format: Any = "text") -> str:
    lines: list[str] = []
    say(Narrator(Sink(log_format, lines.append, Redactor()), level=10, now=lambda: 1795608000.0))
    return "\n".join(lines)


def narrated() -> list[tuple[str, str, str]]:
    """(heading, line, meaning) of what the Narrator says, as it says it."""
    stale: carbon.Quality = "static"
    pod = decision.PodDetected(model.PodUid("u"), "default", "test-pod")
    full = decision.Unschedulable(
        model.PodUid("u"), "default", "big", "Unschedulable", "0/1 nodes are available: 1 Insufficient cpu.", patch=True
    )
    crowded = decision.Overcommitted(model.NodeName("node1"), "", (("cpu", 4200, 4000), ("pods", 111, 110)))
    misspelled = decision.ZoneNotKnown(model.NodeName("node1"), "Germny", "label carbon-zone", ("DE", "GG"))
    return [
        ("", _said(lambda n: n.connected()), "The API server has answered."),
        ("", _said(lambda n: n.client_ready()), "Carbon data are asked for from now on; nothing was asked yet."),
        ("", _said(lambda n: n.detected(pod)), "A pod of ours waits for a node."),
        ("", _said(lambda n: n.selected(sample_bind())), "The decision, with a live value."),
        (
            "",
            _said(lambda n: n.selected(sample_bind(stale))),
            "The value is not live: the word in brackets is its quality.",
        ),
        ("", _said(lambda n: n.selected(sample_bind(None, None))), "The node's grid zone has no value."),
        ("", _said(lambda n: n.scheduled(sample_bind())), "The Binding was accepted."),
        ("", _said(lambda n: n.unschedulable(full)), "No node fits; said when the reason is new."),
        ("", _said(lambda n: n.refused(sample_bind(), 409, "already assigned")), "Decided again after a read."),
        ("", _said(lambda n: n.unknown(sample_bind())), "It may have been carried out: the pod is read to find out."),
        ("", _said(lambda n: n.zone_not_known(misspelled)), "Said once per spelling."),
        ("", _said(lambda n: n.overcommitted(crowded)), "Said once, until the pods fit again."),
    ]


def log() -> str:
    rows = [(line.level, f"`{line.text.replace('`', chr(39))}`", f"`{line.part}`") for line in sources.log_lines()]
    rows.append(("warning", f"`{electricity_maps.NO_KEY}`", "`providers`"))
    record = _said(lambda n: n.scheduled(sample_bind()), log_format="json")
    return (
        "# Log\n\nOn stderr. The text format has no time stamps (`kubectl logs --timestamps` adds them); warnings begin with "
        "`Warning: `, errors with `Error: `. Secrets and tenants' texts are masked, cut and made printable.\n\n"
        "## Sentences\n\n"
        + table(("line", "meaning"), ((f"`{line.replace('`', chr(39))}`", meaning) for _, line, meaning in narrated()))
        + "\n## JSON\n\n`--log-format json`: one object a line with `time`, `level`, `message` and fields. A decision is one "
        "line, written when its Binding is answered:\n\n```json\n"
        + json.dumps(json.loads(record), indent=2, ensure_ascii=False)
        + "\n```\n\n## All other lines\n\nWith placeholders for what varies. A problem is said once, and again after it had "
        "gone away. What Electricity Maps' refusals read like: [errors](errors.md#what-electricity-maps-can-answer).\n\n"
        + table(("level", "line", "said by"), rows)
    )


# -- errors

_JSON: Final = "application/json"
ANSWERS: Final = {
    "The key is not accepted": Answer(401, b'{"status":401,"error":"Invalid auth-token"}', _JSON, "", ""),
    "The plan does not cover the zone": Answer(401, b'{"error":"Request unauthorized for zone DE"}', _JSON, "", ""),
    "Too many requests at once": Answer(401, b"", _JSON, "", ""),
    "The key was revoked": Answer(403, b"", _JSON, "", ""),
    "Too many requests": Answer(429, b"", _JSON, "30", ""),
    "The zone does not exist": Answer(400, b'{"error":"Zone \'XX\' does not exist."}', _JSON, "", ""),
    "The request is not understood": Answer(400, b"", _JSON, "", ""),
    "No value for now": Answer(404, b'{"error":"No recent data for zone"}', _JSON, "", ""),
    "Another server": Answer(404, b"<html><body>Not found</body></html>", "text/html", "", ""),
    "A redirect": Answer(302, b"", "", "", "example.com"),
    "The proxy wants a password": Answer(407, b"", "", "", ""),
    "It is down": Answer(503, b"", "", "", ""),
}


def errors() -> str:
    meanings, known = sources.error_meanings(), sources.subclasses(CarbonSchedulerError)
    described((error.__name__ for error in known), meanings, "error classes (in the tree of errors.py)")
    rows = []
    for error in known:
        label = f"`{error.label}`" if issubclass(error, ProviderError) else "-"
        code = main.USAGE if issubclass(error, ConfigError) else main.FAILED
        rows.append(
            (f"`{error.__name__}`", f"`{error.__mro__[1].__name__}`", meanings[error.__name__], str(code), label)
        )
    answers = []
    for what, answer in ANSWERS.items():
        made = electricity_maps.failure(
            answer,
            where="api.electricitymaps.com/v4/carbon-intensity/history, zone DE",
            key=ApiKey("not-shown"),
            origin="ELECTRICITY_MAPS_API_KEY",
            now_s=0.0,
        )
        answers.append(f"**{what}** (`{type(made).__name__}`):\n\n```text\nError: {made}\n```\n")
    return (
        "# Errors\n\n`from carbon_scheduler.errors import CarbonSchedulerError`, the base of all. Every message says what, "
        "where, what was got, what was expected, and the next step; none contains a secret.\n\n"
        + table(("class", "is a", "meaning", "exit code", "`outcome` in the metrics"), rows)
        + "\nThe exit code is that of a command which such an error ends. Errors of the source of carbon data never end "
        "`carbon-scheduler run`: it goes on without it.\n\n## What Electricity Maps can answer\n\nThe lines below are what the "
        "log and `carbon-intensity` say. In the log they end in how scheduling goes on.\n\n" + "\n".join(answers)
    )


PAGES: Final[dict[str, Callable[[], str]]] = {
    "commands.md": commands,
    "configuration.md": configuration,
    "metrics.md": metrics,
    "plugins.md": plugins,
    "objects.md": objects,
    "log.md": log,
    "errors.md": errors,
}


DECISIONS: Final = sources.CHECKOUT / "docs/decisions"


def decisions() -> str:
    """The list of decisions, from their titles."""
    rows = []
    for path in sorted(DECISIONS.glob("0*.md")):
        number, dot, title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ").partition(". ")
        if not dot or int(number) != int(path.name[:4]):
            raise Undocumented(f"{path}: expected `# {int(path.name[:4])}. Title` as its first line")
        rows.append((number, f"[{title}]({path.name})"))
    return (
        "# Decisions\n\nOne page each: context, decision, consequences, rejected. A page is not changed when its decision is: "
        "a new one says what replaced it.\n\n" + table(("", ""), rows)
    )


def pages() -> dict[Path, str]:
    """Path -> what it should hold. Raises Undocumented."""
    made = {REFERENCE / name: make for name, make in PAGES.items()} | {DECISIONS / "README.md": decisions}
    return {path: _HEAD + make().rstrip() + "\n" for path, make in made.items()}


def differing() -> list[Path]:
    """The pages that are not as the code would have them."""
    return [path for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text]


def run(argv: list[str]) -> int:
    try:
        stale = differing()
    except Undocumented as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    if "--check" in argv:
        for path in stale:
            print(f"Error: {path.relative_to(sources.CHECKOUT)} is not up to date; run: make docs", file=sys.stderr)
        return 1 if stale else 0
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for path in stale:
        path.write_text(pages()[path], encoding="utf-8")
        print(f"wrote {path.relative_to(sources.CHECKOUT)}")
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
