"""How a brain answers turns: by rules, and by a model behind a real HTTP connection whose answers are scripted."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, cast

import pytest

from sipagent.brain import Brain, End, Tool, Transition, tool
from sipagent.brain.answering import ResponderOptions
from sipagent.brain.responder import BrainResponder
from sipagent.errors import ServiceError
from sipagent.pipeline.chat import ChatModel, Usage
from sipagent.pipeline.context import Context
from sipagent.pipeline.frames import EndCall, Speak
from sipagent.pipeline.responder import Reply, UserTurn
from sipagent.pipeline.services.openai_chat import ChatOptions, OpenAIChat
from tests.brain.fake_call import FakeCall
from tests.brain.http_server import Request, Scripted, answer, scripted_http

QUICK = ResponderOptions(filler_after_ms=50, tool_seconds=0.5, tool_rounds=3)
QUIET = ResponderOptions(filler="", filler_after_ms=50, tool_seconds=0.5, tool_rounds=3)  # however slow the machine


class Call(FakeCall):
    """A call whose responder's reports are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.tools: list[tuple[str, Any, Any]] = []
        self.tokens: list[Usage] = []
        self.transferring = self.aside = False
        self.answers = 0

    @property
    def ending(self) -> str | None:
        return self.hung_up

    def answered(self) -> None:
        self.answers += 1

    def tool_called(self, name: str, arguments: Mapping[str, Any], result: Any, took_ms: float) -> None:
        self.tools.append((name, arguments, result))

    def tokens_used(self, usage: Usage) -> None:
        self.tokens.append(usage)


async def overheard(responder: BrainResponder, text: str, speaker: str = "", digits: str = "") -> list[Reply]:
    context = Context()
    context.begin(text)
    return [part async for part in responder.respond(UserTurn(text, digits, speaker), context)]


async def answers(
    responder: BrainResponder, text: str, context: Context | None = None, digits: str = ""
) -> list[Reply]:
    context = context if context is not None else Context()
    context.begin(text)
    return [part async for part in responder.respond(UserTurn(text, digits), context)]


# ---- while a colleague is on the line


class Coach(Brain):
    """Answers the caller, and whispers when it overhears something."""

    def is_finished(self) -> bool:
        return True

    async def on_user_turn(self, text: str) -> str:
        await asyncio.sleep(0.05)
        self.call.joined()  # type: ignore[attr-defined]
        return "You are being connected."

    async def on_overheard(self, speaker: str, text: str) -> str:
        return f"The {speaker} said {text}."

    async def on_digit(self, digit: str) -> str:
        return f"Key {digit}."


async def test_what_is_overheard_is_answered_by_its_own_hook_and_ends_nothing() -> None:
    responder, call = coached()
    call.aside = True
    assert await overheard(responder, "no") == ["The caller said no."]
    assert await overheard(responder, "yes", "colleague") == ["The colleague said yes."]
    assert await overheard(responder, "", digits="5") == []


async def test_in_a_three_way_call_the_colleague_is_still_overheard() -> None:
    responder, _ = coached()
    assert (await overheard(responder, "yes", "colleague"))[0] == "The colleague said yes."


async def test_an_answer_that_comes_when_the_caller_has_been_joined_is_not_whispered_to_the_colleague() -> None:
    responder, call = coached()
    call.joined = lambda: setattr(call, "aside", True)  # type: ignore[attr-defined]
    assert not any(await overheard(responder, "a human, please"))


def coached() -> tuple[BrainResponder, Call]:
    brain, call = Coach(), Call()
    return responder_of(brain, None, call=call, options=QUIET), call


# ---- led by rules


class Ruled(Brain):
    async def on_user_turn(self, text: str) -> Any:
        if text == "stream":
            return self.stream()
        if text == "bye":
            self.call.hangup("polite")
            return "Bye!"
        return None if text == "nothing" else f"You said {text}."

    async def stream(self) -> AsyncIterator[str]:
        yield "One, "
        yield "two."

    async def on_digit(self, digit: str) -> str:
        return f"Key {digit}."


class Generating(Brain):
    async def on_user_turn(self, text: str) -> AsyncIterator[str]:  # type: ignore[override]
        yield "a"
        yield "b"


def ruled(brain: Brain | None = None, options: ResponderOptions = QUIET) -> BrainResponder:
    return responder_of(brain or Ruled(), None, options=options)


async def test_a_rule_led_brain_answers_with_a_text_or_a_stream_or_nothing() -> None:
    assert await answers(ruled(), "hello") == ["You said hello."]
    assert await answers(ruled(), "stream") == ["One, ", "two."]
    assert await answers(ruled(), "nothing") == []
    assert await answers(ruled(Generating()), "x") == ["a", "b"]


async def test_keys_go_to_on_digit() -> None:
    assert await answers(ruled(), "", digits="42") == ["Key 42."]


async def test_a_hang_up_ends_the_call_after_the_answer() -> None:
    assert await answers(ruled(), "bye") == ["Bye!", EndCall("polite")]


async def test_a_finished_brain_ends_the_call_after_the_answer() -> None:
    class Finished(Ruled):
        def is_finished(self) -> bool:
            return True

    assert await answers(ruled(Finished()), "x") == ["You said x.", EndCall("finished")]


async def test_a_slow_hook_is_bridged_and_given_up_at_its_limit() -> None:
    class Stuck(Ruled):
        async def on_user_turn(self, text: str) -> str:
            await asyncio.sleep(60)
            return "late"

    parts: list[Reply] = []
    context = Context()
    context.begin("x")
    with pytest.raises(ServiceError, match=r"no answer within 0\.5 s"):
        async for part in ruled(Stuck(), QUICK).respond(UserTurn("x"), context):
            parts.append(part)
    assert parts == [Speak("One moment, please.")]


async def test_a_hook_that_transfers_the_call_is_not_given_up_and_says_its_outcome_even_when_interrupted() -> None:
    class Transfers(Ruled):
        gate = asyncio.Event()

        async def on_user_turn(self, text: str) -> str:
            await self.gate.wait()
            return "Nobody answers."

    brain, call = Transfers(), Call()
    call.transferring = True
    responder = responder_of(brain, None, call)
    stream = responder.respond(UserTurn("x"), Context())
    assert await anext(stream) == ""
    await cast(AsyncGenerator[Reply, None], stream).aclose()
    assert not responder.answering and call.answers == 1
    brain.gate.set()
    async with asyncio.timeout(1):
        while not call.said:
            await asyncio.sleep(0)
    assert call.said == ["Nobody answers."]


# ---- led by a model


class Shop(Brain):
    def __init__(self) -> None:
        self.ordered: list[str] = []
        self.gate = asyncio.Event()

    def system_prompt(self) -> str:
        return "You sell tea."

    @tool
    async def order(self, item: str) -> dict[str, str]:
        """Order something."""
        self.ordered.append(item)
        return {"ordered": item}

    @tool(filler="Let me look.")
    async def slow(self) -> str:
        """Takes its time."""
        await self.gate.wait()
        self.ordered.append("slow")
        return "found"

    @tool
    def broken(self) -> None:
        """Fails."""
        raise RuntimeError("secret detail")

    @tool
    def leave(self) -> End:
        """End the call."""
        return End("sold", "Goodbye, then.")

    @tool
    def move(self) -> Transition:
        """Go to the next node."""
        return Transition("Ask for milk.", (Tool("milk", "Milk.", {"type": "object", "properties": {}}),), "Moving on.")


def text(*pieces: str) -> bytes:
    return b"".join(event({"content": piece}) for piece in pieces) + usage() + b"data: [DONE]\n\n"


def calling(name: str, arguments: str = "{}", number: int = 0) -> bytes:
    function = {"name": name, "arguments": arguments}
    return event({"tool_calls": [{"index": number, "id": f"id{number}", "type": "function", "function": function}]})


def event(delta: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"


def usage() -> bytes:
    return b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}\n\n'


class Endpoint:
    """Chat completions with scripted answers, one after the other; the last is repeated."""

    def __init__(self, *replies: bytes | tuple[str, bytes], delay_s: float = 0.0) -> None:
        self.replies, self.delay_s, self.count = replies, delay_s, 0

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path.endswith("/models"):
            answer(writer, {})
            return
        reply = self.replies[min(self.count, len(self.replies) - 1)]
        self.count += 1
        await asyncio.sleep(self.delay_s)
        if isinstance(reply, tuple):
            answer(writer, reply[1], reply[0])
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + reply)


def chat_of(server: Scripted, first_token_seconds: float = 2.0) -> OpenAIChat:
    return OpenAIChat(ChatOptions(server.url, "m", first_token_seconds=first_token_seconds))


def responder_of(
    brain: Brain, chat: ChatModel | None, call: Call | None = None, options: ResponderOptions = QUIET
) -> BrainResponder:
    call = call or Call()
    brain.call = call
    return BrainResponder(brain, chat, options, call)


async def turn(
    brain: Brain,
    *replies: bytes | tuple[str, bytes],
    delay_s: float = 0.0,
    context: Context | None = None,
    options: ResponderOptions = QUIET,
) -> tuple[list[Reply], list[Any], Call]:
    """One turn with the endpoint; returns what was answered, the request bodies, and the call."""
    call = Call()
    async with scripted_http(Endpoint(*replies, delay_s=delay_s)) as server, chat_of(server) as chat:
        parts = await answers(responder_of(brain, chat, call, options), "tea please", context)
    return parts, [request.json() for request in server.requests], call


async def test_text_is_passed_on_as_it_comes_with_prompt_and_tools_sent() -> None:
    parts, requests, call = await turn(Shop(), text("Hello", " there."))
    assert parts == ["Hello", " there."]
    assert requests[0]["messages"] == [
        {"role": "system", "content": "You sell tea."},
        {"role": "user", "content": "tea please"},
    ]
    assert [offered["function"]["name"] for offered in requests[0]["tools"]][:2] == ["order", "slow"]
    assert call.tokens == [Usage(7, 3)]


async def test_a_tool_is_run_and_its_result_goes_back_to_the_model() -> None:
    shop, context = Shop(), Context()
    parts, requests, call = await turn(shop, calling("order", '{"item": "tea"}'), text("Done."), context=context)
    assert parts == ["Done."] and shop.ordered == ["tea"]
    assert requests[1]["messages"][-2:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "id0", "type": "function", "function": {"name": "order", "arguments": '{"item": "tea"}'}}
            ],
        },
        {"role": "tool", "content": '{"ordered":"tea"}', "tool_call_id": "id0"},
    ]
    assert call.tools == [("order", {"item": "tea"}, {"ordered": "tea"})]
    context.commit()
    assert [message.role for message in context.messages()] == ["user", "assistant", "tool"]


async def test_several_calls_of_one_answer_run_in_order() -> None:
    shop = Shop()
    both = calling("order", '{"item": "tea"}', 0) + calling("order", '{"item": "milk"}', 1)
    await turn(shop, both, text("Both."))
    assert shop.ordered == ["tea", "milk"]


async def test_what_goes_wrong_in_a_tool_is_told_to_the_model_without_details() -> None:
    calls = calling("broken", number=0) + calling("order", "{nonsense", number=1) + calling("nope", number=2)
    parts, requests, _ = await turn(Shop(), calls, text("Sorry about that."))
    results = [message["content"] for message in requests[1]["messages"] if message["role"] == "tool"]
    assert results == [
        '{"error":"broken failed: RuntimeError"}',
        '{"error":"the arguments are not a JSON object"}',
        '{"error":"there is no tool nope"}',
    ]
    assert parts == ["Sorry about that."]


async def test_a_slow_tool_is_bridged_by_its_filler_and_given_up_at_its_limit() -> None:
    parts, requests, _ = await turn(Shop(), calling("slow"), text("Nothing found."))
    assert parts == [Speak("Let me look."), "Nothing found."]
    assert requests[1]["messages"][-1]["content"] == '{"error":"slow took longer than 0.5 seconds"}'


async def test_a_slow_model_is_bridged_by_a_filler_once() -> None:
    parts, _, _ = await turn(Shop(), calling("order", '{"item": "tea"}'), text("Done."), delay_s=0.2, options=QUICK)
    assert parts == [Speak("One moment, please."), "Done."]


async def test_an_end_is_said_and_ends_the_call() -> None:
    parts, requests, _ = await turn(Shop(), calling("leave"))
    assert parts == [Speak("Goodbye, then."), EndCall("sold")] and len(requests) == 1


async def test_a_transition_changes_prompt_and_tools_for_the_rest_of_the_call() -> None:
    parts, requests, _ = await turn(Shop(), calling("move"), text("With milk?"))
    assert parts == [Speak("Moving on."), "With milk?"]
    assert requests[1]["messages"][0]["content"] == "Ask for milk."
    assert [offered["function"]["name"] for offered in requests[1]["tools"]] == ["milk"]


async def test_a_model_that_calls_tools_for_ever_is_asked_to_answer_without() -> None:
    endpoint = Endpoint(calling("order", '{"item": "tea"}'))
    async with scripted_http(endpoint) as server, chat_of(server) as chat:
        with pytest.raises(ServiceError, match="said nothing"):
            await answers(responder_of(Shop(), chat), "tea please")
    assert len(server.requests) == QUICK.tool_rounds and "tools" not in server.requests[-1].json()


@pytest.mark.parametrize(
    ("reply", "problem"),
    [(text(), "said nothing"), (("401 Unauthorized", b'{"error":{"message":"bad key"}}'), "bad key")],
)
async def test_a_model_that_says_nothing_or_refuses_is_a_failure_of_the_service(reply: Any, problem: str) -> None:
    async with scripted_http(Endpoint(reply)) as server, chat_of(server) as chat:
        with pytest.raises(ServiceError, match=problem):
            await answers(responder_of(Shop(), chat), "hello")


async def test_an_endpoint_that_is_not_there_is_a_failure_of_the_service() -> None:
    async with OpenAIChat(ChatOptions("http://127.0.0.1:9/v1", "m")) as chat:
        with pytest.raises(ServiceError):
            await answers(responder_of(Shop(), chat), "hello")


async def test_a_stream_that_breaks_off_keeps_what_was_said() -> None:
    parts: list[Reply] = []
    endpoint = Endpoint(event({"content": "I think"}) + b"data: not json\n\n")
    async with scripted_http(endpoint) as server, chat_of(server) as chat:
        context = Context()
        context.begin("hello")
        with pytest.raises(ServiceError):
            async for part in responder_of(Shop(), chat).respond(UserTurn("hello"), context):
                parts.append(part)
    assert parts == ["I think"]


async def test_an_endpoint_that_hangs_is_bridged_and_then_given_up() -> None:
    parts: list[Reply] = []
    endpoint = Endpoint(text("late"), delay_s=1)
    async with scripted_http(endpoint) as server, chat_of(server, first_token_seconds=0.2) as chat:
        context = Context()
        context.begin("hello")
        with pytest.raises(ServiceError, match="chat"):
            async for part in responder_of(Shop(), chat, options=QUICK).respond(UserTurn("hello"), context):
                parts.append(part)
    assert parts == [Speak("One moment, please.")]


async def test_a_tool_at_work_when_the_caller_interrupts_is_let_finish_and_told_in_the_next_turn() -> None:
    shop, context = Shop(), Context()
    async with scripted_http(Endpoint(calling("slow"), text("It is there."))) as server, chat_of(server) as chat:
        responder = responder_of(shop, chat)
        context.begin("is it there?")
        stream = responder.respond(UserTurn("is it there?"), context)
        waiting: asyncio.Task[Reply] = asyncio.create_task(anext(stream))  # type: ignore[arg-type]
        while not server.requests or waiting.done():
            if waiting.done():
                break
            await asyncio.sleep(0.01)
        assert await waiting == Speak("Let me look.")
        waiting = asyncio.create_task(anext(stream))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        shop.gate.set()
        parts = await answers(responder, "hello?", context)
        await responder.close()
    assert shop.ordered == ["slow"] and parts == ["It is there."]
    messages = server.requests[-1].json()["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "tool"]
    assert messages[1]["content"] == "is it there? hello?" and messages[3]["content"] == "found"


async def test_the_end_of_the_call_cancels_tools_at_work() -> None:
    shop, context = Shop(), Context()
    async with scripted_http(Endpoint(calling("slow"))) as server, chat_of(server) as chat:
        responder = responder_of(shop, chat)
        context.begin("x")
        stream = responder.respond(UserTurn("x"), context)
        assert await anext(stream) == Speak("Let me look.")
        await responder.close()
        shop.gate.set()
        await asyncio.sleep(0)
    assert shop.ordered == []
