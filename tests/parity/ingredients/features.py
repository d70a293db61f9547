"""What pods need of a kubelet, and what nodes declare: enough, a part, something else, nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from parity.draft import Draft

RESTART: Final = "RestartAllContainersOnContainerExits"
HOST_NETWORK: Final = "UserNamespacesHostNetworkSupport"
_RULE: Final = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}


def add(draft: Draft) -> None:
    for node in draft.nodes:
        known = draft.one_of("a node declares", ("nothing", "one", "the other", "both"), (2, 2, 2, 4))
        declared = {"nothing": [], "one": [RESTART], "the other": [HOST_NETWORK], "both": [RESTART, HOST_NETWORK]}
        features = declared[known]
        if draft.chance("a node declares more", 0.3):
            features = ["ExtendWebSocketsToKubelet", *features, "NotKnownYet"]
        if features:
            node["status"]["declaredFeatures"] = features
    spec = draft.pod["spec"]
    where = draft.one_of("restart rules on", ("nothing", "a container", "an init container", "with another action"))
    if where == "an init container" and spec.get("initContainers"):
        spec["initContainers"][-1]["restartPolicyRules"] = [_RULE]
    elif where == "with another action":
        spec["containers"][0]["restartPolicyRules"] = [{**_RULE, "action": "Restart"}]
    elif where != "nothing":
        spec["containers"][-1]["restartPolicyRules"] = [{**_RULE, "action": "Restart"}, _RULE]
    users = draft.one_of("host users", (None, True, False), (1, 1, 2))
    if users is not None:
        spec["hostUsers"] = users
    if draft.chance("host network", 0.5):
        spec["hostNetwork"] = True
