"""What each verb does to the objects: the rules of the generic registry and of pods, over the store.

Every method is one atomic step (nothing awaits). Documents that come in belong to the registry afterwards; those that come
out are the store's and must not be changed.
"""

from __future__ import annotations

import random
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from carbon_scheduler.sim.apiserver import events, failures, patches, pods
from carbon_scheduler.sim.apiserver.defaults import FIRST_OBJECTS, fill_in, normalise, normalise_status
from carbon_scheduler.sim.apiserver.documents import (
    Document,
    encode,
    items,
    mapping,
    present,
    text,
    without_nulls,
)
from carbon_scheduler.sim.apiserver.failures import Cause, Failure
from carbon_scheduler.sim.apiserver.kinds import EVENTS, EVENTS_V1, NAMESPACES, PODS
from carbon_scheduler.sim.apiserver.store import Stored
from carbon_scheduler.sim.apiserver.validation import check_types, invalid, new_finalizers, validate

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from carbon_scheduler.sim.apiserver.kinds import Kind
    from carbon_scheduler.sim.apiserver.store import Key, Store

_SUFFIX_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
_METADATA: Final = (
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
)
_CREATED_BY_PUT: Final = frozenset({"leases.coordination.k8s.io", "events", "services"})
_NEVER_UNCONDITIONAL: Final = frozenset(
    {
        "leases.coordination.k8s.io",
        "poddisruptionbudgets.policy",
        "csinodes.storage.k8s.io",
        "csidrivers.storage.k8s.io",
    }
)


class DeleteOptions(msgspec.Struct, frozen=True):
    """The parts of a DELETE's options that change what happens."""

    grace_period_s: int | None = None
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False


class Registry:
    """The verbs. `now` is the wall clock, `seed` makes uids and generated names repeatable."""

    def __init__(self, store: Store, now: Callable[[], datetime], seed: int) -> None:
        self.store = store
        self._now = now
        self._random = random.Random(seed)
        for kind, document in FIRST_OBJECTS:
            self.create(kind, "", document)

    def timestamp(self, after_s: float = 0.0) -> str:
        """Now, or `after_s` later, as metav1.Time writes it: RFC 3339 in whole seconds."""
        return (self._now() + timedelta(seconds=after_s)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def get(self, kind: Kind, namespace: str, name: str) -> Stored:
        """Raises Failure 404."""
        stored = self.store.collection(kind.storage).objects.get((namespace, name))
        if stored is None:
            raise failures.not_found(kind.resource, kind.group, name)
        return stored

    def create(self, kind: Kind, namespace: str, body: Document, *, dry_run: bool = False) -> Stored:
        """POST to a collection. Raises Failure 400, 403, 404 (namespace), 409, 422, 500."""
        document = self._decoded(kind, namespace, body)
        metadata = document["metadata"]
        if metadata.get("resourceVersion"):
            raise Failure(500, "", "resourceVersion should not be set on objects to be created")
        self._check_namespace(kind, namespace, text(metadata, "name"))
        generate = text(metadata, "generateName")
        if not text(metadata, "name") and generate:
            metadata["name"] = self._generated(kind, namespace, generate)
        now = self.timestamp()
        for field in ("deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion", "generation"):
            metadata.pop(field, None)
        metadata["uid"] = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        metadata["creationTimestamp"] = now
        if kind.generation:
            metadata["generation"] = 1
        if kind.storage == EVENTS.storage:
            events.fill_in(document)
        metadata.setdefault("name", "")
        fill_in(kind, document, self.store, now)
        self._check(kind, document, new=True)
        key: Key = (namespace if kind.namespaced else "", metadata["name"])
        if key in self.store.collection(kind.storage).objects:
            raise self._taken(kind, key)
        return Stored(key, document, 0) if dry_run else self.store.put(kind.storage, key, document)

    def update(
        self, kind: Kind, namespace: str, name: str, body: Document, *, subresource: str = "", dry_run: bool = False
    ) -> tuple[Stored, bool]:
        """PUT. Returns the object and whether it was created. Raises Failure 400, 404, 409, 422."""
        document = self._decoded(kind, namespace, body)
        metadata = document["metadata"]
        if text(metadata, "name") != name:
            if not text(metadata, "name"):
                raise failures.bad_request(
                    "the name of the object () does not match the name on the URL (" + name + ")"
                )
            raise failures.bad_request(
                f"the name of the object ({text(metadata, 'name')}) does not match the name on the URL ({name})"
            )
        key: Key = (namespace if kind.namespaced else "", name)
        before = self.store.collection(kind.storage).objects.get(key)
        if before is None:
            if kind.storage in _CREATED_BY_PUT and not subresource and not text(metadata, "resourceVersion"):
                return self.create(kind, namespace, body, dry_run=dry_run), True
            raise failures.not_found(kind.resource, kind.group, name)
        if not text(metadata, "resourceVersion") and kind.storage in _NEVER_UNCONDITIONAL:
            cause = invalid("metadata.resourceVersion", 0, "must be specified for an update")
            raise failures.invalid(kind.resource, kind.group, name, [cause])
        uid = text(before.document, "metadata", "uid")
        if text(metadata, "uid") not in ("", uid):
            raise failures.precondition(kind.resource, kind.group, namespace, name, "UID", text(metadata, "uid"), uid)
        return self._replace(kind, before, document, subresource, dry_run=dry_run), False

    def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        content_type: str,
        body: bytes | Document,
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Stored:
        """PATCH with a JSON merge, strategic merge or JSON patch, by content type. Raises Failure 400, 404, 409, 415, 422."""
        patches.check_type(content_type)
        before = self.get(kind, namespace if kind.namespaced else "", name)
        shown = events.shown(before.document) if kind is EVENTS_V1 else before.document
        patched = patches.applied(shown, content_type, body)
        try:
            check_types(kind, patched)
        except ValueError as error:
            raise failures.invalid("", "", "", [invalid("patch", encode(patched).decode(), str(error))]) from error
        document = self._accept(kind, namespace, patched)
        metadata = document["metadata"]
        if text(metadata, "name") != name:
            raise failures.bad_request(
                f"the name of the object ({text(metadata, 'name')}) does not match the name on the URL ({name})"
            )
        uid = text(before.document, "metadata", "uid")
        if text(metadata, "uid") != uid:
            cause = invalid("metadata.uid", text(metadata, "uid"), "field is immutable")
            raise failures.invalid(kind.kind, kind.group, name, [cause, cause])
        return self._replace(kind, before, document, subresource, dry_run=dry_run)

    def delete(self, kind: Kind, namespace: str, name: str, options: DeleteOptions) -> tuple[Stored, bool]:
        """DELETE. Returns the object's last state and whether it is gone. Raises Failure 404, 409."""
        stored = self._expected(kind, namespace, name, options)
        metadata = stored.document["metadata"]
        if options.dry_run:
            return stored, True
        if kind is NAMESPACES:
            return self._terminate_namespace(stored), False
        grace_s = pods.grace_period_s(stored.document, options.grace_period_s) if kind is PODS else 0
        finalizers = items(metadata, "finalizers")
        if kind is PODS or finalizers:
            stored = self._mark_deleted(kind, stored, grace_s)
        if grace_s or finalizers:
            return stored, False
        return self.store.remove(kind.storage, stored.key), True

    def evict(self, namespace: str, name: str, options: DeleteOptions) -> None:
        """POST of an Eviction: marks the pod, then deletes it. Budgets are not looked at. Raises Failure 404, 409."""
        stored = self._expected(PODS, namespace, name, options)
        if not options.dry_run:
            marked = pods.evicted(stored.document, self.timestamp())
            if marked != stored.document:
                self.store.put(PODS.storage, stored.key, marked)
            self.delete(PODS, namespace, name, msgspec.structs.replace(options, resource_version=""))

    def bind(self, namespace: str, name: str, binding: Document, *, dry_run: bool = False) -> None:
        """POST of a Binding to a pod. Raises Failure 400, 404, 409, 500."""
        if text(binding, "metadata", "namespace") not in ("", namespace):
            raise failures.bad_request(_WRONG_NAMESPACE)
        if not name:
            raise failures.bad_request("Name parameter required.")
        if text(binding, "metadata", "name") != name:
            raise failures.bad_request("name in URL does not match name in Binding object")
        pods.check_target(binding)
        stored = self.get(PODS, namespace, name)
        bound = pods.bound(stored.document, binding, self.timestamp())
        if not dry_run:
            self.store.put(PODS.storage, stored.key, bound)

    def finalize_namespace(self, name: str, body: Document) -> Stored:
        """PUT of a namespace's `finalize`: sets its finalizers; a terminating one without any goes, as upstream."""
        stored = self.get(NAMESPACES, "", name)
        finalizers = [entry for entry in items(body, "spec", "finalizers") if isinstance(entry, str)]
        document = {**stored.document, "spec": {"finalizers": finalizers} if finalizers else {}}
        if finalizers or not text(document, "metadata", "deletionTimestamp"):
            return self.store.put(NAMESPACES.storage, stored.key, document)
        return self.store.remove(NAMESPACES.storage, stored.key)

    def finish_namespace(self, name: str) -> None:
        """Remove a terminating namespace and all that is in it: the namespace controller's part."""
        for collection in self.store.collections():
            for key in [key for key in collection.objects if key[0] == name]:
                self.store.remove(collection.name, key)
        if ("", name) in self.store.collection(NAMESPACES.storage).objects:
            self.store.remove(NAMESPACES.storage, ("", name))

    def _expected(self, kind: Kind, namespace: str, name: str, options: DeleteOptions) -> Stored:
        """The object to delete. Raises Failure 404, and 409 when a precondition names another one."""
        stored = self.get(kind, namespace if kind.namespaced else "", name)
        metadata = stored.document["metadata"]
        for what, wanted, got, ending in (
            ("UID", options.uid, metadata["uid"], "The object might have been deleted and then recreated"),
            (
                "ResourceVersion",
                options.resource_version,
                metadata["resourceVersion"],
                "The object might have been modified",
            ),
        ):
            if wanted and wanted != got:
                why = f"the {what} in the precondition ({wanted}) does not match the {what} in record ({got}). {ending}"
                raise failures.conflict(kind.kind, kind.group, name, why)
        return stored

    def _decoded(self, kind: Kind, namespace: str, body: Document) -> Document:
        try:
            check_types(kind, body)
        except ValueError as error:
            message = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {error}'
            raise failures.bad_request(message) from error
        return self._accept(kind, namespace, body)

    def _accept(self, kind: Kind, namespace: str, body: Document) -> Document:
        """A document to store from what was sent: right kind and namespace, known metadata, stored view, nothing shared."""
        sent = text(body, "kind")
        if sent not in ("", kind.kind):
            message = (
                f'{sent} in version "{kind.version}" cannot be handled as a {kind.kind}: no kind "{sent}" is registered '
                f'for version "{kind.api_version}" in scheme "pkg/runtime/scheme.go:111"'
            )
            raise failures.bad_request(message)
        if text(body, "apiVersion") not in ("", kind.api_version):
            raise failures.bad_request(
                f"the API version in the data ({text(body, 'apiVersion')}) does not match the expected API version "
                f"({kind.api_version})"
            )
        given = mapping(body, "metadata")
        metadata = {name: given[name] for name in _METADATA if present(given.get(name))}
        if kind.namespaced:
            if text(given, "namespace") not in ("", namespace):
                raise failures.bad_request(_WRONG_NAMESPACE)
            metadata["namespace"] = namespace
        else:
            metadata.pop("namespace", None)
        rest = {name: value for name, value in body.items() if name not in ("kind", "apiVersion", "metadata")}
        document: Document = without_nulls({"metadata": metadata} | rest)
        if kind is EVENTS_V1:
            document = events.stored(document)
        return document

    def _check_namespace(self, kind: Kind, namespace: str, name: str) -> None:
        if not kind.namespaced:
            return
        stored = self.get(NAMESPACES, "", namespace)
        if text(stored.document, "metadata", "deletionTimestamp"):
            cause = Cause("NamespaceTerminating", f"namespace {namespace} is being terminated", "metadata.namespace")
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise failures.forbidden(kind.resource, kind.group, name, why, [cause])

    def _check(self, kind: Kind, document: Document, *, new: bool = False) -> None:
        causes = validate(kind, document, new=new)
        if causes:
            group = "" if kind is EVENTS_V1 else kind.group
            raise failures.invalid(kind.kind, group, text(document, "metadata", "name"), causes)

    def _taken(self, kind: Kind, key: Key) -> Failure:
        failure = failures.already_exists(kind.resource, kind.group, key[1])
        if "deletionTimestamp" in self.get(kind, *key).document["metadata"]:
            failure.message = f"object is being deleted: {failure.message}"
        return failure

    def _generated(self, kind: Kind, namespace: str, prefix: str) -> str:
        objects = self.store.collection(kind.storage).objects
        while True:
            name = prefix[:58] + "".join(self._random.choices(_SUFFIX_LETTERS, k=5))
            if (namespace if kind.namespaced else "", name) not in objects:
                return name

    def _replace(self, kind: Kind, before: Stored, document: Document, subresource: str, *, dry_run: bool) -> Stored:
        old, metadata = before.document, document["metadata"]
        name = text(metadata, "name")
        if text(metadata, "resourceVersion") not in ("", str(before.resource_version)):
            raise failures.modified(kind.resource, kind.group, name)
        for field in ("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp"):
            _keep(metadata, old["metadata"], field)
        _keep(metadata, old["metadata"], "deletionGracePeriodSeconds")
        _keep(metadata, old["metadata"], "generateName")
        if subresource == "status":
            normalise_status(kind, document)
            for field in old.keys() | document.keys():
                if field not in ("metadata", "status"):
                    _keep(document, old, field)
            _keep(metadata, old["metadata"], "ownerReferences")
        else:
            if kind.status:
                _keep(document, old, "status")
            normalise(kind, document, old)
            if kind is PODS:
                causes = pods.forbidden_changes(old, document)
                if causes:
                    raise failures.invalid(kind.kind, kind.group, name, causes)
        if kind.storage == EVENTS.storage:
            events.fill_in(document)
        if kind is PODS and subresource == "status":
            document["status"] = {"qosClass": text(old, "status", "qosClass")} | mapping(document, "status")
            refused = list(pods.forbidden_status(old, document))
            if refused:
                raise failures.invalid(kind.kind, kind.group, name, refused)
        if "deletionTimestamp" in old["metadata"]:
            added = new_finalizers(old, document)
            if added:
                raise failures.invalid(kind.kind, kind.group, name, added)
        self._check(kind, document)
        if document == old:
            return before
        if kind.generation and document.get("spec") != old.get("spec"):
            metadata["generation"] = int(metadata.get("generation") or 0) + 1
        if dry_run:
            return Stored(before.key, document, before.resource_version)
        waits = items(metadata, "finalizers") or metadata.get("deletionGracePeriodSeconds") or kind is NAMESPACES
        if metadata.get("deletionTimestamp") and not waits:
            self.store.remove(kind.storage, before.key)
            return Stored(before.key, document, before.resource_version)
        return self.store.put(kind.storage, before.key, document)

    def _mark_deleted(self, kind: Kind, stored: Stored, grace_s: int) -> Stored:
        """The update that announces a deletion. A second deletion can only shorten the grace period."""
        old = stored.document["metadata"]
        if "deletionTimestamp" in old and grace_s >= int(old.get("deletionGracePeriodSeconds") or 0):
            return stored
        metadata = {**old, "deletionTimestamp": self.timestamp(grace_s), "deletionGracePeriodSeconds": grace_s}
        if kind.generation and "deletionTimestamp" not in old:
            metadata["generation"] = int(old.get("generation") or 0) + 1
        return self.store.put(kind.storage, stored.key, {**stored.document, "metadata": metadata})

    def _terminate_namespace(self, stored: Stored) -> Stored:
        if "deletionTimestamp" in stored.document["metadata"]:
            return stored
        metadata = {**stored.document["metadata"], "deletionTimestamp": self.timestamp()}
        document = {**stored.document, "metadata": metadata, "status": {"phase": "Terminating"}}
        return self.store.put(NAMESPACES.storage, stored.key, document)


_WRONG_NAMESPACE: Final = "the namespace of the provided object does not match the namespace sent on the request"


def _keep(document: Document, old: Document, field: str) -> None:
    if field in old:
        document[field] = old[field]
    else:
        document.pop(field, None)
