"""The application: routes over `CallControl`. It holds no call state of its own but answers by Idempotency-Key."""

import asyncio
import hashlib
import math
import time
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import structlog
from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from sipagent.errors import LocalError
from sipagent.http import captures, problems, recordings
from sipagent.http import events as sse
from sipagent.http.auth import RequireToken
from sipagent.http.control import CallControl, Refusal, Refused
from sipagent.http.idempotency import IdempotencyTable
from sipagent.http.metrics import Exposition
from sipagent.http.middleware import Gate
from sipagent.http.models import (
    Accepted,
    CallBody,
    CallDetail,
    CallList,
    DigitsBody,
    HangupBody,
    PlaceCallBody,
    ProblemBody,
    RejectBody,
    TransferBody,
    WhisperBody,
)
from sipagent.http.problems import Problem
from sipagent.http.rate import RateLimit
from sipagent.service import destinations
from sipagent.service.config.tree import Config
from sipagent.service.destinations import DestinationPolicy

log = structlog.get_logger(__name__)

IdempotencyKey = Annotated[
    str | None, Header(pattern=r"^[!-~]{1,255}$", description="the same key places one call only")
]
SVG: Final = "image/svg+xml"
PRIVATE: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ProblemBody, "content": {problems.MEDIA_TYPE: {}}} for status in (401, 404, 409, 422, 429, 503)
}


def create_app(
    config: Config,
    control: CallControl,
    stopping: asyncio.Event | None = None,
    now: Callable[[], float] = time.monotonic,
    keepalive_seconds: float = 15.0,
) -> FastAPI:
    """The ASGI application; setting `stopping` ends all event streams."""
    app = FastAPI(title="sipagent", summary="Place, watch and steer the calls of this user agent.", redoc_url=None)
    exposition = Exposition(control.metrics)
    problems.install(app)
    app.include_router(_probes(control, exposition))
    token = "" if config.http.listen.startswith("unix:") else config.http.token
    guarded = APIRouter(prefix="/v1", dependencies=[Depends(RequireToken(token))], responses=REFUSALS)
    policy, rate = DestinationPolicy.of(config), RateLimit(config.limits.place_per_minute)
    app.state.policy, app.state.rate = policy, rate
    _add_placing(guarded, control, policy, rate, now)
    _add_steering(guarded, control, policy)
    captures.add_routes(guarded, control)
    recordings.add_routes(guarded, control)
    _add_watching(guarded, control, stopping or asyncio.Event(), keepalive_seconds)
    app.include_router(guarded)
    app.add_middleware(Gate, exposition=exposition)
    return app


def adopt(app: FastAPI, config: Config) -> None:
    """Judge what is asked for by the limits and trunks of another configuration from now on."""
    app.state.policy.adopt(config)
    app.state.rate.set(config.limits.place_per_minute)


def _probes(control: CallControl, exposition: Exposition) -> APIRouter:
    """Open to all who reach the endpoint: they name no call and no number."""
    router = APIRouter(tags=["probes"])

    @router.get("/healthz")
    async def health() -> dict[str, Any]:
        """Alive: the planes, and each trunk's registration."""
        return dict(control.health())

    @router.get("/readyz", responses={503: {"description": "new calls are not welcome"}})
    async def ready() -> JSONResponse:
        """Ready for new calls, or what is missing."""
        is_ready, details = control.ready()
        return JSONResponse({"ready": is_ready, **details}, 200 if is_ready else 503)

    @router.get("/metrics")
    async def metrics(request: Request) -> Response:
        """Prometheus metrics."""
        body, content_type = exposition.render(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type})

    return router


def _add_placing(
    router: APIRouter, control: CallControl, policy: DestinationPolicy, rate: RateLimit, now: Callable[[], float]
) -> None:
    answers: IdempotencyTable[Accepted] = IdempotencyTable()

    @router.post("/calls", status_code=202, response_model=Accepted, tags=["calls"])
    async def place(body: PlaceCallBody, response: Response, idempotency_key: IdempotencyKey = None) -> Accepted:
        """Place a call. It has only begun when the answer comes: follow its events."""
        fingerprint = hashlib.sha256(body.model_dump_json().encode()).digest()
        if idempotency_key is not None:
            try:
                given = answers.find(idempotency_key, fingerprint, now())
            except LocalError as error:
                raise Problem(422, "idempotency-key-reused", "Idempotency-Key is used", str(error)) from error
            if given is not None:
                response.headers["Idempotency-Replayed"] = "true"
                return given
        _check(policy, body.to)
        wait = rate.take(now())
        if wait:
            raise Refused(Refusal.TOO_MANY_REQUESTS, "[limits] place_per_minute is reached", math.ceil(wait))
        view = control.place(body.request())
        # The audit line of every call placed from outside; who asked is known by the token alone.
        log.info("call placed by http", call_id=view.id, to=body.to, trunk=view.trunk, brain=view.brain)
        accepted = Accepted(id=view.id, state=view.state)
        if idempotency_key is not None:
            answers.keep(idempotency_key, fingerprint, accepted, now())
        return accepted


def _add_steering(router: APIRouter, control: CallControl, policy: DestinationPolicy) -> None:
    @router.post("/calls/{call_id}/hangup", status_code=202, response_model=Accepted, tags=["calls"])
    async def hangup(call_id: str, body: HangupBody | None = None) -> Accepted:
        """End a call; no error when it is over already."""
        control.hangup(call_id, body.reason if body else "")
        return _accepted(control, call_id)

    @router.post("/calls/{call_id}/answer", status_code=202, response_model=Accepted, tags=["calls"])
    async def answer(call_id: str) -> Accepted:
        """Answer a caller whose state is early: its brain has accepted with early media."""
        control.answer(call_id)
        return _accepted(control, call_id)

    @router.post("/calls/{call_id}/reject", status_code=202, response_model=Accepted, tags=["calls"])
    async def reject(call_id: str, body: RejectBody | None = None) -> Accepted:
        """Refuse a caller who is not answered yet."""
        body = body or RejectBody()
        control.reject(call_id, body.status, body.reason, body.contact or "", body.retry_after_seconds)
        return _accepted(control, call_id)

    @router.post("/calls/{call_id}/dtmf", status_code=202, response_model=Accepted, tags=["calls"])
    async def press_digits(call_id: str, body: DigitsBody) -> Accepted:
        """Press keys."""
        control.press_digits(call_id, body.digits)
        return _accepted(control, call_id)

    @router.post("/calls/{call_id}/transfer", status_code=202, response_model=Accepted, tags=["calls"])
    async def transfer(call_id: str, body: TransferBody) -> Accepted:
        """Transfer the far end; its events tell how that goes."""
        control.call(call_id)  # an unknown call before an objection to the target
        _check(policy, body.to)
        control.transfer(call_id, body.wish())
        return _accepted(control, call_id)

    @router.post("/calls/{call_id}/whisper", status_code=202, response_model=Accepted, tags=["calls"])
    async def whisper(call_id: str, body: WhisperBody) -> Accepted:
        """Say something to one of two whom the agent has joined, unheard by the other."""
        control.whisper(call_id, body.text, body.to)
        return _accepted(control, call_id)

    @router.post("/calls/{call_id}/step-in", status_code=202, response_model=Accepted, tags=["calls"])
    async def step_in(call_id: str) -> Accepted:
        """Let the agent take part in the talk that it listens to."""
        control.step_in(call_id, True)
        return _accepted(control, call_id)

    @router.post("/calls/{call_id}/step-out", status_code=202, response_model=Accepted, tags=["calls"])
    async def step_out(call_id: str) -> Accepted:
        """Let the agent listen only, again."""
        control.step_in(call_id, False)
        return _accepted(control, call_id)

    @router.post("/calls/{call_id}/take-back", status_code=202, response_model=Accepted, tags=["calls"])
    async def take_back(call_id: str) -> Accepted:
        """Let the colleague go: the caller is the agent's again."""
        control.take_back(call_id)
        return _accepted(control, call_id)

    @router.post("/calls/{call_id}/hold", status_code=202, response_model=Accepted, tags=["calls"])
    async def hold(call_id: str) -> Accepted:
        """Put the far end on hold: it hears the music that is configured."""
        control.hold(call_id, True)
        return _accepted(control, call_id)

    @router.post("/calls/{call_id}/resume", status_code=202, response_model=Accepted, tags=["calls"])
    async def resume(call_id: str) -> Accepted:
        """Take the far end back from hold."""
        control.hold(call_id, False)
        return _accepted(control, call_id)


def _add_watching(router: APIRouter, control: CallControl, stopping: asyncio.Event, keepalive_seconds: float) -> None:
    @router.get("/calls", response_model=CallList, tags=["calls"])
    async def calls() -> CallList:
        """Calls in progress, and those that ended a short while ago."""
        return CallList(calls=[CallBody.of(view) for view in control.calls()])

    @router.get("/calls/{call_id}", response_model=CallDetail, tags=["calls"])
    async def call(call_id: str) -> CallDetail:
        """One call, with what was said so far."""
        return CallDetail.of(control.call(call_id))

    @router.get(
        "/calls/{call_id}/ladder",
        response_class=PlainTextResponse,
        responses={200: {"content": {SVG: {}}, "description": "text, or a drawing if that is asked for"}},
        tags=["calls"],
    )
    async def ladder(
        call_id: str, format: Literal["text", "svg", ""] = "", accept: Annotated[str, Header()] = ""
    ) -> Response:
        """The call's SIP messages, secrets masked, as long as the call is remembered."""
        if format == "svg" or (not format and SVG in accept):
            headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
            return Response(control.ladder_svg(call_id), media_type=SVG, headers=PRIVATE | headers)
        return PlainTextResponse(control.ladder(call_id), headers=PRIVATE)

    @router.get(
        "/calls/{call_id}/events",
        response_class=StreamingResponse,
        responses={200: {"content": {sse.MEDIA_TYPE: {}}, "description": "server-sent events"}},
        tags=["calls"],
    )
    async def events(call_id: str, last_event_id: Annotated[str | None, Header()] = None) -> StreamingResponse:
        """Follow a call: what happened so far, then what happens, until it ends."""
        happening = control.events(call_id, sse.resume_after(last_event_id))
        body = sse.stream(happening, stopping, keepalive_seconds)
        return StreamingResponse(
            body, media_type=sse.MEDIA_TYPE, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )


def _accepted(control: CallControl, call_id: str) -> Accepted:
    return Accepted(id=call_id, state=control.call(call_id).state)


def _check(policy: DestinationPolicy, to: str) -> None:
    objection = policy.objection(destinations.parse(to))
    if objection:
        raise Refused(Refusal.DESTINATION_NOT_ALLOWED, objection)
