"""Bodies of requests: read within the limit, decoded, or refused as the real server does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import yaml
from aiohttp import web

from carbon_scheduler.sim.apiserver import failures, protobuf, requests
from carbon_scheduler.sim.apiserver.documents import Document, decode, items, mapping, text
from carbon_scheduler.sim.apiserver.registry import DeleteOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BODY_B: Final = 3 * 1024 * 1024


async def read(request: web.BaseRequest) -> bytes:
    """The body. Raises Failure 413 beyond 3 MiB (the request is made with that `client_max_size`)."""
    if (request.content_length or 0) > MAX_BODY_B:
        raise failures.too_large()
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise failures.too_large() from error


async def document(request: web.BaseRequest) -> Document:
    """The body as an object. Raises Failure 400, 413, 415."""
    body = await read(request)
    match request.content_type:
        case "application/json" | "application/octet-stream":
            return from_json(body)
        case "application/yaml":
            return from_yaml(body)
        case protobuf.CONTENT_TYPE:
            return protobuf.decode(body)
    raise failures.unsupported_body()


def from_json(body: bytes) -> Document:
    """Raises Failure 400."""
    try:
        found = decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise failures.bad_request(f"couldn't get version/kind; json parse error: {error}") from error
    if not isinstance(found, dict):
        wrong = f"cannot unmarshal {type(found).__name__} into Go value"
        raise failures.bad_request(f"couldn't get version/kind; json parse error: json: {wrong}")
    return found


def from_yaml(body: bytes) -> Document:
    """Raises Failure 400."""
    try:
        found = yaml.safe_load(body)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise failures.bad_request(f"error converting YAML to JSON: {error}") from error
    if not isinstance(found, dict):
        raise failures.bad_request("error converting YAML to JSON: not an object")
    return found


def expect(body: Document, kind: str, api_version: str) -> None:
    """Raise Failure 400 when the body says that it is something else."""
    if text(body, "kind") not in ("", kind) or text(body, "apiVersion") not in ("", api_version):
        said = f'{text(body, "kind")} in version "{text(body, "apiVersion")}"'
        raise failures.bad_request(f"{said} cannot be handled as a {kind}")


async def delete_options(request: web.BaseRequest) -> DeleteOptions:
    """The options of a DELETE, from its body and its query. Raises Failure 400, 413, 422."""
    return options_of(await document(request) if await read(request) else {}, request.query)


def options_of(body: Document, query: Mapping[str, str]) -> DeleteOptions:
    grace = body.get("gracePeriodSeconds")
    preconditions = mapping(body, "preconditions")
    return DeleteOptions(
        grace_period_s=grace if isinstance(grace, int) else requests.number(query, "gracePeriodSeconds"),
        uid=text(preconditions, "uid"),
        resource_version=text(preconditions, "resourceVersion"),
        dry_run=requests.dry_run(query, "DeleteOptions") or "All" in items(body, "dryRun"),
    )
