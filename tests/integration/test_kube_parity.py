"""Our reading of kubeconfigs and quantities against kubectl's and the API server's own."""

from __future__ import annotations

import asyncio
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from api_objects import make_pod
from carbon_scheduler.errors import ApiStatusError
from carbon_scheduler.kube.access import access
from carbon_scheduler.kube.client import ApiClient
from carbon_scheduler.kube.quantity import MAX_MILLI, BadQuantity, milli

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from carbon_scheduler.sim.control_plane import ControlPlane

JSON = dict[str, Any]
pytestmark = pytest.mark.control_plane

TEXTS = [
    "0", "1", "+1", "01", "1.5", ".5", "1.", "0.1m", "1n", "1u", "1m", "999999n", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1.5Mi",
    "1Gi", "1Ti", "1Pi", "1Ei", "7Ei", "8Ei", "9Ei", "1e3", "1E3", "1e+3", "1e-3", "1e0", "12e6", "1.25e2", "0.0000001", "123456789012345678",
    "9223372036854775807", "0.5Ki", "0.3Ki", "1.0000000001Gi",
    "-1", "", " ", "1 ", "1K", "1ki", "1mi", "1e", "1kk", "abc", "1,5", "0x10", "1e3k", "--1", "1..5", "Ki", "-", "+", ".", "-.", "m", "E", "e", "n", "+Ki", "e5", ".e5", "1e99", "1E30", "-0", "1e-30", "1ee3", "1_000",
]  # fmt: skip


async def test_quantities_are_read_as_the_api_server_reads_them(control_plane: ControlPlane) -> None:
    client = ApiClient(access(control_plane.kubeconfig, {}))

    async def canonical(number: int, text: str) -> str | None:
        pod = make_pod(f"quantity-{number}", cpu=None, memory=None)
        pod["spec"]["containers"][0]["resources"] = {"requests": {"ephemeral-storage": text}}
        try:
            body = await client.request(
                "POST", "/api/v1/namespaces/default/pods", {"dryRun": "All"}, json.dumps(pod).encode()
            )
        except ApiStatusError as error:
            if error.code not in (400, 422):
                raise
            return None
        made: str = json.loads(body)["spec"]["containers"][0]["resources"]["requests"]["ephemeral-storage"]
        return made

    theirs = await asyncio.gather(*(canonical(number, text) for number, text in enumerate(TEXTS)))
    await client.close()
    assert sum(answer is not None for answer in theirs) > 30
    for text, answer in zip(TEXTS, theirs, strict=True):
        try:
            ours: int | None = milli(text)
        except BadQuantity:
            ours = None
        if answer is None:
            assert ours is None or ours < 0, text
        else:
            assert ours == min(milli(answer), MAX_MILLI), (text, answer)


async def test_a_list_of_kubeconfigs_is_merged_as_kubectl_merges_it(
    tmp_path: Path, control_plane_binary: Callable[[str], Path]
) -> None:
    def write(name: str, *, current: str | None, **users: str) -> Path:
        names = list(users)
        tree: JSON = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": n, "cluster": {"server": f"https://{name}.{n}.test"}} for n in names],
            "users": [{"name": n, "user": {"token": token}} for n, token in users.items()],
            "contexts": [
                {"name": n, "context": {"cluster": n, "user": n, "namespace": f"{name}-{n}"}} for n in reversed(names)
            ],
        }
        if current:
            tree["current-context"] = current
        path = tmp_path / name
        path.write_text(yaml.safe_dump(tree))
        return path

    paths = [
        write("one", current=None, a="1a", b="1b"),
        tmp_path / "missing",
        write("two", current="b", b="2b", c="2c"),
        write("three", current="c", a="3a", d="3d"),
    ]
    environ = {"KUBECONFIG": ":".join(map(str, paths)), "HOME": str(tmp_path)}
    shown = subprocess.run(  # noqa: ASYNC221  # nothing else runs in this loop
        [control_plane_binary("kubectl"), "config", "view", "--raw", "-o", "json"],
        env=environ, capture_output=True, check=True, timeout=30,
    )  # fmt: skip
    theirs = json.loads(shown.stdout)

    def named(kind: str, name: str) -> JSON:
        found: JSON = next(each[kind] for each in theirs[f"{kind}s"] if each["name"] == name)
        return found

    assert access(None, environ).origin.endswith(f"context {theirs['current-context']!r}")
    for name in ("a", "b", "c", "d"):
        made = access(None, environ, context=name)
        assert made.server == named("cluster", name)["server"]
        assert made.namespace == named("context", name)["namespace"]
        assert await made.credentials.token() == named("user", name)["token"]


async def test_a_pods_own_access_outlives_the_rotation_of_its_token(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    host, port = control_plane.server_url.removeprefix("https://").split(":")
    (tmp_path / "ca.crt").write_bytes(control_plane.ca_file.read_bytes())
    (tmp_path / "namespace").write_text("kube-system")
    (tmp_path / "token").write_text("expired")
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    client = ApiClient(access(None, environ, service_account=tmp_path))
    with pytest.raises(ApiStatusError, match="401"):
        await client.request("GET", "/api/v1/nodes")
    (tmp_path / "token").write_text(control_plane.admin_token)
    assert b"NodeList" in await client.request("GET", "/api/v1/nodes")
    await client.close()
