"""A fake Electricity Maps: the API's routes, checks in its order, its bodies and errors, and faults on request.

    python -m carbon_scheduler.sim.electricity_maps --port 0 [--data PATH] [--start T] [--key K]

prints one line `{"url": ..., "pid": ...}` once it listens, and ends with SIGTERM, SIGINT or its parent. Without `--data` the
values are synthetic. Faults are switched over HTTP:

    curl -X POST $URL/_fake/mode -d '{"zone": "DE", "mode": "stale", "number": 2}'     (zone "*": all; mode "live": as before)
    curl $URL/_fake/requests
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

from carbon_scheduler.core.grid import REGION_LABEL, GridZones, UnknownGridZone
from carbon_scheduler.core.model import GridZone
from carbon_scheduler.errors import ConfigError, did_you_mean
from carbon_scheduler.providers.tables import grid_zones
from carbon_scheduler.sim import electricity_maps_answers as answers
from carbon_scheduler.sim.electricity_maps_answers import MODES, Mode, Reply, Rows
from carbon_scheduler.sim.grid_data import Recorded, Synthetic, read_intensity
from carbon_scheduler.units import S_PER_HOUR

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from carbon_scheduler.sim.grid_data import GridData

HISTORY_ROWS: Final = 24
RANGE_H: Final = 240
HUGE_B: Final = 3 * 1024 * 1024
SLOW_S: Final = 30.0
CALLER_ZONE: Final = GridZone("US-NY-NYIS")
"""Where a caller seems to be who neither names a place nor disables the lookup: the real API answers with a zone like this."""
_ROUTE: Final = re.compile(r"/(v3|v4)/carbon-intensity/(latest|history|forecast|past-range)")
_HORIZONS: Final = ("6", "24", "48", "72")
_CLOUDS: Final = {"aws": "aws", "gcp": "gce", "azure": "azure"}


class FakeElectricityMaps:
    """The server. `await start()`, then `url`; `await stop()`.

    `keys` are the keys it knows, none: any will do. `plan` are the zones that the keys may see (None: all), `temporalities` the
    endpoints. `modes` maps a zone or "*" to its behaviour and may be changed at any time. `requests` counts what was asked:
    (key, zone, temporality) -> times, with "" for no key.
    """

    def __init__(
        self,
        data: GridData | None = None,
        *,
        keys: Collection[str] = (),
        plan: Collection[str] | None = None,
        temporalities: Collection[str] = ("latest", "history", "forecast"),
        now: Callable[[], float] = time.time,
        zones: GridZones | None = None,
    ) -> None:
        self.zones = zones or grid_zones()
        self.data: GridData = data or Synthetic(self.zones)
        self.keys = set(keys)
        self.plan = plan
        self.temporalities = set(temporalities)
        self.modes: dict[str, Mode] = {}
        self.requests: Counter[tuple[str, str, str]] = Counter()
        self.url = ""
        self._now = now
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0, address: str = "127.0.0.1") -> None:
        app = web.Application(client_max_size=64 * 1024)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, address, port)
        await site.start()
        bound = self._runner.addresses[0][1]
        self.url = f"http://{address}:{bound}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def count(self, *, key: str | None = None, zone: str | None = None) -> int:
        """How often the carbon data were asked for, by key and zone if given."""
        return sum(
            times
            for (by_key, by_zone, _), times in self.requests.items()
            if key in (None, by_key) and zone in (None, by_zone)
        )

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/_fake/"):
            return await self._admin(request)
        route = _ROUTE.fullmatch(request.path)
        if route is None and request.path not in ("/v3/zones", "/v4/zones", "/health"):
            return _response(answers.not_found(request.method, request.path))
        if request.path == "/health":
            return _response(answers.reply(200, {"status": "ok"}))
        key = request.headers.get("auth-token", "")
        if route is None:
            return _response(self._zones(key))
        version, temporality = route.groups()
        zone, reply = self._place(request.query)
        self.requests[key, zone, temporality] += 1
        if reply is not None:
            return _response(reply)
        mode = self.modes.get(zone, self.modes.get("*", Mode()))
        if mode.name == "slow":
            await asyncio.sleep(SLOW_S if mode.number is None else mode.number)
        if mode.name == "drop":
            if request.transport is not None:
                request.transport.abort()
            return web.Response()  # never arrives
        reply = self._judge(request, key, GridZone(zone), temporality, mode)
        if reply is None:
            reply = self._values(request.query, GridZone(zone), temporality, version, mode)
        return await _spoilt(request, reply, mode)

    def _place(self, query: Mapping[str, str]) -> tuple[str, Reply | None]:
        """The zone meant, or the refusal. Zones are checked before the key."""
        zone = query.get("zone", query.get("zoneKey", ""))
        if zone:
            known = GridZone(zone) in self.zones
            return zone, None if known else answers.bad_request(f"Zone '{zone}' does not exist.")
        scheme = _CLOUDS.get(query.get("dataCenterProvider", ""), "none")
        region = query.get("dataCenterRegion", "")
        here = self.zones.of_node({REGION_LABEL: region}, f"{scheme}://", None).grid_zone
        if here is not None:
            return here, None
        strict = query.get("disableCallerLookup") == "true" or query.get("shouldUseFallbackCallerLookup") == "false"
        return ("", answers.bad_request('Missing arguments "zone"')) if strict else (CALLER_ZONE, None)

    def _judge(self, request: web.Request, key: str, zone: GridZone, temporality: str, mode: Mode) -> Reply | None:
        """The checks of the real one in its order: token, plan, arguments, data."""
        if not key:
            return answers.invalid_token(answers.NO_TOKEN)
        if mode.name == "bad-key" or (self.keys and key not in self.keys) or request.method != "GET":
            return answers.invalid_token(answers.WRONG_TOKEN)
        match mode.name:
            case "throttle-401":
                return answers.reply(401, {"message": "Unauthorized"})
            case "429":
                after = () if mode.number is None else (("Retry-After", f"{mode.number:g}"),)
                return Reply(429, b'{"message":"Too many requests"}', headers=after)
            case "html-500":
                return answers.server_fault()
            case "redirect":
                return Reply(302, b"", answers.HTML, (("Location", f"{self.url}/v4/zones"),))
        if (
            mode.name == "plan"
            or temporality not in self.temporalities
            or (self.plan is not None and zone not in self.plan)
        ):
            return answers.outside_plan(zone, temporality)
        factor_type = request.query.get("emissionFactorType", "lifecycle")
        if factor_type not in ("lifecycle", "direct"):
            return answers.bad_request("Valid emission factor types are: lifecycle, direct")
        return answers.no_recent_data(zone) if mode.name == "no-data" else None

    def _values(self, query: Mapping[str, str], zone: GridZone, temporality: str, version: str, mode: Mode) -> Reply:
        now_s = self._now()
        shown = CALLER_ZONE if mode.name == "wrong-zone" and zone != CALLER_ZONE else zone
        if mode.name == "wrong-zone" and zone == CALLER_ZONE:
            shown = GridZone("DE")
        factor_type = query.get("emissionFactorType", "lifecycle")
        rows = Rows(shown, mode, now_s, factor_type, version, lambda hour_s: self.data.g_per_kwh(zone, hour_s))
        newest_s = rows.newest_s()
        hourly: dict[str, object] = {} if mode.name == "v3-minimal" else {"temporalGranularity": "hourly"}
        if temporality == "latest":
            row = rows.row(newest_s)
            return answers.reply(200, {**row, **hourly}) if row is not None else answers.no_recent_data(zone)
        if temporality == "history":
            hours = [newest_s - (HISTORY_ROWS - 1 - back) * S_PER_HOUR for back in range(HISTORY_ROWS)]
            past = _present(rows.row(hour_s) for hour_s in hours)
            return answers.reply(200, {"zone": shown, "history": past, **hourly})
        if temporality == "forecast":
            horizon = query.get("horizonHours", "24")
            if horizon not in _HORIZONS:
                return answers.bad_request(f"Valid horizons are: {', '.join(_HORIZONS)}")
            present_s = now_s - now_s % S_PER_HOUR
            future = _present(rows.future(present_s + ahead * S_PER_HOUR) for ahead in range(int(horizon) + 1))
            return answers.reply(200, {"zone": shown, "forecast": future, "updatedAt": answers.iso(now_s), **hourly})
        start_s, end_s = _time(query.get("start", "")), _time(query.get("end", ""))
        if start_s is None or end_s is None:
            return answers.bad_request(f'Missing or invalid date parameter "{"start" if start_s is None else "end"}"')
        count = int((end_s - start_s) // S_PER_HOUR)
        if count > RANGE_H:
            return answers.bad_request("The range may not exceed 10 days for hourly values")
        first_s = start_s - start_s % S_PER_HOUR
        past = _present(
            rows.row(first_s + i * S_PER_HOUR) for i in range(max(count, 0)) if first_s + i * S_PER_HOUR <= newest_s
        )
        return answers.reply(200, {"zone": shown, "data": past, **hourly})

    def _zones(self, key: str) -> Reply:
        """Public; a key adds what it may see, and a wrong one is refused."""
        if key and self.keys and key not in self.keys:
            return answers.invalid_token(answers.WRONG_TOKEN)
        words = [f"carbon-intensity/{temporality}" for temporality in sorted(self.temporalities)]
        return answers.zones_body(
            self.zones, (lambda zone: words if self.plan is None or zone in self.plan else []) if key else None
        )

    async def _admin(self, request: web.Request) -> web.Response:
        """The switchboard. Keys are told by their order of appearance, never as they are."""
        if request.path == "/_fake/requests":
            keys = list(dict.fromkeys(key for key, _, _ in self.requests))
            rows = [
                {"key": keys.index(key) + 1 if key else 0, "zone": zone, "temporality": temporality, "count": times}
                for (key, zone, temporality), times in self.requests.items()
            ]
            return web.json_response({"total": self.count(), "requests": rows, "data": self.data.label})
        if request.path == "/_fake/reset":
            self.modes.clear()
            self.requests.clear()
            return web.json_response({})
        if request.path == "/_fake/mode" and request.method == "POST":
            try:
                zone, mode = read_mode(await request.read(), self.zones)
            except ValueError as error:
                return web.json_response({"error": str(error)}, status=400)
            self.modes[zone] = mode
            return web.json_response({"zone": zone, "mode": mode.name, "number": mode.number})
        return web.json_response({"error": "expected /_fake/mode (POST), /_fake/requests or /_fake/reset"}, status=404)


def read_mode(body: bytes, zones: GridZones) -> tuple[str, Mode]:
    """`{"zone": "DE", "mode": "stale", "number": 2}`. Raises ValueError with what is wrong."""
    tree = json.loads(body)
    if not isinstance(tree, dict):
        raise ValueError(f"got a JSON {type(tree).__name__}, expected an object with zone and mode")
    zone, name, number = tree.get("zone", "*"), tree.get("mode"), tree.get("number")
    known = next((mode for mode in MODES if mode == name), None)
    if known is None:
        raise ValueError(f"mode: got {name!r}, expected one of {', '.join(MODES)}.{did_you_mean(str(name), MODES)}")
    if number is not None and (isinstance(number, bool) or not isinstance(number, (int, float))):
        raise ValueError(f"number: got {number!r}, expected a number or nothing")
    if zone != "*":
        resolved = zones.resolve(str(zone))
        if isinstance(resolved, UnknownGridZone):
            raise ValueError(f"zone: got {zone!r}, expected a grid zone or *")
        zone = resolved
    return zone, Mode(known, number)


def _present(rows: Iterable[dict[str, object] | None]) -> list[dict[str, object]]:
    return [row for row in rows if row is not None]


def _time(text: str) -> float | None:
    try:
        time_ = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (time_ if time_.tzinfo else time_.replace(tzinfo=UTC)).timestamp()


def _response(reply: Reply) -> web.Response:
    headers = {"Content-Type": reply.content_type, "X-Powered-By": "Express", **dict(reply.headers)}
    return web.Response(status=reply.status, body=reply.body, headers=headers)


async def _spoilt(request: web.Request, reply: Reply, mode: Mode) -> web.StreamResponse:
    """The reply, or what a faulty network or server makes of it."""
    if mode.name == "truncated":
        return _response(Reply(reply.status, reply.body[: len(reply.body) // 2], reply.content_type))
    if mode.name == "huge":
        return _response(
            Reply(reply.status, reply.body[:-1] + b',"padding":"' + b"x" * HUGE_B + b'"}', reply.content_type)
        )
    if mode.name == "cut":
        response = web.StreamResponse(status=reply.status, headers={"Content-Type": reply.content_type})
        response.content_length = len(reply.body)
        await response.prepare(request)
        await response.write(reply.body[: len(reply.body) // 2])
        if request.transport is not None:
            request.transport.close()
        return response
    return _response(reply)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m carbon_scheduler.sim.electricity_maps", description="A fake Electricity Maps API."
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port (default)")
    parser.add_argument(
        "--data", type=Path, action="append", default=[], help="CSV file or folder; without it: synthetic"
    )
    parser.add_argument("--start", help="the moment of the data that plays as now, e.g. 2022-06-01T00:00Z")
    parser.add_argument("--key", action="append", default=[], help="a key to accept (default: any)")
    options = parser.parse_args(argv)
    try:
        data = _data(options.data, options.start)
    except ConfigError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return asyncio.run(_run(FakeElectricityMaps(data, keys=options.key), options.port))


def _data(paths: Sequence[Path], start: str | None) -> GridData | None:
    """Recorded data play from `start` on, else from the present time of the year on."""
    if not paths:
        if start:
            raise ConfigError("--start: synthetic data are the same every day; it needs --data")
        return None
    hours = read_intensity(paths, grid_zones())
    start_s = _time(start) if start else None
    if start and start_s is None:
        raise ConfigError(f"--start: got {start!r}, expected a time such as 2022-06-01T00:00Z")
    now_s = time.time()
    shift_s = 0.0 if start_s is None else start_s - start_s % S_PER_HOUR - (now_s - now_s % S_PER_HOUR)
    return Recorded(hours, shift_s)


async def _run(server: FakeElectricityMaps, port: int) -> int:
    parent = os.getppid()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await server.start(port)
    except OSError as error:
        print(f"Error: cannot listen on port {port}: {error.strerror or error}; choose another", file=sys.stderr)
        return 3
    print(json.dumps({"url": server.url, "pid": os.getpid()}), flush=True)
    # Asked, not told by the kernel: a death signal comes when the starting *thread* ends.
    while os.getppid() == parent and not stop.is_set():
        try:
            await asyncio.wait_for(stop.wait(), 0.5)
        except TimeoutError:
            continue
    await server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
