"""What a kubeconfig file may hold, and several of them as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec
import yaml

from carbon_scheduler.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_FILE_B = 4 * 1024 * 1024
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Part(msgspec.Struct, rename="kebab"):
    pass


class Cluster(Part, rename="kebab"):
    server: str | None = None
    tls_server_name: str | None = None
    insecure_skip_tls_verify: bool | None = None
    certificate_authority: str | None = None
    certificate_authority_data: str | None = None
    proxy_url: str | None = None
    disable_compression: bool | None = None
    extensions: list[dict[str, object]] | None = None


class EnvVar(msgspec.Struct):
    name: str
    value: str | None = None


class Exec(msgspec.Struct, rename="camel"):
    command: str | None = None
    args: list[str] | None = None
    env: list[EnvVar] | None = None
    api_version: str | None = None
    interactive_mode: str | None = None
    provide_cluster_info: bool | None = None
    install_hint: str | None = None


class User(Part, rename="kebab"):
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
    exec: Exec | None = None
    auth_provider: dict[str, object] | None = None


class Context(Part, rename="kebab"):
    cluster: str | None = None
    user: str | None = None
    namespace: str | None = None


class NamedCluster(msgspec.Struct):
    name: str
    cluster: Cluster | None = None


class NamedUser(msgspec.Struct):
    name: str
    user: User | None = None


class NamedContext(msgspec.Struct):
    name: str
    context: Context | None = None


class File(Part, rename="kebab"):
    kind: str | None = None
    current_context: str | None = None
    clusters: list[NamedCluster] | None = None
    users: list[NamedUser] | None = None
    contexts: list[NamedContext] | None = None


class Named(Protocol):
    name: str


N = TypeVar("N", bound=Named)


class Merged:
    """Several files as one: the first file that names something wins it whole, the first with a current-context sets it."""

    def __init__(self) -> None:
        self.current = ""
        self.clusters: dict[str, tuple[NamedCluster, Path]] = {}
        self.users: dict[str, tuple[NamedUser, Path]] = {}
        self.contexts: dict[str, tuple[NamedContext, Path]] = {}

    def add(self, file: File, path: Path) -> None:
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


def read(path: Path) -> File:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_FILE_B + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; correct the path of the kubeconfig") from error
    if len(content) > MAX_FILE_B:
        raise ConfigError(f"{path}: more than {MAX_FILE_B} bytes, expected a kubeconfig")
    try:
        tree = yaml.load(content, Loader=_Loader)  # one of the two safe loaders
        return msgspec.convert(tree if tree is not None else {}, File)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        # Not chained: the error's own text quotes the line, which may hold a token.
        raise ConfigError(f"{path}: not YAML{at}; correct it") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        if isinstance(error, msgspec.ValidationError):
            raise ConfigError(f"{path}: {error}; correct it") from error
        raise ConfigError(f"{path}: not a kubeconfig; correct it") from None
