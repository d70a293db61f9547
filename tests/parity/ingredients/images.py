"""Images of containers, init containers and volumes, and those that nodes have: sizes around the bounds of the score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from parity.draft import JSON

if TYPE_CHECKING:
    from parity.draft import Draft

_MIB: Final = 2**20
SIZES: Final = {
    "app:latest": 300 * _MIB,
    "app:v1": 23 * _MIB,
    "registry:5000/app:latest": 24 * _MIB + 7,
    "registry.example.com/app@sha256:0123": 999 * _MIB,
    "docker.io/library/nginx:1.25": 5000 * _MIB,
    "tiny:latest": 1,
    "empty:latest": 0,
}
ASKED: Final = ("app", "app:v1", "app:latest", "registry:5000/app", "registry.example.com/app@sha256:0123", "docker.io/library/nginx:1.25", "tiny", "empty", "nowhere")  # fmt: skip
"""Names as pods write them: without a tag, ":latest" is meant; a port is none."""


def add(draft: Draft) -> None:
    several = draft.chance("nodes differ in the size of an image", 0.3)
    for node in draft.nodes:
        if draft.chance("a node with images", 0.8):
            node["status"]["images"] = draft.some("images of a node", 4, lambda: _image(draft, several), least=1)
    spec = draft.pod["spec"]
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        container["image"] = draft.one_of("image of a container", ASKED)
    if draft.chance("image volumes", 0.2):
        spec.setdefault("volumes", []).extend(
            {"name": f"image-{i}", "image": {"reference": reference}}
            for i, reference in enumerate(
                draft.some("image volumes", 2, lambda: draft.one_of("mounted image", ASKED), least=1)
            )
        )


def _image(draft: Draft, several: bool) -> JSON:
    names = [draft.one_of("name of an image", tuple(SIZES))]
    if draft.chance("a second name", 0.3):
        names.append(draft.one_of("name of an image", tuple(SIZES)))
    size_b = SIZES[names[0]] if len(names) == 1 else 200 * _MIB
    if several:
        size_b *= draft.one_of("times its usual size", (1, 2, 3))
    return {"names": names, "sizeBytes": size_b}
