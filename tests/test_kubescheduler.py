"""kube-scheduler's own configuration file: what is used of it, and that everything else is named in one error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from carbon_scheduler.config import Config, load, profiles_of
from carbon_scheduler.core.model import NodeSelectorTerm, PreferredTerm, Requirement, SpreadConstraint
from carbon_scheduler.core.plugins import default_profile, make_profile
from carbon_scheduler.core.settings import AddedAffinity, FitArgs, PluginSet, Profile
from carbon_scheduler.errors import ConfigError
from carbon_scheduler.kubescheduler import API_VERSION, KIND, MAX_PROFILES, FromKubeScheduler, read
from carbon_scheduler.kubescheduler.reader import MAX_ITEMS

WRITTEN = Path(__file__).parent / "golden/kube-scheduler-1.36.3.yaml"
"""What `kube-scheduler --write-config-to` of v1.36.3 writes without a configuration: all defaults in words."""
HEAD = f"apiVersion: {API_VERSION}\nkind: {KIND}\n"


def reading(text: str) -> FromKubeScheduler:
    return read(yaml.safe_load(HEAD + text), "ks.yaml")


def one(args: str = "", plugins: str = "") -> Profile:
    """The profile with these `pluginConfig` items and `plugins`, as YAML in one line each."""
    (found,) = reading(f"profiles: [{{schedulerName: p, plugins: {{{plugins}}}, pluginConfig: [{args}]}}]").profiles
    return found


def test_the_file_that_kube_scheduler_writes_is_its_default() -> None:
    profiles, settings = read(yaml.safe_load(WRITTEN.read_text()), "written")
    assert settings == {}
    (found,) = profiles
    assert found.scheduler_name == "default-scheduler"

    def shown(plugins: Any) -> list[tuple[str, int, str]]:
        return [(plugin.name, plugin.weight, type(plugin).__name__) for plugin in plugins]

    assert shown(make_profile(found)) == shown(default_profile())
    assert found == Profile("default-scheduler", found.plugins)


USED: dict[str, tuple[str, Profile]] = {
    "nothing": ("", Profile("p")),
    "a strategy": (
        "{name: NodeResourcesFit, args: {scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 3}, {name: x.com/y}]}}}",
        Profile("p", fit=FitArgs("MostAllocated", (("cpu", 3), ("x.com/y", 1)))),
    ),
    "a shape": (
        ("{name: NodeResourcesFit, args: {scoringStrategy: {type: RequestedToCapacityRatio, requestedToCapacityRatio: "
        "{shape: [{utilization: 0, score: 0}, {utilization: 100, score: 10}]}}}}"),
        Profile("p", fit=FitArgs("RequestedToCapacityRatio", shape=((0, 0), (100, 10)))),
    ),
    "ignored resources": (
        "{name: NodeResourcesFit, args: {ignoredResources: [x.com/y], ignoredResourceGroups: [z.com]}}",
        Profile("p", fit=FitArgs(ignored_resources=("x.com/y",), ignored_resource_groups=("z.com",))),
    ),
    "balanced resources": (
        "{name: NodeResourcesBalancedAllocation, args: {resources: [{name: cpu, weight: 1}, {name: x.com/y}]}}",
        Profile("p", balanced_resources=("cpu", "x.com/y")),
    ),
    "added affinity": (
        ("{name: NodeAffinity, args: {addedAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: "
        "[{matchExpressions: [{key: a, operator: In, values: [b]}]}]}, preferredDuringSchedulingIgnoredDuringExecution: "
        "[{weight: 3, preference: {matchFields: [{key: metadata.name, operator: NotIn, values: [n]}]}}]}}}"),
        Profile(
            "p",
            added_affinity=AddedAffinity(
                (NodeSelectorTerm((Requirement("a", "In", ("b",)),)),),
                (PreferredTerm(3, NodeSelectorTerm(fields=(Requirement("metadata.name", "NotIn", ("n",)),))),),
            ),
        ),
    ),
    "default constraints": (
        ("{name: PodTopologySpread, args: {defaultingType: List, defaultConstraints: [{maxSkew: 2, topologyKey: rack, "
        "whenUnsatisfiable: DoNotSchedule, minDomains: 3, nodeAffinityPolicy: Ignore, nodeTaintsPolicy: Honor}]}}"),
        Profile(
            "p",
            default_constraints=(
                SpreadConstraint("rack", 2, min_domains=3, honor_affinity=False, honor_taints=True),
            ),
        ),
    ),
    "no default constraints": ("{name: PodTopologySpread, args: {defaultingType: List}}", Profile("p", default_constraints=())),
    "pod affinity": (
        "{name: InterPodAffinity, args: {hardPodAffinityWeight: 0, ignorePreferredTermsOfExistingPods: true}}",
        Profile("p", hard_pod_affinity_weight=0, ignore_preferred_terms_of_existing_pods=True),
    ),
    "preemption": (
        "{name: DefaultPreemption, args: {minCandidateNodesPercentage: 0, minCandidateNodesAbsolute: 7}}",
        Profile("p", min_candidate_nodes_percentage=0, min_candidate_nodes_absolute=7),
    ),
    "volumes": ("{name: VolumeBinding, args: {bindTimeoutSeconds: 30}}", Profile("p", bind_timeout_s=30.0)),
    "the carbon policy": ("{name: Carbon, args: {policy: weighted}}", Profile("p", policy="weighted")),
    "the carbon policy, which YAML reads as false": ("{name: Carbon, args: {policy: off}}", Profile("p", policy="off")),
    "arguments with their kind": (
        f"{{name: VolumeBinding, args: {{apiVersion: {API_VERSION}, kind: VolumeBindingArgs, bindTimeoutSeconds: 30}}}}",
        Profile("p", bind_timeout_s=30.0),
    ),
    "arguments without any": ("{name: NodeAffinity}", Profile("p")),
}  # fmt: skip


@pytest.mark.parametrize("sentence", USED)
def test_arguments_are_used(sentence: str) -> None:
    args, want = USED[sentence]
    assert one(args) == want


def test_plugins_are_used() -> None:
    found = one(
        plugins="score: {enabled: [{name: TaintToleration, weight: 7}], disabled: [{name: '*'}]}, filter: {}, bind: null"
    )
    assert found.plugins == {"score": PluginSet((("TaintToleration", 7),), ("*",))}


SETTINGS: dict[str, tuple[str, dict[tuple[str, ...], Any]]] = {
    "backoff": ("podInitialBackoffSeconds: 2\npodMaxBackoffSeconds: 20\n", {("backoff", "initial_s"): 2, ("backoff", "max_s"): 20}),
    "the lease": (
        "leaderElection: {leaderElect: false, leaseDuration: 1m, renewDeadline: 40s, retryPeriod: 5s, resourceName: x, resourceNamespace: y}\n",
        {
            ("leader_election", "enabled"): "off",
            ("leader_election", "lease_duration_s"): 60.0,
            ("leader_election", "renew_deadline_s"): 40.0,
            ("leader_election", "retry_period_s"): 5.0,
            ("leader_election", "lease_name"): "x",
            ("leader_election", "namespace"): "y",
        },
    ),
    "defaults say nothing": ("leaderElection: {leaderElect: true, resourceName: kube-scheduler}\npodMaxBackoffSeconds: 10\n", {}),
    "what asks for nothing": (
        ("enableProfiling: false\nextenders: []\nclientConnection: {qps: 50, burst: 100}\npercentageOfNodesToScore: 100\n"
        "delayCacheUntilActive: false\n"),
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("sentence", SETTINGS)
def test_settings(sentence: str) -> None:
    text, want = SETTINGS[sentence]
    assert reading(text + "profiles: [{schedulerName: p}]").settings == want


def _args(text: str) -> str:
    return f"profiles: [{{schedulerName: p, pluginConfig: [{text}]}}]"


REFUSED: dict[str, tuple[str, str]] = {
    "no profile": ("profiles: []", "profiles: got a list of 0, expected one to"),
    "a profile without a name": ("profiles: [{}]", "profiles[0].schedulerName: got nothing"),
    "the same name twice": ("profiles: [{schedulerName: a}, {schedulerName: a}]", "profiles[1].schedulerName: got 'a'"),
    "threads": ("parallelism: 4\nprofiles: [{schedulerName: p}]", "parallelism: got 4"),
    "sampling": ("percentageOfNodesToScore: 50\nprofiles: [{schedulerName: p}]", "percentageOfNodesToScore: got 50"),
    "sampling in a profile": ("profiles: [{schedulerName: p, percentageOfNodesToScore: 50}]", "profiles[0].percentageOfNodesToScore: got 50"),
    "extenders": ("extenders: [{urlPrefix: x}]\nprofiles: [{schedulerName: p}]", "extenders: got a list of 1"),
    "a limit of requests": ("clientConnection: {qps: 500}\nprofiles: [{schedulerName: p}]", "clientConnection.qps: got 500"),
    "another lock": ("leaderElection: {resourceLock: endpoints}\nprofiles: [{schedulerName: p}]", "leaderElection.resourceLock: got 'endpoints'"),
    "no duration": ("leaderElection: {leaseDuration: 15}\nprofiles: [{schedulerName: p}]", "leaderElection.leaseDuration: got 15"),
    "a typo": ("profile: []\nprofiles: [{schedulerName: p}]", "profile: got a field that is not known"),
    "a plugin that does not exist": ("profiles: [{schedulerName: p, plugins: {score: {enabled: [{name: Foo}]}}}]", "profiles[0].plugins.score.enabled[0].name: got 'Foo'"),
    "no order of the queue": ("profiles: [{schedulerName: p, plugins: {queueSort: {disabled: [{name: '*'}]}}}]", "profiles[0].plugins.queueSort: got no plugin"),
    "arguments of an unknown plugin": (_args("{name: Foo, args: {a: 1}}"), "profiles[0].pluginConfig[0].name: got 'Foo'"),
    "arguments twice": (_args("{name: NodeAffinity}, {name: NodeAffinity}"), "pluginConfig[1].name: got 'NodeAffinity'"),
    "arguments of another kind": (_args("{name: NodeAffinity, args: {kind: FitArgs}}"), "args.kind: got 'FitArgs'"),
    "an argument that does not exist": (_args("{name: NodeAffinity, args: {added: {}}}"), "args.added: got a field that is not known"),
    "a shape that goes back": (
        _args("{name: NodeResourcesFit, args: {scoringStrategy: {type: RequestedToCapacityRatio, requestedToCapacityRatio: {shape: [{utilization: 9, score: 1}, {utilization: 9, score: 2}]}}}}"),
        "requestedToCapacityRatio.shape[1].utilization: got 9",
    ),
    "a shape without points": (
        _args("{name: NodeResourcesFit, args: {scoringStrategy: {type: RequestedToCapacityRatio}}}"),
        "requestedToCapacityRatio.shape: got nothing",
    ),
    "a shape for another strategy": (
        _args("{name: NodeResourcesFit, args: {scoringStrategy: {requestedToCapacityRatio: {shape: [{utilization: 9, score: 1}]}}}}"),
        "scoringStrategy.requestedToCapacityRatio: got a mapping",
    ),
    "a weight above 100": (_args("{name: NodeResourcesFit, args: {scoringStrategy: {resources: [{name: cpu, weight: 101}]}}}"), "resources[0].weight: got 101"),
    "a weight where none is heeded": (_args("{name: NodeResourcesBalancedAllocation, args: {resources: [{name: cpu, weight: 2}]}}"), "resources[0].weight: got 2"),
    "a resource twice": (_args("{name: NodeResourcesBalancedAllocation, args: {resources: [{name: cpu}, {name: cpu}]}}"), "args.resources: got 'cpu'"),
    "constraints beside the system's": (
        _args("{name: PodTopologySpread, args: {defaultConstraints: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: ScheduleAnyway}]}}"),
        "args.defaultConstraints: got a list of 1",
    ),
    "a constraint with a selector": (
        _args("{name: PodTopologySpread, args: {defaultingType: List, defaultConstraints: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {a: b}}}]}}"),
        "defaultConstraints[0].labelSelector: got a mapping of 1",
    ),
    "an operator that does not exist": (
        _args("{name: NodeAffinity, args: {addedAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Is}]}]}}}}"),
        "matchExpressions[0].operator: got 'Is'",
    ),
    "a bound that is no number": (
        _args("{name: NodeAffinity, args: {addedAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Gt, values: [x]}]}]}}}}"),
        "matchExpressions[0].values: got 'x'",
    ),
    "a field that is no field": (
        _args("{name: NodeAffinity, args: {addedAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.uid, operator: In, values: [x]}]}]}}}}"),
        "matchFields[0]: got 'metadata.uid with 1 values'",
    ),
    "no candidates": (_args("{name: DefaultPreemption, args: {minCandidateNodesPercentage: 0, minCandidateNodesAbsolute: 0}}"), "minCandidateNodesAbsolute: got 0"),
    "a score of volumes": (_args("{name: VolumeBinding, args: {shape: [{utilization: 0, score: 0}]}}"), "args.shape: got a list of 1"),
    "resource claims with a time limit of their own": (_args("{name: DynamicResources, args: {filterTimeout: 5s}}"), "args.filterTimeout: got '5s'"),
    "a policy that does not exist": (_args("{name: Carbon, args: {policy: greenest}}"), "args.policy: got 'greenest'"),
    "a number where fields should be": ("profiles: [7]", "profiles[0]: got 7, expected fields"),
    "a list that is none": ("profiles: 7", "profiles: got 7, expected a list"),
    "a list that is too long": (_args("{name: NodeResourcesFit, args: {ignoredResources: [" + "x," * (MAX_ITEMS + 1) + "]}}"), "ignoredResources: got 1001 items"),
    "too many profiles": ("profiles: [" + ",".join(f"{{schedulerName: p{i}}}" for i in range(MAX_PROFILES + 1)) + "]", "profiles: got a list of 101"),
}  # fmt: skip


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_cannot_be_served_is_named_with_its_place(sentence: str) -> None:
    text, want = REFUSED[sentence]
    with pytest.raises(ConfigError) as error:
        reading(text)
    (line, *_) = [line.strip() for line in str(error.value).splitlines() if want in line] or [f"{error.value}"]
    assert want in line
    assert re.fullmatch(r"\S+: got .+, expected .+; .+", line), line


def test_another_form_or_version_is_no_such_file() -> None:
    for tree in (
        {},
        {"apiVersion": "kubescheduler.config.k8s.io/v1beta3", "kind": KIND, "profiles": [{"schedulerName": "p"}]},
    ):
        with pytest.raises(ConfigError, match=r"apiVersion: got .*, expected .*kubescheduler.config.k8s.io/v1"):
            read(tree, "ks.yaml")


def test_everything_is_named_in_one_error() -> None:
    text = "parallelism: 4\nextenders: [{}]\nprofiles: [{schedulerName: p, plugins: {score: {enabled: [{name: Foo}]}, filter: "
    text += "{disabled: [{name: '*'}]}}, pluginConfig: [{name: Carbon, args: {policy: x}}]}, {}]"
    with pytest.raises(ConfigError) as error:
        reading(text)
    said = str(error.value)
    assert re.match(r"ks.yaml: \d+ fields cannot be served:\n", said)
    for part in (
        "parallelism:",
        "extenders:",
        "[0].plugins.score.enabled[0].name:",
        "NodePorts in preFilter alone",
        "args.policy:",
        "[1].schedulerName:",
    ):
        assert part in said


def written(folder: Path, text: str, name: str = "ks.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_the_configuration_takes_profiles_and_settings_and_its_own_keys_win(tmp_path: Path) -> None:
    lease = "leaderElection: {leaseDuration: 30s, renewDeadline: 20s}\npodMaxBackoffSeconds: 20\n"
    file = written(tmp_path, HEAD + lease + "profiles: [{schedulerName: a}, {schedulerName: b}]")
    ours = written(tmp_path, f"kube_scheduler_config: {file}\nleader_election: {{lease_duration_s: 60}}\n", "ours.yaml")
    found = load(ours, {"CARBON_SCHEDULER_BACKOFF_MAX_S": "40"}, {})
    assert found.scheduler_names == ("a", "b")
    assert [profile.scheduler_name for profile in found.settings(None).profiles] == ["a", "b"]
    assert (found.leader_election.lease_duration_s, found.leader_election.renew_deadline_s) == (60.0, 20.0)
    assert found.backoff.max_s == 40.0
    for environ, flags in (
        ({"CARBON_SCHEDULER_KUBE_SCHEDULER_CONFIG": str(file)}, {}),
        ({}, {("kube_scheduler_config",): str(file)}),
    ):
        assert load(None, environ, flags).scheduler_names == ("a", "b")
    assert profiles_of(file) == found.profiles


def test_without_such_a_file_there_is_the_default_profile() -> None:
    assert Config().scheduler_names == ("carbon-aware-scheduler",)
    assert load(None, {}, {("scheduler_name",): "x"}).settings(None).profiles == (Profile("x"),)


CONFLICTS: dict[str, tuple[str, str]] = {
    "a name beside the file": ("kube_scheduler_config: {ks}\nscheduler_name: x\n", "remove scheduler_name"),
    "kube-scheduler's file in place of ours": (HEAD + "profiles: []\n", "--kube-scheduler-config"),
    "profiles in ours": ("profiles: [{scheduler_name: x}]\n", "kube_scheduler_config"),
    "a file that is not there": ("kube_scheduler_config: /does/not/exist\n", "cannot be read"),
    "a lease that comes out wrong": ("kube_scheduler_config: {ks}\nleader_election: {{retry_period_s: 16}}\n", "two schedulers could lead"),
}  # fmt: skip


@pytest.mark.parametrize("sentence", CONFLICTS)
def test_conflicts(sentence: str, tmp_path: Path) -> None:
    text, want = CONFLICTS[sentence]
    file = written(tmp_path, HEAD + "profiles: [{schedulerName: a}]")
    ours = written(tmp_path, text.format(ks=file) if "{ks}" in text else text, "ours.yaml")
    with pytest.raises(ConfigError, match=re.escape(want)):
        load(ours, {}, {})


def test_the_examples_of_the_how_to_are_what_it_says() -> None:
    page = (Path(__file__).parents[1] / "docs/how-to/profiles.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    batch = read(yaml.safe_load(example), "profiles.yaml").profiles[1]
    assert (batch.fit.strategy, batch.plugins["score"].enabled) == ("MostAllocated", (("NodeResourcesFit", 5),))
    (refused,) = re.findall(r"```text\nError: (.*?)\n```", page, re.DOTALL)
    text = "parallelism: 32\nprofiles: [{schedulerName: p, plugins: {score: {enabled: [{name: MyPlugin}]}}}]"
    with pytest.raises(ConfigError) as error:
        read(yaml.safe_load(HEAD + text), "profiles.yaml")
    assert str(error.value) == refused
