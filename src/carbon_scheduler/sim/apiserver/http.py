"""The HTTP face: one handler for every path, which parses, lets faults act, and answers as kube-apiserver does."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import random
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec
from aiohttp import web

from carbon_scheduler.sim.apiserver import bodies, discovery, failures, requests
from carbon_scheduler.sim.apiserver.documents import Document, encode, mapping, text
from carbon_scheduler.sim.apiserver.failures import Failure
from carbon_scheduler.sim.apiserver.faults import Command, Faults, Rule
from carbon_scheduler.sim.apiserver.kinds import BINDINGS, PODS
from carbon_scheduler.sim.apiserver.streaming import Cut, WatchStream
from carbon_scheduler.sim.apiserver.views import negotiate
from carbon_scheduler.sim.apiserver.watching import Feed, listed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from carbon_scheduler.sim.apiserver.registry import Registry
    from carbon_scheduler.sim.apiserver.requests import Target
    from carbon_scheduler.sim.apiserver.store import Stored
    from carbon_scheduler.sim.apiserver.views import View

BOOKMARK_S: Final = 60.0
_ACCESS_REVIEW: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_HEADERS: Final = {"Content-Type": "application/json", "Cache-Control": "no-cache, private"}


class Handler:
    """Answers requests. `refuse` stops listening for some seconds; `bookmark_s` is the rhythm of bookmarks."""

    def __init__(
        self,
        registry: Registry,
        faults: Faults,
        *,
        now: Callable[[], datetime],
        token: str | None,
        refuse: Callable[[float], Awaitable[None]],
        seed: int,
        bookmark_s: float = BOOKMARK_S,
    ) -> None:
        self._registry = registry
        self._store = registry.store
        self._faults = faults
        self._now = now
        self._token = token
        self._refuse = refuse
        self._random = random.Random(seed)
        self._bookmark_s = bookmark_s

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except Failure as failure:
            return _failed(failure)
        except RecursionError:
            return _failed(failures.bad_request("json: exceeded max depth"))
        except Cut:
            _cut(request)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self._authenticate(request)
        if request.path == _ACCESS_REVIEW and request.method == "POST":
            review = await bodies.document(request)
            return _json(201, encode({**review, "status": {"allowed": True, "reason": "RBAC is not enforced here"}}))
        target = requests.parse_target(request.method, request.path, request.query)
        if target is None:
            return await self._other(request)
        rules = self._faults.on_request(target.verb, target.resource)
        await _before(rules)
        if target.verb == "watch":
            return await self._watch(request, target, rules)
        response = await self._carry_out(request, target)
        if any(rule.lose_answer for rule in rules):
            raise Cut
        return response

    def _authenticate(self, request: web.BaseRequest) -> None:
        if self._token is None:
            return
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            raise failures.unauthorized()

    async def _carry_out(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        query = request.query
        kind, namespace, name = target.kind, target.namespace, target.name
        match target.verb:
            case "list":
                options = requests.list_options(target, query)
                view = self._view(request, target)
                found, metadata = listed(self._store, self._store.collection(kind.storage), options)
                return _json(200, view.many(found, metadata))
            case "get":
                return self._one(request, target, 200, self._registry.get(kind, namespace, name))
            case "create":
                return await self._create(request, target)
            case "update":
                dry = requests.dry_run(query, "UpdateOptions")
                body = await bodies.document(request)
                if target.subresource == "finalize":
                    return self._one(request, target, 200, self._registry.finalize_namespace(name, body))
                stored, created = self._registry.update(
                    kind, namespace, name, body, subresource=target.subresource, dry_run=dry
                )
                return self._one(request, target, 201 if created else 200, stored)
            case "patch":
                return await self._patch(request, target)
            case "delete":
                options_ = await bodies.delete_options(request)
                stored, gone = self._registry.delete(kind, namespace, name, options_)
                if gone and kind is not PODS:
                    return _json(200, encode(_deleted(target, stored)))
                return self._one(request, target, 200, stored)
            case "deletecollection":
                selected = requests.list_options(target, query)
                options_ = await bodies.delete_options(request)
                found, metadata = listed(self._store, self._store.collection(kind.storage), selected)
                for each in found:
                    self._registry.delete(kind, *each.key, options_)
                return _json(200, self._view(request, target).many(found, metadata))
        raise failures.method_not_allowed()

    async def _create(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        dry = requests.dry_run(request.query, "CreateOptions")
        body = await bodies.document(request)
        namespace, name = target.namespace, target.name
        if target.kind is BINDINGS or target.subresource == "binding":
            bodies.expect(body, "Binding", "v1")
            self._registry.bind(namespace, name or text(body, "metadata", "name"), body, dry_run=dry)
            return _json(201, _SUCCESS)
        if target.subresource == "eviction":
            if text(body, "metadata", "name") not in ("", name):
                raise failures.bad_request("name in URL does not match name in Eviction object")
            options = msgspec.structs.replace(
                bodies.options_of(mapping(body, "deleteOptions"), request.query), dry_run=dry
            )
            self._registry.evict(namespace, name, options)
            return _json(201, _SUCCESS)
        if target.name:
            raise failures.method_not_allowed()
        return self._one(request, target, 201, self._registry.create(target.kind, namespace, body, dry_run=dry))

    async def _patch(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        query, content_type = request.query, request.content_type
        dry = requests.dry_run(query, "PatchOptions")
        applying = content_type == "application/apply-patch+yaml"
        if applying and not query.get("fieldManager"):
            why = "Required value: is required for apply patch"
            raise failures.invalid_options("PatchOptions", "fieldManager", "FieldValueRequired", why)
        if query.get("force") and not applying:
            why = "Forbidden: may not be specified for non-apply patch"
            raise failures.invalid_options("PatchOptions", "force", "FieldValueForbidden", why)
        body = await bodies.read(request)
        kind, namespace, name = target.kind, target.namespace, target.name
        if applying:
            applied = bodies.from_yaml(body)
            if (namespace, name) not in self._store.collection(kind.storage).objects and not target.subresource:
                return self._one(request, target, 201, self._registry.create(kind, namespace, applied, dry_run=dry))
            stored = self._registry.patch(
                kind, namespace, name, content_type, applied, subresource=target.subresource, dry_run=dry
            )
        else:
            stored = self._registry.patch(
                kind, namespace, name, content_type, body, subresource=target.subresource, dry_run=dry
            )
        return self._one(request, target, 200, stored)

    async def _watch(self, request: web.BaseRequest, target: Target, rules: list[Rule]) -> web.StreamResponse:
        options = requests.watch_options(target, request.query)
        collection = self._store.collection(target.kind.storage)
        feed = Feed(self._store, collection, self._view(request, target), options)
        response = web.StreamResponse(status=200, headers=_HEADERS)
        response.enable_chunked_encoding()
        await response.prepare(request)
        bookmark_s = self._bookmark_s if options.bookmarks else None
        stream = WatchStream(response, feed, self._faults, target.resource, rules, bookmark_s)
        with contextlib.suppress(ConnectionResetError):  # the client has gone: there is nobody left to tell
            await stream.run(collection, options.timeout_s or self._random.uniform(1800.0, 3600.0))
        return response

    async def _other(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/_faults":
            return await self._admin(request)
        if request.method not in ("GET", "HEAD"):
            raise failures.method_not_allowed()
        found = discovery.document(request.path, request.headers.get("Accept", ""))
        if found is None:
            if request.path.startswith("/api"):
                raise failures.no_such_resource()
            return web.Response(status=404, text="404 page not found\n")
        content_type, body = found
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _admin(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "POST":
            try:
                command = msgspec.json.decode(await bodies.read(request), type=Command)
            except msgspec.DecodeError as error:
                raise failures.bad_request(f"/_faults: {error}; see the documentation of Rule and Command") from error
            await self._obey(command)
        rules = [msgspec.to_builtins(rule) for rule in self._faults.rules]
        return _json(200, encode({"rules": rules, "requests": dict(self._faults.requests)}))

    async def _obey(self, command: Command) -> None:
        if command.clear:
            self._faults.clear()
        for rule in command.add:
            self._faults.add(rule)
        self._faults.hold(*command.hold)
        self._faults.release(*command.release)
        if command.compact:
            self._faults.compact()
        if command.close_watches:
            self._faults.close_watches(command.close_watches.resource, command.close_watches.how)
        if command.refuse_s:
            await self._refuse(command.refuse_s)

    def _view(self, request: web.BaseRequest, target: Target) -> View:
        accept = request.headers.get("Accept", "*/*")
        return negotiate(target.kind, accept, self._now, request.query.get("includeObject", ""))

    def _one(self, request: web.BaseRequest, target: Target, code: int, stored: Stored) -> web.Response:
        return _json(code, self._view(request, target).one(stored))


_SUCCESS: Final = encode({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})


def _deleted(target: Target, stored: Stored) -> Document:
    details: Document = {"name": target.name}
    if target.kind.group:
        details["group"] = target.kind.group
    details |= {"kind": target.kind.resource, "uid": stored.document["metadata"]["uid"]}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _json(code: int, body: bytes) -> web.Response:
    return web.Response(status=code, body=body, headers=_HEADERS)


def _failed(failure: Failure) -> web.Response:
    if failure.plain:
        response = web.Response(status=failure.code, text=failure.message)
    else:
        response = _json(failure.code, encode(failure.status()))
    if failure.retry_after_s is not None:
        response.headers["Retry-After"] = str(failure.retry_after_s)
    return response


def _cut(request: web.BaseRequest) -> NoReturn:
    """Close the connection at once; cancelling the handler keeps aiohttp from answering."""
    if request.transport is not None:
        request.transport.abort()
    raise asyncio.CancelledError


async def _before(rules: list[Rule]) -> None:
    """What rules do before a request is carried out."""
    latency_s = sum(rule.latency_s for rule in rules)
    if latency_s:
        await asyncio.sleep(latency_s)
    for rule in rules:
        if rule.drop:
            raise Cut
        if rule.status == 429:
            raise failures.too_many_requests(1 if rule.retry_after_s is None else rule.retry_after_s)
        if rule.status == 410:
            raise failures.expired(failures.LIST_EXPIRED)
        if rule.status:
            raise failures.server_error(rule.status, "injected fault", rule.retry_after_s)
