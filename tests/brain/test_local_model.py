"""The model-led example against a real OpenAI-compatible server with the small offline model behind it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sipagent.brain.answering import ResponderOptions
from sipagent.brain.loader import build_brain
from sipagent.brain.responder import BrainResponder
from sipagent.pipeline.context import Context
from sipagent.pipeline.responder import UserTurn
from sipagent.pipeline.services.local_llm import ALIAS, LocalLLM
from sipagent.pipeline.services.openai_chat import ChatOptions, OpenAIChat
from tests.brain.test_responder import Call

pytestmark = pytest.mark.models
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def server() -> Iterator[LocalLLM]:
    server = LocalLLM()
    yield server
    server.close()


async def test_the_small_model_answers_in_pieces_with_the_brains_prompt_and_tools(
    server: LocalLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    brain, call, context = build_brain("llm_receptionist:LlmReceptionist", {}), Call(), Context()
    brain.call = call
    options = ChatOptions(server.base_url, ALIAS, parameters={"temperature": 0, "max_tokens": 40})
    async with OpenAIChat(options) as chat:
        responder = BrainResponder(brain, chat, ResponderOptions(filler=""), call)
        context.begin("Hello, I would like to book an appointment.")
        pieces = [part async for part in responder.respond(UserTurn("Hello."), context)]
    sys.modules.pop("llm_receptionist")
    assert len(pieces) > 5 and all(isinstance(piece, str) for piece in pieces)
    assert len("".join(str(piece) for piece in pieces).split()) > 5
    assert call.tokens[0].completion_tokens > 5 and call.tokens[0].prompt_tokens > 50
