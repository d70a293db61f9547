"""Turns kubeconfig files into an access by kubectl's rules (client-go tools/clientcmd). Why our own: docs/decisions/0002."""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from carbon_scheduler.errors import ConfigError, did_you_mean
from carbon_scheduler.kube.credentials import (
    EXEC_VERSIONS,
    ClientCertificate,
    Credentials,
    ExecPlugin,
    StaticToken,
    TokenFile,
)
from carbon_scheduler.kube.endpoint import Access, Tls, proxy_from, read_pem
from carbon_scheduler.kube.kubeconfig_file import Cluster, Context, Exec, Merged, N, User, read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carbon_scheduler.kube.clock import Clock


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
    merged = Merged()
    found = [path for path in paths if explicit or path.exists()]
    for path in found:
        merged.add(read(path), path)
    listed = os.pathsep.join(str(path) for path in paths)
    if not found:
        raise ConfigError(f"KUBECONFIG: none of {listed} exists; correct or unset it")
    name = context or merged.current
    if not name:
        raise ConfigError(
            f"{listed}: no current-context; choose one with `kubectl config use-context`{_among(merged.contexts)}"
        )
    chosen = _get(merged.contexts, name, "context", listed)[0].context or Context()
    where = f"{listed}: context {name!r}"
    named, file = _get(merged.clusters, chosen.cluster or "", "cluster", where)
    cluster = _ClusterPart(named.cluster or Cluster(), file, f"{file}: cluster {named.name!r}")
    user = _UserPart(User(), file, where)
    if chosen.user:
        named_user, file = _get(merged.users, chosen.user, "user", where)
        user = _UserPart(named_user.user or User(), file, f"{file}: user {named_user.name!r}")
    server = cluster.server()
    certificate = user.certificate()
    tls = None
    if server.startswith("https:"):
        tls = Tls(
            ca=cluster.authority(),
            certificate=certificate,
            insecure=bool(cluster.entry.insecure_skip_tls_verify),
            server_name=cluster.entry.tls_server_name or None,
            where=where,
            clock=clock,
        )
        tls.context()  # a wrong certificate is said now, not at the first request
    return Access(
        server=server,
        credentials=user.credentials(cluster, certificate is not None, environ, clock),
        tls=tls,
        proxy=cluster.proxy() or proxy_from(environ, server),
        namespace=chosen.namespace or "default",
        origin=where,
        impersonate=user.impersonation(),
        compress=not cluster.entry.disable_compression,
    )


def _get(found: Mapping[str, tuple[N, Path]], name: str, kind: str, where: str) -> tuple[N, Path]:
    if name not in found:
        raise ConfigError(f"{where}: {kind} {name!r} does not exist.{did_you_mean(name, found)}{_among(found)}")
    return found[name]


def _among(names: Mapping[str, object]) -> str:
    return f" (there are: {', '.join(sorted(names)[:10])})" if names else " (there are none)"


class _Part:
    """One entry, the file that holds it, and how messages name it."""

    def __init__(self, file: Path, where: str) -> None:
        self._file = file
        self._where = where

    def _beside(self, path: str) -> Path:
        """Relative paths count from the folder of the file that holds them."""
        return Path(os.path.normpath(self._file.absolute().parent / path))

    def _decode(self, text: str, field: str) -> bytes:
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            # Not chained: the text may be a key.
            raise self._wrong(f"{field}: not base64; expected the PEM file in base64 (one line)") from None

    def _wrong(self, why: str) -> ConfigError:
        return ConfigError(f"{self._where}: {why}")


class _ClusterPart(_Part):
    def __init__(self, entry: Cluster, file: Path, where: str) -> None:
        super().__init__(file, where)
        self.entry = entry

    def server(self) -> str:
        parts = urlsplit(self.entry.server or "")
        if (
            parts.scheme not in ("https", "http")
            or not parts.hostname
            or parts.query
            or parts.fragment
            or parts.username
        ):
            raise self._wrong("server: expected an address such as https://10.0.0.1:6443; correct it")
        return parts.geturl().rstrip("/")

    def authority(self) -> Path | bytes | None:
        entry = self.entry
        if entry.insecure_skip_tls_verify:
            if entry.certificate_authority or entry.certificate_authority_data:
                raise self._wrong("insecure-skip-tls-verify and a certificate-authority exclude each other; remove one")
            return None
        if entry.certificate_authority_data:
            return self._decode(entry.certificate_authority_data, "certificate-authority-data")
        return self._beside(entry.certificate_authority) if entry.certificate_authority else None

    def proxy(self) -> str | None:
        url = self.entry.proxy_url
        if not url:
            return None
        scheme = urlsplit(url).scheme
        if scheme not in ("http", "https"):
            raise self._wrong(f"proxy-url: got {scheme!r}, expected http or https (SOCKS is not supported)")
        return url

    def told_to_plugins(self) -> dict[str, object]:
        """The `cluster` of KUBERNETES_EXEC_INFO, for plugins with provideClusterInfo."""
        entry = self.entry
        told: dict[str, object] = {"server": entry.server}
        if entry.tls_server_name:
            told["tls-server-name"] = entry.tls_server_name
        if entry.insecure_skip_tls_verify:
            told["insecure-skip-tls-verify"] = True
        if entry.proxy_url:
            told["proxy-url"] = entry.proxy_url
        authority = self.authority()
        if authority is not None:
            pem = read_pem(authority, self._where) if isinstance(authority, Path) else authority
            told["certificate-authority-data"] = base64.b64encode(pem).decode()
        for extension in entry.extensions or ():
            # client-go: the extension of this name is the plugin's own configuration.
            if extension.get("name") == "client.authentication.k8s.io/exec":
                told["config"] = extension.get("extension")
        return told


class _UserPart(_Part):
    def __init__(self, entry: User, file: Path, where: str) -> None:
        super().__init__(file, where)
        self.entry = entry

    def certificate(self) -> ClientCertificate | tuple[Path, Path] | None:
        entry = self.entry
        has_chain = entry.client_certificate or entry.client_certificate_data
        has_key = entry.client_key or entry.client_key_data
        if not has_chain and not has_key:
            return None
        if not has_chain or not has_key:
            raise self._wrong("a client certificate needs client-certificate and client-key (or both with -data)")
        if entry.client_certificate_data or entry.client_key_data:
            return ClientCertificate(
                self._pem(entry.client_certificate_data, entry.client_certificate, "client-certificate-data"),
                self._pem(entry.client_key_data, entry.client_key, "client-key-data"),
            )
        return self._beside(entry.client_certificate or ""), self._beside(entry.client_key or "")

    def _pem(self, text: str | None, path: str | None, field: str) -> bytes:
        return self._decode(text, field) if text else read_pem(self._beside(path or ""), self._where)

    def credentials(
        self, cluster: _ClusterPart, certified: bool, environ: Mapping[str, str], clock: Clock
    ) -> Credentials:
        """client-go's order: a token file, a token, and a plugin only where there is neither those nor a certificate."""
        entry = self.entry
        if entry.username or entry.password:
            raise self._wrong(
                "username and password: Kubernetes has no basic authentication since 1.19; use a token, a client "
                "certificate or an exec plugin"
            )
        if entry.auth_provider:
            raise self._wrong(
                "auth-provider: removed from Kubernetes in 1.26; use your provider's exec plugin "
                "(for example gke-gcloud-auth-plugin or kubelogin)"
            )
        if entry.token:
            self._check_header(entry.token, "token")
        if entry.token_file:
            return TokenFile(self._beside(entry.token_file), clock, fallback=entry.token or None)
        if entry.token or entry.exec is None or certified:
            return StaticToken(entry.token or None)
        return self._plugin(entry.exec, cluster, environ, clock)

    def _plugin(self, spec: Exec, cluster: _ClusterPart, environ: Mapping[str, str], clock: Clock) -> ExecPlugin:
        version = spec.api_version or ""
        if version not in EXEC_VERSIONS:
            raise self._wrong(f"exec.apiVersion: got {version!r}, expected {' or '.join(EXEC_VERSIONS)}")
        if not spec.command:
            raise self._wrong("exec.command: it is missing; name the plugin's program")
        mode = spec.interactive_mode or ("IfAvailable" if version.endswith("v1beta1") else "")
        if mode == "Always":
            raise self._wrong("exec.interactiveMode: Always, but a scheduler has no terminal; use a plugin without one")
        if mode not in ("Never", "IfAvailable"):
            raise self._wrong(f"exec.interactiveMode: got {mode!r}, expected Never or IfAvailable")
        return ExecPlugin(
            str(self._beside(spec.command)) if os.sep in spec.command else spec.command,
            tuple(spec.args or ()),
            {var.name: var.value or "" for var in spec.env or ()},
            version,
            cluster.told_to_plugins() if spec.provide_cluster_info else None,
            spec.install_hint or "",
            environ,
            clock,
        )

    def impersonation(self) -> tuple[tuple[str, str], ...]:
        entry = self.entry
        headers: list[tuple[str, str]] = []
        if entry.as_user:
            headers.append(("Impersonate-User", entry.as_user))
        if entry.as_uid:
            headers.append(("Impersonate-Uid", entry.as_uid))
        headers += [("Impersonate-Group", group) for group in entry.as_groups or ()]
        for key, extras in (entry.as_user_extra or {}).items():
            headers += [(f"Impersonate-Extra-{quote(key, safe='')}", extra) for extra in extras]
        for name, text in headers:
            self._check_header(text, name)
        return tuple(headers)

    def _check_header(self, text: str, field: str) -> None:
        if not text.isascii() or not text.isprintable() or text != text.strip():
            raise self._wrong(f"{field}: it holds characters that no header can carry; correct it")
