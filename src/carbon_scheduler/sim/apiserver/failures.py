"""Failures as the API server words them: a Status object and its HTTP code. Texts are those of kube-apiserver 1.36."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from carbon_scheduler.sim.apiserver.documents import Document


class Cause(msgspec.Struct, frozen=True):
    """One fault of one field. `reason` is FieldValueInvalid, FieldValueRequired, ..."""

    reason: str
    message: str
    field: str


class Failure(Exception):
    """An answer that is not a success. `retry_after_s` becomes the header; `plain` sends the message instead of a Status."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Document | None = None,
        retry_after_s: int | None = None,
        continue_token: str = "",
        plain: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.retry_after_s = retry_after_s
        self.continue_token = continue_token
        self.plain = plain

    def status(self) -> Document:
        """The body."""
        body: Document = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"continue": self.continue_token} if self.continue_token else {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = self.details
        body["code"] = self.code
        return body


def _of(resource: str, group: str, name: str) -> tuple[str, Document]:
    details: Document = {}
    if name:
        details["name"] = name
    if group:
        details["group"] = group
    if resource:
        details["kind"] = resource
    return (f"{resource}.{group}" if group else resource), details


def bad_request(message: str) -> Failure:
    return Failure(400, "BadRequest", message)


def unauthorized() -> Failure:
    return Failure(401, "Unauthorized", "Unauthorized")


def forbidden(resource: str, group: str, name: str, why: str, causes: Sequence[Cause] = ()) -> Failure:
    qualified, details = _of(resource, group, name)
    if causes:
        details["causes"] = [msgspec.to_builtins(cause) for cause in causes]
    return Failure(403, "Forbidden", f'{qualified} "{name}" is forbidden: {why}', details=details)


def not_found(resource: str, group: str, name: str) -> Failure:
    qualified, details = _of(resource, group, name)
    return Failure(404, "NotFound", f'{qualified} "{name}" not found', details=details)


def no_such_resource() -> Failure:
    return Failure(404, "NotFound", "the server could not find the requested resource", details={})


def method_not_allowed() -> Failure:
    message = "the server does not allow this method on the requested resource"
    return Failure(405, "MethodNotAllowed", message, details={})


def not_acceptable() -> Failure:
    message = "406: Not Acceptable\n\nAvailable representations: application/json"
    return Failure(406, "NotAcceptable", message, details={})


def already_exists(resource: str, group: str, name: str) -> Failure:
    qualified, details = _of(resource, group, name)
    return Failure(409, "AlreadyExists", f'{qualified} "{name}" already exists', details=details)


def conflict(resource: str, group: str, name: str, why: str) -> Failure:
    qualified, details = _of(resource, group, name)
    return Failure(409, "Conflict", f'Operation cannot be fulfilled on {qualified} "{name}": {why}', details=details)


def modified(resource: str, group: str, name: str) -> Failure:
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(resource, group, name, why)


def precondition(resource: str, group: str, namespace: str, name: str, what: str, wanted: str, got: str) -> Failure:
    """`what` is UID or ResourceVersion: a Binding or PUT that names another object than the one stored."""
    path = f"{namespace}/{name}" if namespace else name
    why = (
        f"StorageError: invalid object, Code: 4, Key: /registry/{resource}/{path}, ResourceVersion: 0, AdditionalErrorMsg: "
        f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {got}"
    )
    return conflict(resource, group, name, why)


def expired(message: str, continue_token: str = "") -> Failure:
    return Failure(410, "Expired", message, continue_token=continue_token)


WATCH_EXPIRED = "The resourceVersion for the provided watch is too old."
LIST_EXPIRED = "The resourceVersion for the provided list is too old."
CONTINUE_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted "
    "between the time the first chunk was returned and now may show up in the list."
)


def too_large() -> Failure:
    return Failure(413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728")


def unsupported_body() -> Failure:
    accepted = "accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"
    message = f"the body of the request was in an unknown format - {accepted}"
    return Failure(415, "UnsupportedMediaType", message)


def unsupported_patch() -> Failure:
    return Failure(415, "UnsupportedMediaType", "415: Unsupported Media Type", details={})


def rejected_patch() -> Failure:
    """A JSON patch that does not apply."""
    return Failure(422, "Invalid", "the server rejected our request due to an error in our request", details={})


def invalid(kind: str, group: str, name: str, causes: Iterable[Cause]) -> Failure:
    found = list(causes)
    parts = list(dict.fromkeys(f"{cause.field}: {cause.message}" for cause in found))
    joined = parts[0] if len(parts) == 1 else f"[{', '.join(parts)}]"
    qualified, details = _of(kind, group, name)
    details["causes"] = [msgspec.to_builtins(cause) for cause in found]
    return Failure(422, "Invalid", f'{qualified} "{name}" is invalid: {joined}', details=details)


def invalid_options(kind: str, field: str, reason: str, message: str) -> Failure:
    """ListOptions, CreateOptions, ... that do not fit together."""
    return invalid(kind, "meta.k8s.io", "", [Cause(reason, message, field)])


def too_many_requests(retry_after_s: int) -> Failure:
    """Priority and fairness answers before any API machinery: plain text, no Status."""
    message = "Too many requests, please try again later.\n"
    return Failure(429, "TooManyRequests", message, retry_after_s=retry_after_s, plain=True)


def server_error(code: int, message: str, retry_after_s: int | None = None) -> Failure:
    reason = {500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout"}.get(code, "")
    return Failure(code, reason, message, details={}, retry_after_s=retry_after_s)


def too_large_resource_version(wanted: int, current: int) -> Failure:
    details: Document = {
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    }
    message = f"Timeout: Too large resource version: {wanted}, current: {current}"
    return Failure(504, "Timeout", message, details=details, retry_after_s=1)
