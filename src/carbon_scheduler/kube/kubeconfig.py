"""Reads kubeconfig files by kubectl's rules (client-go tools/clientcmd). Why it is our own: docs/decisions/0002."""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeVar
from urllib.parse import urlsplit

import msgspec
import yaml

from carbon_scheduler.errors import ConfigError, did_you_mean
from carbon_scheduler.kube.access import Access, Tls, proxy_from, read_pem
from carbon_scheduler.kube.credentials import (
    EXEC_VERSIONS,
    ClientCertificate,
    Credentials,
    ExecPlugin,
    StaticToken,
    TokenFile,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carbon_scheduler.kube.clock import Clock

MAX_FILE_B = 4 * 1024 * 1024
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Part(msgspec.Struct, rename="kebab"):
    pass


class _Cluster(_Part, rename="kebab"):
    server: str | None = None
    tls_server_name: str | None = None
    insecure_skip_tls_verify: bool | None = None
    certificate_authority: str | None = None
    certificate_authority_data: str | None = None
    proxy_url: str | None = None
    disable_compression: bool | None = None
    extensions: list[dict[str, object]] | None = None


class _EnvVar(msgspec.Struct):
    name: str
    value: str | None = None


class _Exec(msgspec.Struct, rename="camel"):
    command: str | None = None
    args: list[str] | None = None
    env: list[_EnvVar] | None = None
    api_version: str | None = None
    interactive_mode: str | None = None
    provide_cluster_info: bool | None = None
    install_hint: str | None = None


class _User(_Part, rename="kebab"):
    client_certificate: str | None = None
    client_certificate_data: str | None = None
    client_key: str | None = None
    client_key_data: str | None = None
    token: str | None = None
    token_file: str | None = msgspec.field(default=None, name="tokenFile")
    username: str | None = None
    password: str | None = None
    as_user: str | None = msgspec.field(default=None, name="as")
    as_uid: str | None = None
    as_groups: list[str] | None = None
    as_user_extra: dict[str, list[str]] | None = None
    exec: _Exec | None = None
    auth_provider: dict[str, object] | None = None


class _Context(_Part, rename="kebab"):
    cluster: str | None = None
    user: str | None = None
    namespace: str | None = None


class _NamedCluster(msgspec.Struct):
    name: str
    cluster: _Cluster | None = None


class _NamedUser(msgspec.Struct):
    name: str
    user: _User | None = None


class _NamedContext(msgspec.Struct):
    name: str
    context: _Context | None = None


class _File(_Part, rename="kebab"):
    kind: str | None = None
    current_context: str | None = None
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None
    contexts: list[_NamedContext] | None = None


class _Named(Protocol):
    name: str


N = TypeVar("N", bound=_Named)


class _Merged:
    """Several files as one: the first file that names something wins it whole, the first with a current-context sets it."""

    def __init__(self) -> None:
        self.current = ""
        self.clusters: dict[str, tuple[_NamedCluster, Path]] = {}
        self.users: dict[str, tuple[_NamedUser, Path]] = {}
        self.contexts: dict[str, tuple[_NamedContext, Path]] = {}

    def add(self, file: _File, path: Path) -> None:
        self.current = self.current or file.current_context or ""
        _take(self.clusters, file.clusters, path, "cluster")
        _take(self.users, file.users, path, "user")
        _take(self.contexts, file.contexts, path, "context")


def _take(into: dict[str, tuple[N, Path]], found: Sequence[N] | None, path: Path, kind: str) -> None:
    here: set[str] = set()
    for item in found or ():
        if item.name in here:
            raise ConfigError(f"{path}: {kind} {item.name!r} is there twice; remove one")
        here.add(item.name)
        into.setdefault(item.name, (item, path))


def load(
    paths: Sequence[Path],
    environ: Mapping[str, str],
    clock: Clock,
    *,
    context: str | None = None,
    explicit: bool = False,
) -> Access:
    """The access that a kubeconfig describes. `explicit`: the one file must exist; of a list, missing files are skipped.

    Raises ConfigError naming the file and the entry. No secret and no line of a file is in its text.
    """
    merged = _Merged()
    read = 0
    for path in paths:
        if explicit or path.exists():
            merged.add(_read(path), path)
            read += 1
    listed = os.pathsep.join(str(path) for path in paths)
    if not read:
        raise ConfigError(f"KUBECONFIG: none of {listed} exists; correct or unset it")
    name = context or merged.current
    if not name:
        raise ConfigError(
            f"{listed}: no current-context; choose one with `kubectl config use-context`{_among(merged.contexts)}"
        )
    entry = _get(merged.contexts, name, "context", listed)[0].context or _Context()
    where = f"{listed}: context {name!r}"
    cluster, cluster_file = _get(merged.clusters, entry.cluster or "", "cluster", where)
    if entry.user:
        user, user_file = _get(merged.users, entry.user, "user", where)
        return _assemble(
            cluster, cluster_file, user.user or _User(), user_file, entry.user, entry.namespace, where, environ, clock
        )
    return _assemble(cluster, cluster_file, _User(), cluster_file, "", entry.namespace, where, environ, clock)


def _read(path: Path) -> _File:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_FILE_B + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; correct the path of the kubeconfig") from error
    if len(content) > MAX_FILE_B:
        raise ConfigError(f"{path}: more than {MAX_FILE_B} bytes, expected a kubeconfig")
    try:
        tree = yaml.load(content, Loader=_Loader)  # one of the two safe loaders
        return msgspec.convert(tree if tree is not None else {}, _File)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        # Not chained: the error's own text quotes the line, which may hold a token.
        raise ConfigError(f"{path}: not YAML{at}; correct it") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        if isinstance(error, msgspec.ValidationError):
            raise ConfigError(f"{path}: {error}; correct it") from error
        raise ConfigError(f"{path}: not a kubeconfig; correct it") from None


def _get(found: Mapping[str, tuple[N, Path]], name: str, kind: str, where: str) -> tuple[N, Path]:
    if name not in found:
        raise ConfigError(f"{where}: {kind} {name!r} does not exist.{did_you_mean(name, found)}{_among(found)}")
    return found[name]


def _among(names: Mapping[str, object]) -> str:
    return f" (there are: {', '.join(sorted(names)[:10])})" if names else " (there are none)"


def _assemble(
    named: _NamedCluster,
    cluster_file: Path,
    user: _User,
    user_file: Path,
    user_name: str,
    namespace: str | None,
    where: str,
    environ: Mapping[str, str],
    clock: Clock,
) -> Access:
    cluster = named.cluster or _Cluster()
    who = f"{user_file}: user {user_name!r}"
    what = f"{cluster_file}: cluster {named.name!r}"
    server = _server(cluster.server, what)
    certificate = _certificate(user, user_file, who)
    tls = None
    if server.startswith("https:"):
        ca = _ca(cluster, cluster_file, what)
        tls = Tls(
            ca=ca,
            certificate=certificate,
            insecure=bool(cluster.insecure_skip_tls_verify),
            server_name=cluster.tls_server_name or None,
            where=where,
            clock=clock,
        )
        tls.context()  # a wrong certificate is said now, not at the first request
    return Access(
        server=server,
        credentials=_credentials(user, user_file, who, certificate is not None, cluster, cluster_file, environ, clock),
        tls=tls,
        proxy=_proxy(cluster.proxy_url, what) or proxy_from(environ, server),
        namespace=namespace or "default",
        origin=where,
        impersonate=_impersonate(user),
        compress=not cluster.disable_compression,
    )


def _server(server: str | None, what: str) -> str:
    parts = urlsplit(server or "")
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ConfigError(f"{what}: server: expected an address such as https://10.0.0.1:6443; correct it")
    return parts.geturl().rstrip("/")


def _ca(cluster: _Cluster, file: Path, what: str) -> Path | bytes | None:
    if cluster.insecure_skip_tls_verify:
        if cluster.certificate_authority or cluster.certificate_authority_data:
            raise ConfigError(
                f"{what}: insecure-skip-tls-verify and a certificate-authority exclude each other; remove one"
            )
        return None
    if cluster.certificate_authority_data:
        return _decode(cluster.certificate_authority_data, what, "certificate-authority-data")
    if cluster.certificate_authority:
        return _beside(file, cluster.certificate_authority)
    return None


def _certificate(user: _User, file: Path, who: str) -> ClientCertificate | tuple[Path, Path] | None:
    has_chain = user.client_certificate or user.client_certificate_data
    has_key = user.client_key or user.client_key_data
    if not has_chain and not has_key:
        return None
    if not has_chain or not has_key:
        raise ConfigError(f"{who}: a client certificate needs client-certificate and client-key (or both with -data)")
    if not user.client_certificate_data and not user.client_key_data:
        assert user.client_certificate
        assert user.client_key
        return _beside(file, user.client_certificate), _beside(file, user.client_key)
    return ClientCertificate(
        _pem(user.client_certificate_data, user.client_certificate, file, who, "client-certificate-data"),
        _pem(user.client_key_data, user.client_key, file, who, "client-key-data"),
    )


def _pem(text: str | None, path: str | None, file: Path, who: str, field: str) -> bytes:
    if text:
        return _decode(text, who, field)
    return read_pem(_beside(file, path or ""), who)


def _credentials(
    user: _User,
    file: Path,
    who: str,
    certified: bool,
    cluster: _Cluster,
    cluster_file: Path,
    environ: Mapping[str, str],
    clock: Clock,
) -> Credentials:
    if user.username or user.password:
        raise ConfigError(
            f"{who}: username and password: Kubernetes has no basic authentication since 1.19; use a token, a client "
            "certificate or an exec plugin"
        )
    if user.auth_provider:
        raise ConfigError(
            f"{who}: auth-provider: removed from Kubernetes in 1.26; use your provider's exec plugin "
            "(for example gke-gcloud-auth-plugin or kubelogin)"
        )
    if user.token_file:
        return TokenFile(_beside(file, user.token_file), clock, fallback=user.token or None)
    if user.token:
        _check_header(user.token, who)
        return StaticToken(user.token)
    if user.exec is not None and not certified:
        return _plugin(user.exec, file, who, cluster, cluster_file, environ, clock)
    return StaticToken()


def _check_header(token: str, who: str) -> None:
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(f"{who}: token: it holds spaces or characters that no header can carry; correct it")


def _plugin(
    spec: _Exec,
    file: Path,
    who: str,
    cluster: _Cluster,
    cluster_file: Path,
    environ: Mapping[str, str],
    clock: Clock,
) -> ExecPlugin:
    version = spec.api_version or ""
    if version not in EXEC_VERSIONS:
        raise ConfigError(f"{who}: exec.apiVersion: got {version!r}, expected {' or '.join(EXEC_VERSIONS)}")
    if not spec.command:
        raise ConfigError(f"{who}: exec.command: it is missing; name the plugin's program")
    mode = spec.interactive_mode or ("IfAvailable" if version.endswith("v1beta1") else "")
    if mode == "Always":
        raise ConfigError(
            f"{who}: exec.interactiveMode: Always, but a scheduler has no terminal; use a plugin without one"
        )
    if mode not in ("Never", "IfAvailable"):
        raise ConfigError(f"{who}: exec.interactiveMode: got {mode!r}, expected Never or IfAvailable")
    command = spec.command
    if os.sep in command:
        command = str(_beside(file, command))
    told = _cluster_info(cluster, cluster_file) if spec.provide_cluster_info else None
    return ExecPlugin(
        command,
        tuple(spec.args or ()),
        {var.name: var.value or "" for var in spec.env or ()},
        version,
        told,
        spec.install_hint or "",
        environ,
        clock,
    )


def _cluster_info(cluster: _Cluster, file: Path) -> dict[str, object]:
    told: dict[str, object] = {"server": cluster.server}
    if cluster.tls_server_name:
        told["tls-server-name"] = cluster.tls_server_name
    if cluster.insecure_skip_tls_verify:
        told["insecure-skip-tls-verify"] = True
    if cluster.proxy_url:
        told["proxy-url"] = cluster.proxy_url
    if cluster.certificate_authority_data:
        told["certificate-authority-data"] = cluster.certificate_authority_data
    elif cluster.certificate_authority:
        pem = read_pem(_beside(file, cluster.certificate_authority), str(file))
        told["certificate-authority-data"] = base64.b64encode(pem).decode()
    for extension in cluster.extensions or ():
        # client-go: the extension of this name is the plugin's own configuration.
        if extension.get("name") == "client.authentication.k8s.io/exec":
            told["config"] = extension.get("extension")
    return told


def _proxy(url: str | None, what: str) -> str | None:
    if not url:
        return None
    if urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError(
            f"{what}: proxy-url: got {urlsplit(url).scheme!r}, expected http or https (SOCKS is not supported)"
        )
    return url


def _impersonate(user: _User) -> tuple[tuple[str, str], ...]:
    headers: list[tuple[str, str]] = []
    if user.as_user:
        headers.append(("Impersonate-User", user.as_user))
    if user.as_uid:
        headers.append(("Impersonate-Uid", user.as_uid))
    headers += [("Impersonate-Group", group) for group in user.as_groups or ()]
    headers += [
        (f"Impersonate-Extra-{key}", value) for key, all_ in (user.as_user_extra or {}).items() for value in all_
    ]
    return tuple(headers)


def _beside(file: Path, path: str) -> Path:
    """Relative paths count from the folder of the file that holds them."""
    return Path(os.path.normpath(file.absolute().parent / path))


def _decode(text: str, where: str, field: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        _not_base64(where, field)


def _not_base64(where: str, field: str) -> NoReturn:
    raise ConfigError(f"{where}: {field}: not base64; expected the PEM file in base64 (one line)") from None
