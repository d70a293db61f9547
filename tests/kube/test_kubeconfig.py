"""Kubeconfig files by kubectl's rules, and where the access comes from."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml
from kube_fakes import FakeClock

from carbon_scheduler.errors import ConfigError
from carbon_scheduler.kube.access import access
from carbon_scheduler.kube.credentials import ExecPlugin, StaticToken, TokenFile
from carbon_scheduler.kube.endpoint import Access, proxy_from

TLS = Path(__file__).parent / "tls"
JSON = dict[str, Any]
SECRET = "s3cr3t-t0k3n"


def b64(name: str) -> str:
    return base64.b64encode((TLS / name).read_bytes()).decode()


def config(
    cluster: JSON | None = None,
    user: JSON | None = None,
    *,
    name: str = "a",
    current: str | None = "a",
    **context: object,
) -> JSON:
    made: JSON = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": "https://10.0.0.1:6443", **(cluster or {})}}],
        "users": [{"name": name, "user": user or {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, **context}}],
    }
    if current:
        made["current-context"] = current
    return made


def write(path: Path, tree: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree))
    return path


def load(path: Path, environ: dict[str, str] | None = None, context: str | None = None) -> Access:
    return access(path, environ or {}, context=context, clock=FakeClock())


async def token(made: Access) -> str | None:
    return await made.credentials.token()


async def test_a_token(tmp_path: Path) -> None:
    made = load(write(tmp_path / "k", config(user={"token": SECRET}, namespace="team")))
    assert (made.server, made.namespace, made.in_cluster) == ("https://10.0.0.1:6443", "team", False)
    assert await token(made) == SECRET
    assert made.origin == f"{tmp_path}/k: context 'a'"
    assert SECRET not in repr(made)


async def test_a_token_file_is_beside_its_kubeconfig_and_wins_over_the_token(tmp_path: Path) -> None:
    write(tmp_path / "sub" / "token", f"{SECRET}\n")
    made = load(write(tmp_path / "sub" / "k", config(user={"tokenFile": "token", "token": "first"})))
    assert isinstance(made.credentials, TokenFile)
    assert await token(made) == SECRET


def test_certificates_as_data_and_as_files_relative_to_the_file(tmp_path: Path) -> None:
    for name in ("ca.crt", "client.crt", "client.key"):
        (tmp_path / name).write_bytes((TLS / name).read_bytes())
    as_data = config(
        {"certificate-authority-data": b64("ca.crt"), "tls-server-name": "kube.test"},
        {"client-certificate-data": b64("client.crt"), "client-key-data": b64("client.key")},
    )
    as_files = config(
        {"certificate-authority": "ca.crt"}, {"client-certificate": "./client.crt", "client-key": "client.key"}
    )
    mixed = config(
        {"certificate-authority": "nowhere", "certificate-authority-data": b64("ca.crt")},
        {"client-certificate": "client.crt", "client-key-data": b64("client.key")},
    )
    for number, tree in enumerate((as_data, as_files, mixed)):
        made = load(write(tmp_path / f"k{number}", tree))
        assert made.tls is not None
        assert len(made.tls.context().get_ca_certs()) == 1
    made = load(write(tmp_path / "k", as_data))
    assert made.tls is not None
    assert made.tls.server_name == "kube.test"


async def test_lists_merge_and_the_first_file_wins_by_name_whole(tmp_path: Path) -> None:
    first = config(user={"token": "first"}, current=None)
    second = {
        **config({"proxy-url": "http://never"}, {"token": "second", "tokenFile": "never"}),
        "contexts": [{"name": "b", "context": {"cluster": "a", "user": "a", "namespace": "from-second"}}],
        "current-context": "b",
    }
    third = config(current="a")
    paths = [write(tmp_path / name, tree) for name, tree in (("1", first), ("2", second), ("3", third))]
    listed = ":".join([str(paths[0]), "", str(tmp_path / "missing"), str(paths[1]), str(paths[2]), str(paths[0])])
    made = access(None, {"KUBECONFIG": listed}, clock=FakeClock())
    assert (made.namespace, await token(made), made.proxy) == ("from-second", "first", None)
    other = access(None, {"KUBECONFIG": listed}, context="a", clock=FakeClock())
    assert other.namespace == "default"


def test_plain_http_needs_no_tls(tmp_path: Path) -> None:
    made = load(write(tmp_path / "k", config({"server": "http://127.0.0.1:8080/prefix/"})))
    assert (made.server, made.tls) == ("http://127.0.0.1:8080/prefix", None)


def test_impersonation(tmp_path: Path) -> None:
    user = {"as": "me", "as-uid": "1", "as-groups": ["g", "h"], "as-user-extra": {"k": ["v"]}}
    assert load(write(tmp_path / "k", config(user=user))).impersonate == (
        ("Impersonate-User", "me"),
        ("Impersonate-Uid", "1"),
        ("Impersonate-Group", "g"),
        ("Impersonate-Group", "h"),
        ("Impersonate-Extra-k", "v"),
    )


def test_an_exec_plugin_is_used_unless_there_is_a_certificate_or_token(tmp_path: Path) -> None:
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "get-token", "interactiveMode": "Never"}
    assert isinstance(load(write(tmp_path / "k", config(user={"exec": plugin}))).credentials, ExecPlugin)
    with_token = load(write(tmp_path / "k", config(user={"exec": plugin, "token": "t"})))
    assert isinstance(with_token.credentials, StaticToken)
    certificate = {"client-certificate-data": b64("client.crt"), "client-key-data": b64("client.key")}
    assert isinstance(
        load(write(tmp_path / "k", config(user={"exec": plugin, **certificate}))).credentials, StaticToken
    )


def test_compression_can_be_off(tmp_path: Path) -> None:
    assert load(write(tmp_path / "k", config({"disable-compression": True}))).compress is False


V1 = "client.authentication.k8s.io/v1"
WRONG: dict[str, tuple[object, str]] = {
    "basic authentication": (config(user={"username": "u", "password": SECRET}), "no basic authentication since 1.19"),
    "an auth provider": (config(user={"auth-provider": {"name": "gcp"}}), "removed from Kubernetes in 1.26"),
    "no current context": (config(current=None), "no current-context.*there are: a"),
    "a misspelled context": (config(name="minikube", current="minikub"), "Did you mean 'minikube'"),
    "a context without its cluster": (config(cluster={}, user={}) | {"clusters": []}, "cluster 'a' does not exist"),
    "a context without its user": (config() | {"users": None}, "user 'a' does not exist"),
    "no server": (config({"server": None}), "server: expected an address such as https"),
    "a server without a scheme": (config({"server": "10.0.0.1:6443"}), "server: expected an address"),
    "a password in the server": (config({"server": f"https://u:{SECRET}@x"}), "server: expected an address"),
    "insecure with an authority": (
        config({"insecure-skip-tls-verify": True, "certificate-authority": "x"}),
        "exclude each other",
    ),
    "a missing authority": (config({"certificate-authority": "nowhere.crt"}), "nowhere.crt: No such file"),
    "an authority that is none": (
        config({"certificate-authority-data": base64.b64encode(SECRET.encode()).decode()}),
        "certificate-authority-data: not a certificate",
    ),
    "not base64": (config({"certificate-authority-data": SECRET + "!"}), "certificate-authority-data: not base64"),
    "half a client certificate": (config(user={"client-key-data": b64("client.key")}), "needs client-certificate and"),
    "a key that is not its certificate's": (
        config(user={"client-certificate-data": b64("client.crt"), "client-key-data": b64("client2.key")}),
        "do not load",
    ),
    "a key under a password": (
        config(user={"client-certificate-data": b64("client.crt"), "client-key-data": b64("locked.key")}),
        "without a password",
    ),
    "a SOCKS proxy": (config({"proxy-url": f"socks5://u:{SECRET}@x"}), "got 'socks5', expected http or https"),
    "an exec version of long ago": (
        config(user={"exec": {"apiVersion": V1 + "alpha1", "command": "x"}}),
        "exec.apiVersion: got 'client.authentication.k8s.io/v1alpha1', expected client.authentication.k8s.io/v1 or",
    ),
    "an exec plugin without a command": (
        config(user={"exec": {"apiVersion": V1, "interactiveMode": "Never"}}),
        "exec.command: it is missing",
    ),
    "an exec plugin that needs a terminal": (
        config(user={"exec": {"apiVersion": V1, "command": "x", "interactiveMode": "Always"}}),
        "a scheduler has no terminal",
    ),
    "v1 without an interactive mode": (
        config(user={"exec": {"apiVersion": V1, "command": "x"}}),
        "exec.interactiveMode: got ''",
    ),
    "a token with a line break": (
        config(user={"token": f"{SECRET}\nX: y"}),
        "token: it holds characters that no header",
    ),
    "a name there twice": (
        config() | {"users": [{"name": "a", "user": {}}, {"name": "a", "user": {"token": SECRET}}]},
        "user 'a' is there twice",
    ),
    "a wrong type": (config(user={"token": ["x"]}), r"Expected `str \| null`, got `array`"),
    "not YAML": (f"users:\n- name: a\n  user: {{token: {SECRET}, ]", "not YAML at line 3, column"),
    "not a mapping": ("- 1", "k: "),
    "not text": ("\x01", "k: not"),
    "an empty file": ("", "no current-context"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_with_file_and_field_and_without_secrets(case: str, tmp_path: Path) -> None:
    tree, want = WRONG[case]
    with pytest.raises(ConfigError, match=want) as caught:
        load(write(tmp_path / "k", tree))
    seen: BaseException | None = caught.value
    while seen is not None:  # as a traceback shows it
        assert SECRET not in str(seen)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    assert str(tmp_path / "k") in str(caught.value)


def test_a_missing_explicit_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere: No such file or directory"):
        load(tmp_path / "nowhere")


def test_a_list_of_which_nothing_exists(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"KUBECONFIG: none of .*nowhere exists"):
        access(None, {"KUBECONFIG": str(tmp_path / "nowhere")}, clock=FakeClock())


# -- where the access comes from

IN_POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


def service_account(folder: Path) -> Path:
    write(folder / "token", SECRET)
    (folder / "ca.crt").write_bytes((TLS / "ca.crt").read_bytes())
    write(folder / "namespace", "kube-system\n")
    return folder


async def test_in_the_cluster(tmp_path: Path) -> None:
    environ = {**IN_POD, "HTTPS_PROXY": "http://proxy:3128"}
    made = access(None, environ, service_account=service_account(tmp_path), clock=FakeClock())
    assert (made.server, made.namespace, made.in_cluster) == ("https://10.96.0.1:443", "kube-system", True)
    assert made.proxy is None, "the proxy is for the carbon data"
    assert await token(made) == SECRET
    assert made.tls is not None
    assert len(made.tls.context().get_ca_certs()) == 1
    assert SECRET not in repr(made)


def test_in_the_cluster_over_ipv6(tmp_path: Path) -> None:
    environ = {**IN_POD, "KUBERNETES_SERVICE_HOST": "fd00::1"}
    made = access(None, environ, service_account=service_account(tmp_path), clock=FakeClock())
    assert made.server == "https://[fd00::1]:443"


def test_in_the_cluster_without_a_mounted_token(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="automountServiceAccountToken"):
        access(None, IN_POD, service_account=tmp_path, clock=FakeClock())


def test_the_order_of_sources(tmp_path: Path) -> None:
    explicit = write(tmp_path / "explicit", config(namespace="explicit"))
    listed = write(tmp_path / "listed", config(namespace="listed"))
    write(tmp_path / ".kube" / "config", config(namespace="home"))
    account = service_account(tmp_path / "sa")
    everything = {"KUBECONFIG": str(listed), **IN_POD, "HOME": str(tmp_path)}

    def namespace(path: Path | None, *without: str) -> str:
        environ = {key: value for key, value in everything.items() if key not in without}
        return access(path, environ, service_account=account, clock=FakeClock()).namespace

    assert namespace(explicit) == "explicit"
    assert namespace(None) == "listed"
    assert namespace(None, "KUBECONFIG") == "kube-system"
    assert namespace(None, "KUBECONFIG", "KUBERNETES_SERVICE_HOST") == "home"


def test_nothing_to_connect_to_says_what_was_tried(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no --kubeconfig, KUBECONFIG is not set.*\.kube/config does not exist"):
        access(None, {"HOME": str(tmp_path)}, clock=FakeClock())


PROXIES: dict[str, tuple[dict[str, str], str, str | None]] = {
    "none": ({}, "https://10.0.0.1", None),
    "by scheme": ({"HTTPS_PROXY": "http://p:1", "HTTP_PROXY": "http://q:1"}, "https://10.0.0.1", "http://p:1"),
    "in small letters, without a scheme": ({"https_proxy": "p:1"}, "https://10.0.0.1", "http://p:1"),
    "never for loopback": ({"HTTPS_PROXY": "http://p"}, "https://127.0.0.1:6443", None),
    "never for localhost": ({"HTTPS_PROXY": "http://p"}, "https://localhost", None),
    "a network": ({"HTTPS_PROXY": "http://p", "NO_PROXY": "x, 10.0.0.0/8"}, "https://10.1.2.3", None),
    "another network": ({"HTTPS_PROXY": "http://p", "NO_PROXY": "10.0.0.0/8"}, "https://11.1.2.3", "http://p"),
    "a name and its subdomains": (
        {"HTTPS_PROXY": "http://p", "NO_PROXY": "example.com"},
        "https://a.example.com",
        None,
    ),
    "not another name's end": (
        {"HTTPS_PROXY": "http://p", "NO_PROXY": "example.com"},
        "https://badexample.com",
        "http://p",
    ),
    "a port": ({"HTTPS_PROXY": "http://p", "NO_PROXY": "a.b:6443"}, "https://a.b:6443", None),
    "another port": ({"HTTPS_PROXY": "http://p", "NO_PROXY": "a.b:6443"}, "https://a.b:443", "http://p"),
    "all": ({"HTTPS_PROXY": "http://p", "NO_PROXY": "*"}, "https://a.b", None),
}


@pytest.mark.parametrize("case", PROXIES)
def test_proxies_from_the_environment(case: str) -> None:
    environ, server, want = PROXIES[case]
    assert proxy_from(environ, server) == want
