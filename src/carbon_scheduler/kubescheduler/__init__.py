"""kube-scheduler's own configuration file, `KubeSchedulerConfiguration` of kubescheduler.config.k8s.io/v1, as ours.

Every field that has a counterpart here is used. Of the others only values that ask for nothing are accepted, those of
kube-scheduler's defaults among them, so that a file it wrote itself (`--write-config-to`) can be read. All that cannot be
served is named in one error.

Source: kube-scheduler v0.36.3 config/v1/types.go, defaults and checks of kubernetes v1.36.3 pkg/scheduler/apis/config.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from carbon_scheduler.core.plugins.profiles import MULTI_POINT, POINTS, Problem, problems
from carbon_scheduler.core.settings import PluginSet, Profile
from carbon_scheduler.errors import ConfigError, did_you_mean
from carbon_scheduler.kubescheduler.args import ARGS
from carbon_scheduler.kubescheduler.reader import Reader

API_VERSION: Final = "kubescheduler.config.k8s.io/v1"
KIND: Final = "KubeSchedulerConfiguration"
MAX_PROFILES: Final = 100
_MAX: Final = 2**31 - 1

Setting = str | float | int
Path = tuple[str, ...]


class FromKubeScheduler(NamedTuple):
    """`settings`: path of a key of our configuration -> its value, for what the file sets otherwise than by default."""

    profiles: tuple[Profile, ...]
    settings: dict[Path, Setting]


def read(tree: object, source: str) -> FromKubeScheduler:
    """The profiles of a file that was read as YAML from `source`. Raises ConfigError that names every problem."""
    found: list[Problem] = []
    top = Reader(tree, "", found)
    top.word("apiVersion", API_VERSION, [API_VERSION])
    top.word("kind", KIND, [KIND])
    for key in ("apiVersion", "kind"):
        if not top.has(key):
            top.say(key, None, API_VERSION if key == "apiVersion" else KIND, "add it")
    settings = _settings(top)
    listed = top.items("profiles")
    profiles = [_profile(one) for one in listed[:MAX_PROFILES]]
    if not profiles or len(listed) > MAX_PROFILES:
        wanted = f"one to {MAX_PROFILES} profiles, each with a schedulerName"
        top.say("profiles", [*listed], wanted, "take some out" if listed else "add one")
    top.end()
    names = [profile.scheduler_name for profile in profiles]
    for i, name in enumerate(names):
        if name and name in names[:i]:
            top.say(f"profiles[{i}].schedulerName", name, "a name for each profile", "rename or remove one")
    if found:
        lines = "".join(f"\n  {p.path or 'the file'}: got {p.got}, expected {p.expected}; {p.next_step}" for p in found)
        raise ConfigError(f"{source}: {len(found)} field{'s' * (len(found) > 1)} cannot be served:{lines}")
    return FromKubeScheduler(tuple(profiles), settings)


def _settings(top: Reader) -> dict[Path, Setting]:
    found: dict[Path, Setting] = {}

    def differs(path: Path, value: Setting, default: Setting) -> None:
        if value != default:
            found[path] = value

    lease = top.inner("leaderElection")
    differs(("leader_election", "enabled"), "on" if lease.boolean("leaderElect", True) else "off", "on")
    differs(("leader_election", "lease_duration_s"), lease.seconds("leaseDuration", 15.0), 15.0)
    differs(("leader_election", "renew_deadline_s"), lease.seconds("renewDeadline", 10.0), 10.0)
    differs(("leader_election", "retry_period_s"), lease.seconds("retryPeriod", 2.0), 2.0)
    differs(("leader_election", "lease_name"), lease.text("resourceName", "kube-scheduler"), "kube-scheduler")
    differs(("leader_election", "namespace"), lease.text("resourceNamespace", "kube-system"), "kube-system")
    lease.word("resourceLock", "leases", ["leases"])
    lease.end()
    differs(("backoff", "initial_s"), top.integer("podInitialBackoffSeconds", 1, 1, 7 * 86400), 1)
    differs(("backoff", "max_s"), top.integer("podMaxBackoffSeconds", 10, 1, 7 * 86400), 10)
    client = top.inner("clientConnection")
    client.unused("kubeconfig", [], "give it as --kubeconfig")
    client.unused("acceptContentTypes", [], "remove it")
    client.unused("contentType", ["application/vnd.kubernetes.protobuf"], "remove it: JSON is spoken")
    client.unused("qps", [50, 50.0], "remove it: the API server's own priority and fairness is heeded")
    client.unused("burst", [100], "remove it: the API server's own priority and fairness is heeded")
    client.end()
    top.unused("parallelism", [16], "remove it: one thread judges all nodes at once")
    top.unused("percentageOfNodesToScore", [0, 100], "remove it: all nodes are judged and scored")
    for debugging in ("enableProfiling", "enableContentionProfiling"):
        top.unused(debugging, [True, False], "remove it")
    top.unused("extenders", [], "remove them, or leave these pods to kube-scheduler: extenders are not called")
    top.unused("delayCacheUntilActive", [False], "remove it: a standby keeps its caches warm")
    return found


def _profile(one: Reader) -> Profile:
    name = one.text(
        "schedulerName",
        needed="name it; kube-scheduler would take default-scheduler, which two schedulers must not serve at the same time",
    )
    one.unused("percentageOfNodesToScore", [0, 100], "remove it: all nodes are judged and scored")
    profile = Profile(name, _plugins(one.inner("plugins")))
    seen: set[str] = set()
    for config in one.items("pluginConfig"):
        plugin = config.text("name", needed="name the plugin")
        args = config.inner("args")
        config.end()
        if plugin in seen:
            config.say("name", plugin, "each plugin once", "merge the two")
        elif plugin in ARGS:
            args.word("apiVersion", API_VERSION, [API_VERSION])
            args.word("kind", f"{plugin}Args", [f"{plugin}Args"])
            profile = ARGS[plugin](args, profile)
            args.end()
        elif plugin:
            near = did_you_mean(plugin, ARGS)
            config.say("name", plugin, f"one of {', '.join(ARGS)}", f"correct or remove it{near}")
        seen.add(plugin)
    one.end()
    for p in problems(profile):
        one.problems.append(msgspec.structs.replace(p, path=one.at(p.path)))
    return profile


def _plugins(plugins: Reader) -> dict[str, PluginSet]:
    found: dict[str, PluginSet] = {}
    for point in (MULTI_POINT, *POINTS):
        one = plugins.inner(point)
        on, off = [], []
        for plugin in one.items("enabled"):
            on.append((plugin.text("name", needed="name the plugin"), plugin.integer("weight", 0, 0, _MAX)))
            plugin.end()
        for plugin in one.items("disabled"):
            off.append(plugin.text("name", needed='name the plugin, or "*"'))
            plugin.integer("weight", 0, 0, _MAX)
            plugin.end()
        one.end()
        if on or off:
            found[point] = PluginSet(tuple(p for p in on if p[0]), tuple(name for name in off if name))
    plugins.end()
    return found
