"""A real control plane on loopback: etcd and kube-apiserver, and more of Kubernetes on request.

    with ControlPlane() as plane:
        subprocess.run(["kubectl", "--kubeconfig", plane.kubeconfig, "get", "namespaces"])

For integration tests and `carbon-scheduler demo --real`. Ready after 2 to 3 s, about 0.5 GiB. The binaries come from
`hack/control-plane/build.sh`, or from any folder in `KUBEBUILDER_ASSETS` (the convention of Kubernetes' test tools).
Needs no root and leaves nothing behind: the processes die with this one, the folder is removed on exit.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from carbon_scheduler.errors import ApiStatusError, ApiUnreachable, ClusterError, ConfigError
from carbon_scheduler.sim import control_plane_flags as flags
from carbon_scheduler.sim import loopback
from carbon_scheduler.sim.child import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from carbon_scheduler.sim.control_plane_flags import Admission

_CHECKOUT: Final = Path(__file__).resolve().parents[3]
_START_LIMIT_S: Final = 60.0
_PORT_TRIES: Final = 3
_TAKEN: Final = "address already in use"


class ControlPlaneMissing(ConfigError):
    """A binary was not found."""


class ControlPlaneFailed(ClusterError):
    """A component did not come up. The message ends in the last lines of its log."""


def find_binaries(names: Sequence[str], folder: Path | None = None) -> dict[str, Path]:
    """The path of each program, from the first place that has it: `folder`, `$KUBEBUILDER_ASSETS`, this checkout's cache.

    Raises ControlPlaneMissing with the places searched and the command that builds them.
    """
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    places = [folder, Path(assets) if assets else None, _CHECKOUT / ".cache/control-plane/bin"]
    searched = [place for place in places if place]
    found = {
        name: next((place / name for place in searched if os.access(place / name, os.X_OK)), None) for name in names
    }
    if missing := [name for name, path in found.items() if path is None]:
        raise ControlPlaneMissing(
            f"control plane: no executable {', '.join(missing)} in {' or '.join(map(str, searched))}; "
            "build them with `make control-plane` (Go 1.26 or newer, about 6 minutes) in a checkout of the project, "
            "or name a folder that has them in KUBEBUILDER_ASSETS"
        )
    return {name: path for name, path in found.items() if path}


class ControlPlane:
    """etcd + kube-apiserver with RBAC, and optionally controller-manager, scheduler and kwok. A context manager.

    `admission` "light" switches off the two plugins that need controllers to work: ServiceAccount (wants a `default`
    account in each namespace) and TaintNodesByCondition (new nodes get a taint that only a controller removes).
    "upstream" leaves the defaults; use it together with `controller_manager` (and `kwok` to make nodes Ready).
    `users` are further users by name with their groups; their tokens are in `tokens`. RBAC applies to them.
    `extra_args` are appended to a component's command line, by its program's name. `kwok_stages` is a file of kwok's Stages
    that replaces our own `kwok-stages.yaml`.

    Raises ControlPlaneMissing, or ControlPlaneFailed when a component is not ready within a minute.
    """

    def __init__(
        self,
        *,
        binaries: Path | None = None,
        admission: Admission = "light",
        controller_manager: bool = False,
        scheduler: bool = False,
        kwok: bool = False,
        kwok_stages: Path | None = None,
        users: Mapping[str, Sequence[str]] | None = None,
        extra_args: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._more = [
            name
            for name, wanted in {
                "kube-controller-manager": controller_manager,
                "kube-scheduler": scheduler,
                "kwok": kwok,
            }.items()
            if wanted
        ]
        self._binaries = find_binaries(["etcd", "kube-apiserver", *self._more], binaries)
        self._admission = admission
        self._kwok_stages = kwok_stages
        self._extra_args = extra_args or {}
        self._users = {"admin": ("system:masters",), **(users or {})}
        self.tokens = {name: secrets.token_hex(24) for name in self._users}
        """User name -> bearer token; `admin` may do everything."""
        self._children: dict[str, Child] = {}
        self.ports: dict[str, int] = {}
        """Program name -> where a component that was asked for serves health and metrics, on 127.0.0.1."""
        self._folder: Path | None = None
        self._etcd_port = self._port = 0

    # Where it is. Valid between start() and stop().

    @property
    def folder(self) -> Path:
        """Certificates, kubeconfigs and one log per component; removed on stop."""
        if self._folder is None:
            raise ControlPlaneFailed("control plane: not started; call start() or use it in a `with` statement")
        return self._folder

    @property
    def server_url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    @property
    def etcd_url(self) -> str:
        """etcd's own address, e.g. to compact its history so that older watches and lists get 410."""
        return f"http://127.0.0.1:{self._etcd_port}"

    @property
    def admin_token(self) -> str:
        return self.tokens["admin"]

    @property
    def ca_file(self) -> Path:
        """PEM that verifies `server_url`."""
        return flags.ca_file(self.folder)

    @property
    def kubeconfig(self) -> Path:
        """The admin's."""
        return self.kubeconfig_for(self.admin_token)

    def kubeconfig_for(self, token: str, namespace: str = "default") -> Path:
        """A kubeconfig file (mode 0600) of that bearer token; the same path for the same token."""
        path = self.folder / f"kubeconfig-{hashlib.sha256(token.encode()).hexdigest()[:12]}"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "local", "cluster": {"server": self.server_url, "certificate-authority": str(self.ca_file)}}
            ],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [
                {"name": "local", "context": {"cluster": "local", "user": "user", "namespace": namespace}},
            ],
            "current-context": "local",
        }
        _write_private(path, json.dumps(content, indent=1))  # JSON is YAML
        return path

    def service_account_kubeconfig(self, namespace: str, name: str, *, expiration_s: int = 3600) -> Path:
        """A kubeconfig of that existing ServiceAccount, with a token of the TokenRequest API: RBAC applies as in a pod."""
        answer = self.request(
            "POST",
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"expirationSeconds": expiration_s},
            },
        )
        return self.kubeconfig_for(answer["status"]["token"], namespace)

    # Start and stop.

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Self:
        """Blocks until everything asked for is ready."""
        self._folder = Path(tempfile.mkdtemp(prefix="carbon-control-plane-"))
        try:
            (self._folder / "certs").mkdir()
            lines = [f'{self.tokens[user]},{user},{user},"{",".join(groups)}"' for user, groups in self._users.items()]
            _write_private(self._folder / "tokens.csv", "\n".join(lines) + "\n")
            self._on_free_port(self._start_etcd)
            self._on_free_port(self._start_first_api_server)
            for name in self._more:
                self._on_free_port(partial(self._start_component, name))
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Ends all processes, the youngest first, and removes the folder. Safe to call twice."""
        for name in reversed(list(self._children)):
            self._children.pop(name).stop()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def stop_api_server(self, *, kill: bool = False) -> None:
        """The API server alone goes away; etcd keeps all objects. `kill`: at once, in the middle of whatever it does."""
        child = self._children.pop("kube-apiserver", None)
        if child:
            child.stop(0 if kill else 10.0)

    def start_api_server(self) -> None:
        """The API server comes back on the same port with the same certificate, keys and objects; returns when ready."""
        if "kube-apiserver" in self._children:
            raise ControlPlaneFailed("control plane: the API server is already running; stop_api_server() first")
        self._start_api_server(self._port)

    @property
    def children(self) -> Mapping[str, Child]:
        """Running components by program name, e.g. to send SIGSTOP to one."""
        return self._children

    # Asking it.

    def request(self, method: str, path: str, body: object = None, *, token: str | None = None) -> dict[str, Any]:
        """One JSON request, as admin unless a token is given. For set-up and checks, not for load: a connection each.

        PATCH sends a merge patch. Raises ApiStatusError for a failure status, ApiUnreachable without an answer.
        """
        status, answer = self._exchange(method, path, body, token or self.admin_token, 30.0)
        if status >= 400:
            try:
                explained = json.loads(answer)
            except ValueError:
                explained = {"message": answer.decode(errors="replace")[:500]}
            raise ApiStatusError(
                f"{method} {path}: {status}: {explained.get('message', '')}",
                code=status,
                reason=explained.get("reason") or "",
            )
        got = json.loads(answer)
        if not isinstance(got, dict):
            raise ApiStatusError(f"{method} {path}: got a {type(got).__name__}, expected an object", code=status)
        return got

    def _exchange(self, method: str, path: str, body: object, token: str, limit_s: float) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json" if method == "PATCH" else "application/json"
        text = json.dumps(body) if body is not None else None
        return loopback.exchange(
            method, self._port, path, body=text, headers=headers, ca_file=self.ca_file, timeout_s=limit_s
        )

    # The components.

    def _on_free_port(self, start: Callable[[int], None]) -> None:
        """Another process may take the port between our choice and the program's bind: then try another one."""
        for attempt in range(_PORT_TRIES):
            try:
                start(loopback.free_port())
            except ControlPlaneFailed as error:
                if _TAKEN not in str(error) or attempt == _PORT_TRIES - 1:
                    raise
            else:
                return

    def _launch(self, name: str, arguments: list[str]) -> Child:
        env = {"HOME": str(self.folder), "PATH": os.environ.get("PATH", os.defpath)}  # no proxy, no user's settings
        argv: list[str | Path] = [self._binaries[name], *arguments, *self._extra_args.get(name, ())]
        child = Child(argv, log=self.folder / f"{name}.log", env=env)
        self._children[name] = child
        return child

    def _start_etcd(self, port: int) -> None:
        self._etcd_port = port
        child = self._launch("etcd", flags.etcd(self.folder, port))
        self._await(child, lambda: loopback.unwell(port, "/health", tls=False), "answers /health")

    def _start_first_api_server(self, port: int) -> None:
        self._port = port
        self._start_api_server(port)

    def _start_api_server(self, port: int) -> None:
        arguments = flags.kube_apiserver(self.folder, port, etcd_port=self._etcd_port, admission=self._admission)
        child = self._launch("kube-apiserver", arguments)
        self._await(child, self._api_server_ready, "answers /readyz with its system namespaces and roles in place")

    def _api_server_ready(self) -> str | None:
        if not self.ca_file.exists():
            return "no certificate yet"
        try:
            status, answer = self._exchange("GET", "/readyz?verbose", None, self.admin_token, 5.0)
            if status == 200:  # the namespaces are made by a loop that /readyz does not wait for
                status, answer = self._exchange("GET", "/api/v1/namespaces/kube-system", None, self.admin_token, 5.0)
        except ApiUnreachable as error:
            return str(error)
        return None if status == 200 else answer.decode(errors="replace")[-1000:]

    def _start_component(self, name: str, port: int) -> None:
        heartbeats = "kwok" in self._more
        arguments = flags.controller(
            name, self.folder, port, kubeconfig=self.kubeconfig, heartbeats=heartbeats, stages=self._kwok_stages
        )
        child = self._launch(name, arguments)
        self._await(child, lambda: loopback.unwell(port, "/healthz", tls=name != "kwok"), "answers /healthz")
        self.ports[name] = port

    def _await(self, child: Child, check: Callable[[], str | None], want: str) -> None:
        """Poll until `check` returns None. Raises ControlPlaneFailed with the log's end when it dies or takes too long."""
        deadline = time.monotonic() + _START_LIMIT_S
        # A server that answers may be somebody else's on the port that ours did not get: ours must be running, too.
        while (reason := check()) is not None or child.exit_code is not None:
            code = child.exit_code
            if code is None and time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            self._children.pop(child.name, None)
            child.stop(0)
            what = f"ended with code {code}" if code is not None else f"was not ready after {_START_LIMIT_S:.0f} s"
            raise ControlPlaneFailed(
                f"control plane: {child.name} {what}; expected: it {want}; last answer: {reason}\n{child.tail()}"
            )


def _write_private(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(text)
