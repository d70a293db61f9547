"""deploy/k8s.yaml: what it may do, what it sets, and that a real API server and its schemas accept it."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml

from carbon_scheduler.errors import ApiStatusError
from carbon_scheduler.kube.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carbon_scheduler.sim.control_plane import ControlPlane

JSON = dict[str, Any]
CHECKOUT = Path(__file__).parents[2]
MANIFEST = CHECKOUT / "deploy/k8s.yaml"
NAME = "carbon-aware-scheduler"


def _objects() -> dict[str, JSON]:
    """Kind -> object. There is one of each."""
    found = [one for one in yaml.safe_load_all(MANIFEST.read_text()) if one]
    by_kind = {one["kind"]: one for one in found}
    assert len(by_kind) == len(found)
    return by_kind


def _pod_template() -> JSON:
    template: JSON = _objects()["Deployment"]["spec"]["template"]
    return template


def _rights(role: JSON) -> set[tuple[str, str, str, str]]:
    """(group, resource, verb, name or "")"""
    return {
        right
        for rule in role["rules"]
        for right in product(rule["apiGroups"], rule["resources"], rule["verbs"], rule.get("resourceNames", [""]))
    }


def test_rights_are_the_least_that_do_the_work() -> None:
    """Each line was argued for. A new right is a decision: add it here only with the part that needs it."""
    objects = _objects()
    want_cluster = {
        *product([""], ["pods", "nodes", "namespaces"], ["get", "list", "watch"], [""]),
        ("", "pods/binding", "create", ""),
        ("", "pods/status", "patch", ""),
        ("events.k8s.io", "events", "create", ""),
        ("events.k8s.io", "events", "patch", ""),
        # spreading by default
        *product([""], ["services", "replicationcontrollers"], ["list", "watch"], [""]),
        *product(["apps"], ["replicasets", "statefulsets"], ["list", "watch"], [""]),
        # volumes
        *product([""], ["persistentvolumes", "persistentvolumeclaims"], ["get", "list", "watch", "patch"], [""]),
        *product(
            ["storage.k8s.io"],
            ["storageclasses", "csinodes", "csidrivers", "csistoragecapacities", "volumeattachments"],
            ["list", "watch"],
            [""],
        ),
        # preemption
        *product(["policy"], ["poddisruptionbudgets"], ["list", "watch"], [""]),
        ("", "pods", "delete", ""),
    }
    want_own_namespace = {
        ("coordination.k8s.io", "leases", "create", ""),
        ("coordination.k8s.io", "leases", "get", NAME),
        ("coordination.k8s.io", "leases", "update", NAME),
    }
    assert _rights(objects["ClusterRole"]) == want_cluster
    assert _rights(objects["Role"]) == want_own_namespace
    assert objects["Role"]["metadata"]["namespace"] == "kube-system"


def test_all_that_is_followed_may_be_read() -> None:
    rights = _rights(_objects()["ClusterRole"])
    for kind in KINDS:
        *_, group, _, resource = ("", *kind.path.strip("/").split("/"))
        group = "" if kind.path.startswith("/api/") else group
        assert {(group, resource, "list", ""), (group, resource, "watch", "")} <= rights, kind.name


@pytest.mark.parametrize("kind", ["ClusterRoleBinding", "RoleBinding"])
def test_the_rights_go_to_our_account_alone(kind: str) -> None:
    binding = _objects()[kind]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": NAME, "namespace": "kube-system"}]
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == (kind.removesuffix("Binding"), NAME)


def test_it_is_what_the_quick_start_describes() -> None:
    objects = _objects()
    assert set(objects) == {
        "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Secret", "Deployment"
    }  # fmt: skip
    assert objects["Secret"]["data"] == {"api-key": ""}  # "no key": it can be applied unedited
    deployment = objects["Deployment"]
    assert deployment["metadata"] | {"labels": {}} == {"name": NAME, "namespace": "kube-system", "labels": {}}
    assert deployment["spec"]["replicas"] == 1
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["imagePullPolicy"]) == ("carbon-scheduler", "IfNotPresent")
    environment = {variable["name"]: variable for variable in container["env"]}
    reference = environment["ELECTRICITY_MAPS_API_KEY"]["valueFrom"]["secretKeyRef"]
    assert (reference["name"], reference["key"]) == (objects["Secret"]["metadata"]["name"], "api-key")
    assert environment["DEFAULT_CARBON_ZONE"]["value"] == "US-NY-NYIS"


def test_selectors_and_ports_fit_together() -> None:
    deployment, template = _objects()["Deployment"], _pod_template()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    [container] = template["spec"]["containers"]
    names = {port["name"] for port in container["ports"]}
    for probe, path in {"livenessProbe": "/livez", "readinessProbe": "/readyz"}.items():
        assert container[probe]["httpGet"]["path"] == path
        assert container[probe]["httpGet"]["port"] in names


def test_the_secret_can_be_left_out_by_the_selector_that_the_comment_names() -> None:
    [selector] = set(re.findall(r"-l (\S+)!=(\S+)", MANIFEST.read_text()))
    assert [kind for kind, one in _objects().items() if one["metadata"]["labels"].get(selector[0]) == selector[1]] == [
        "Secret"
    ]


# Schemas, offline.


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The strict schemas of Kubernetes 1.36 as kubeconform reads them.

    kubernetes-validate ships them for a reader of its own: with an `$id` on the web and references relative to it, which
    kubeconform would try to fetch. Here they refer to the file beside them.
    """
    package = Path(kubernetes_validate.__file__).parent
    source = package / "kubernetes-json-schema/v1.36.0-local-strict"
    target = tmp_path_factory.mktemp("schemas")
    kinds = [f"{one['kind']}-{_group_version(one)}".lower() for one in _objects().values()]
    for name in ["_definitions", *kinds]:
        schema = json.loads(
            (source / f"{name}.json").read_text().replace("/api/_definitions.json#", "_definitions.json#")
        )
        del schema["$id"]
        (target / f"{name}.json").write_text(json.dumps(schema))
    return target


def _group_version(one: JSON) -> str:
    group, _, version = one["apiVersion"].rpartition("/")
    return f"{group.partition('.')[0]}-{version}" if group else version


MISTAKES = {
    "": ("a", "a", None),
    "a misspelled key": ("replicas: 1", "replica: 1", "additional properties 'replica' not allowed"),
    "a value of the wrong type": ("replicas: 1", "replicas: one", "got string, want null or integer"),
    "a missing part": ("- kind: ServiceAccount\n", "- kind_: x\n", "additional properties 'kind_'"),
}


@pytest.mark.parametrize(("good", "bad", "want"), MISTAKES.values(), ids=[name or "as it is" for name in MISTAKES])
def test_kubeconform_accepts_it_and_only_it(
    schemas: Path, control_plane_binary: Callable[[str], Path], good: str, bad: str, want: str | None
) -> None:
    result = subprocess.run(
        [
            control_plane_binary("kubeconform"), "-strict", "-summary", "-kubernetes-version", "1.36.0",
            "-schema-location", f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
        ],
        input=MANIFEST.read_text().replace(good, bad), capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = result.stdout + result.stderr
    if want is None:
        assert result.returncode == 0, said
        assert f"Valid: {len(_objects())}, Invalid: 0, Errors: 0, Skipped: 0" in said
    else:
        assert result.returncode == 1, said
        assert want in said


# A real API server.


@pytest.fixture
def kubectl(control_plane: ControlPlane, control_plane_binary: Callable[[str], Path]) -> Callable[..., str]:
    """Runs kubectl as the admin; its output. Fails with what it said on stderr."""

    def run(*args: str, stdin: str | None = None, kubeconfig: Path | None = None) -> str:
        result = subprocess.run(
            [control_plane_binary("kubectl"), "--kubeconfig", kubeconfig or control_plane.kubeconfig, *args],
            input=stdin, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert result.returncode == 0, f"kubectl {' '.join(args)}: {result.stderr}"
        return result.stdout

    return run


@pytest.mark.control_plane
def test_a_real_api_server_accepts_it_without_a_warning(kubectl: Callable[..., str]) -> None:
    said = kubectl("apply", "--dry-run=server", "--warnings-as-errors", "--validate=strict", "-f", str(MANIFEST))
    assert said.count("(server dry run)") == len(_objects())


MAY = [
    ("list", "", "pods", "", ""),
    ("watch", "", "nodes", "", ""),
    ("get", "", "namespaces", "", ""),
    ("create", "", "pods/binding", "team-a", ""),
    ("patch", "", "pods/status", "team-a", ""),
    ("delete", "", "pods", "team-a", ""),
    ("patch", "", "persistentvolumeclaims", "team-a", ""),
    ("patch", "", "persistentvolumes", "", ""),
    ("watch", "storage.k8s.io", "csistoragecapacities", "", ""),
    ("list", "policy", "poddisruptionbudgets", "", ""),
    ("watch", "apps", "statefulsets", "", ""),
    ("create", "events.k8s.io", "events", "team-a", ""),
    ("create", "coordination.k8s.io", "leases", "kube-system", ""),
    ("update", "coordination.k8s.io", "leases", "kube-system", NAME),
]
MAY_NOT = [
    ("patch", "", "pods", "team-a", ""),
    ("update", "", "pods", "team-a", ""),
    ("deletecollection", "", "pods", "team-a", ""),
    ("create", "", "pods/eviction", "team-a", ""),
    ("create", "", "pods", "team-a", ""),
    ("update", "", "persistentvolumeclaims", "team-a", ""),
    ("delete", "", "persistentvolumeclaims", "team-a", ""),
    ("patch", "", "persistentvolumes/status", "", ""),
    ("create", "", "persistentvolumes", "", ""),
    ("patch", "storage.k8s.io", "storageclasses", "", ""),
    ("patch", "policy", "poddisruptionbudgets", "team-a", ""),
    ("patch", "apps", "replicasets", "team-a", ""),
    ("patch", "", "services", "team-a", ""),
    ("update", "", "pods/status", "team-a", ""),
    ("patch", "", "nodes", "", ""),
    ("patch", "", "nodes/status", "", ""),
    ("get", "", "secrets", "kube-system", NAME),
    ("list", "", "secrets", "", ""),
    ("create", "", "serviceaccounts/token", "kube-system", NAME),
    ("update", "coordination.k8s.io", "leases", "kube-system", "kube-scheduler"),
    ("update", "coordination.k8s.io", "leases", "team-a", NAME),
    ("create", "coordination.k8s.io", "leases", "team-a", ""),
    ("delete", "coordination.k8s.io", "leases", "kube-system", NAME),
    ("create", "", "events", "team-a", ""),
    ("impersonate", "", "users", "", "admin"),
]


@pytest.mark.control_plane
@pytest.mark.parametrize(
    ("right", "want"),
    [*((right, True) for right in MAY), *((right, False) for right in MAY_NOT)],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_the_service_account_may_do(
    control_plane: ControlPlane, deployed: Path, right: tuple[str, ...], want: bool
) -> None:
    """Asked of the API server's own authoriser, under the account's own token."""
    verb, group, resource, namespace, name = right
    resource, _, subresource = resource.partition("/")
    attributes = {
        "verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": namespace, "name": name
    }  # fmt: skip
    token = yaml.safe_load(deployed.read_text())["users"][0]["user"]["token"]
    review = control_plane.request(
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        },
        token=token,
    )
    assert review["status"]["allowed"] is want


@pytest.fixture(scope="module")
def deployed(control_plane: ControlPlane, control_plane_binary: Callable[[str], Path]) -> Iterator[Path]:
    """The manifest applied for real; a kubeconfig of its ServiceAccount. No controller runs, so no pod starts."""
    kubectl = [control_plane_binary("kubectl"), "--kubeconfig", control_plane.kubeconfig]
    subprocess.run([*kubectl, "apply", "-f", MANIFEST], check=True, capture_output=True, timeout=60)
    yield control_plane.service_account_kubeconfig("kube-system", NAME)
    subprocess.run([*kubectl, "delete", "--wait=false", "-f", MANIFEST], check=True, capture_output=True, timeout=60)


@pytest.fixture
def restricted_namespace(control_plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[str]:
    """A throw-away namespace with the strictest Pod Security level. kube-system itself is never labelled."""
    name = f"restricted-{abs(hash(request.node.name))}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    control_plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    yield name
    control_plane.request("DELETE", f"/api/v1/namespaces/{name}")


LOOSENED: dict[str, Callable[[JSON], object]] = {
    "root": lambda pod: pod["spec"]["securityContext"].update(runAsUser=0, runAsNonRoot=False),
    "no seccomp profile": lambda pod: pod["spec"]["securityContext"].pop("seccompProfile"),
    "capabilities kept": lambda pod: pod["spec"]["containers"][0]["securityContext"].pop("capabilities"),
    "privilege escalation": lambda pod: pod["spec"]["containers"][0]["securityContext"].pop("allowPrivilegeEscalation"),
}


def _as_pod(namespace: str) -> JSON:
    template = _pod_template()
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "scheduler", "namespace": namespace, "labels": template["metadata"]["labels"]},
        "spec": copy.deepcopy(template["spec"]),
    }


@pytest.mark.control_plane
def test_its_pod_is_accepted_at_the_restricted_level(control_plane: ControlPlane, restricted_namespace: str) -> None:
    """As a Pod: a Deployment there would only get a warning."""
    pod = _as_pod(restricted_namespace)
    made = control_plane.request("POST", f"/api/v1/namespaces/{restricted_namespace}/pods", pod)
    assert made["spec"]["priority"] == 2_000_000_000  # system-cluster-critical was known
    assert made["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.control_plane
@pytest.mark.parametrize("loosen", LOOSENED.values(), ids=LOOSENED)
def test_each_of_its_restrictions_is_needed(
    control_plane: ControlPlane, restricted_namespace: str, loosen: Callable[[JSON], object]
) -> None:
    pod = _as_pod(restricted_namespace)
    loosen(pod)
    with pytest.raises(ApiStatusError, match="violates PodSecurity"):
        control_plane.request("POST", f"/api/v1/namespaces/{restricted_namespace}/pods", pod)
