"""A conversation through an official SDK, the same for all of them: each keeps its history in its own objects.

What the SDK returns goes back as it came, as its documentation teaches, so that what a gateway puts into an answer is
tried as what a caller sends next.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import anthropic
import openai
import orjson
from google import genai
from google.genai import types

MODELS = ("of-openai", "of-anthropic", "of-gemini")
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
DESCRIPTION = "Says what it is like there."
SCHEMA: dict[str, Any] = {
    "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}
TOOLS = ("weather", "traffic")
TOKENS = 4_096


class Called(NamedTuple):
    """A call that an answer asks for."""

    id: str
    name: str
    arguments: str                  # JSON


def _tidy(arguments: Any) -> str:
    """Return arguments as text that only their values decide."""
    return orjson.dumps(arguments, option=orjson.OPT_SORT_KEYS).decode()


class Said(NamedTuple):
    """An answer, whoever's SDK gave it."""

    text: str
    finish: str
    calls: tuple[Called, ...] = ()
    thinking: str = ""


@dataclass
class Wish:
    """What is asked of an answer."""

    stream: bool = False
    tools: bool = False
    forced: bool = False            # one of the tools must be called
    thinks: bool = False


@dataclass
class Talk:
    """What all of them have: an address and a history."""

    base_url: str
    history: list[Any] = field(default_factory=list)


class Talks(Protocol):
    """A conversation."""

    history: list[Any]

    def __init__(self, base_url: str) -> None: ...

    async def __aenter__(self) -> "Talks": ...

    async def __aexit__(self, *_: object) -> None: ...

    def say(self, text: str, *, picture: bool = False) -> None:
        """Add what the user says, and shows."""

    def give(self, results: Mapping[Called, str]) -> None:
        """Add what the tools returned."""

    async def ask(self, model: str, wish: Wish) -> Said:
        """Return the model's answer, which joins the history."""


class Chat(Talk):
    """OpenAI's chat completions."""

    async def __aenter__(self) -> "Chat":
        self.sdk = openai.AsyncOpenAI(base_url=self.base_url + "/v1", api_key="k", max_retries=0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.sdk.close()

    def say(self, text: str, *, picture: bool = False) -> None:
        """Add what the user says, and shows."""
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
        content = [{"type": "text", "text": text}, *([image] if picture else [])]
        self.history.append({"role": "user", "content": content})

    def give(self, results: Mapping[Called, str]) -> None:
        """Add what the tools returned."""
        self.history += ({"role": "tool", "tool_call_id": call.id, "content": text} for call, text in results.items())

    def asked(self, model: str, wish: Wish) -> Any:
        """Return the call's arguments."""
        asked: Any = {"model": model, "messages": self.history}
        if wish.tools:
            function = {"description": DESCRIPTION, "parameters": SCHEMA}
            asked["tools"] = [{"type": "function", "function": {"name": name, **function}} for name in TOOLS]
            asked["tool_choice"] = "required" if wish.forced else "auto"
        return asked | ({"reasoning_effort": "medium"} if wish.thinks else {})

    async def ask(self, model: str, wish: Wish) -> Said:
        """Return the model's answer, which joins the history."""
        asked = self.asked(model, wish)
        if wish.stream:
            async with self.sdk.chat.completions.stream(**asked) as events:
                choice: Any = (await events.get_final_completion()).choices[0]
        else:
            choice = (await self.sdk.chat.completions.create(**asked)).choices[0]
        message = choice.message
        self.history.append(message)
        calls = tuple(
            Called(call.id, call.function.name, _tidy(orjson.loads(call.function.arguments)))
            for call in message.tool_calls or ()
        )
        thinking = getattr(message, "reasoning_content", None) or ""
        return Said(message.content or "", choice.finish_reason, calls, thinking)


class Responses(Talk):
    """OpenAI's responses, without its memory."""

    async def __aenter__(self) -> "Responses":
        self.sdk = openai.AsyncOpenAI(base_url=self.base_url + "/v1", api_key="k", max_retries=0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.sdk.close()

    def say(self, text: str, *, picture: bool = False) -> None:
        """Add what the user says, and shows."""
        image = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"}
        content = [{"type": "input_text", "text": text}, *([image] if picture else [])]
        self.history.append({"role": "user", "content": content})

    def give(self, results: Mapping[Called, str]) -> None:
        """Add what the tools returned."""
        self.history += (
            {"type": "function_call_output", "call_id": call.id, "output": text} for call, text in results.items()
        )

    def asked(self, model: str, wish: Wish) -> Any:
        """Return the call's arguments."""
        asked: Any = {"model": model, "input": self.history, "store": False}
        if wish.tools:
            function = {"type": "function", "description": DESCRIPTION, "parameters": SCHEMA, "strict": False}
            asked["tools"] = [{"name": name, **function} for name in TOOLS]
            asked["tool_choice"] = "required" if wish.forced else "auto"
        if wish.thinks:
            asked |= {
                "reasoning": {"effort": "medium", "summary": "auto"}, "include": ["reasoning.encrypted_content"]
            }
        return asked

    async def ask(self, model: str, wish: Wish) -> Said:
        """Return the model's answer, which joins the history."""
        asked = self.asked(model, wish)
        if wish.stream:
            async with self.sdk.responses.stream(**asked) as events:
                done: Any = await events.get_final_response()
        else:
            done = await self.sdk.responses.create(**asked)
        self.history += done.output
        calls = tuple(
            Called(item.call_id, item.name, _tidy(orjson.loads(item.arguments)))
            for item in done.output if item.type == "function_call"
        )
        thinking = "".join(
            part.text for item in done.output if item.type == "reasoning" for part in item.summary
        )
        return Said(done.output_text, done.status, calls, thinking)


class Messages(Talk):
    """Anthropic's messages."""

    async def __aenter__(self) -> "Messages":
        self.sdk = anthropic.AsyncAnthropic(base_url=self.base_url, api_key="k", max_retries=0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.sdk.close()

    def say(self, text: str, *, picture: bool = False) -> None:
        """Add what the user says, and shows."""
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
        content = [{"type": "text", "text": text}, *([image] if picture else [])]
        self.history.append({"role": "user", "content": content})

    def give(self, results: Mapping[Called, str]) -> None:
        """Add what the tools returned."""
        content = [
            {"type": "tool_result", "tool_use_id": call.id, "content": text} for call, text in results.items()
        ]
        self.history.append({"role": "user", "content": content})

    def asked(self, model: str, wish: Wish) -> Any:
        """Return the call's arguments."""
        asked: Any = {"model": model, "max_tokens": TOKENS, "messages": self.history}
        if wish.tools:
            asked["tools"] = [{"name": name, "description": DESCRIPTION, "input_schema": SCHEMA} for name in TOOLS]
            asked["tool_choice"] = {"type": "any" if wish.forced else "auto"}
        return asked | ({"thinking": {"type": "enabled", "budget_tokens": 1_024}} if wish.thinks else {})

    async def ask(self, model: str, wish: Wish) -> Said:
        """Return the model's answer, which joins the history."""
        asked = self.asked(model, wish)
        if wish.stream:
            async with self.sdk.messages.stream(**asked) as events:
                done: Any = await events.get_final_message()
        else:
            done = await self.sdk.messages.create(**asked)
        self.history.append({"role": "assistant", "content": done.content})
        by_type: dict[str, list[Any]] = {"text": [], "tool_use": [], "thinking": []}
        for block in done.content:
            by_type[block.type].append(block)
        return Said(
            "".join(block.text for block in by_type["text"]), done.stop_reason,
            tuple(Called(block.id, block.name, _tidy(block.input)) for block in by_type["tool_use"]),
            "".join(block.thinking for block in by_type["thinking"]),
        )


class Gemini(Talk):
    """Google's generateContent."""

    async def __aenter__(self) -> "Gemini":
        self.sdk = genai.Client(api_key="k", http_options=types.HttpOptions(base_url=self.base_url))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.sdk.aio.aclose()

    def say(self, text: str, *, picture: bool = False) -> None:
        """Add what the user says, and shows."""
        parts = [types.Part.from_text(text=text)]
        if picture:
            inline: Any = {"mime_type": "image/png", "data": PIXEL}
            parts.append(types.Part.model_validate({"inline_data": inline}))
        self.history.append(types.Content(role="user", parts=parts))

    def give(self, results: Mapping[Called, str]) -> None:
        """Add what the tools returned."""
        parts = [
            types.Part(function_response=types.FunctionResponse(
                id=call.id or None, name=call.name, response={"output": text}
            ))
            for call, text in results.items()
        ]
        self.history.append(types.Content(role="user", parts=parts))

    def asked(self, model: str, wish: Wish) -> Any:
        """Return the call's arguments."""
        config: Any = {}
        if wish.tools:
            functions = [
                {"name": name, "description": DESCRIPTION, "parameters_json_schema": SCHEMA} for name in TOOLS
            ]
            config["tools"] = [{"function_declarations": functions}]
            config["tool_config"] = {"function_calling_config": {"mode": "ANY" if wish.forced else "AUTO"}}
        if wish.thinks:
            config["thinking_config"] = {"include_thoughts": True, "thinking_budget": 1_024}
        return {"model": model, "contents": self.history, "config": config}

    async def ask(self, model: str, wish: Wish) -> Said:
        """Return the model's answer, which joins the history."""
        asked = self.asked(model, wish)
        if wish.stream:
            chunks = [chunk async for chunk in await self.sdk.aio.models.generate_content_stream(**asked)]
        else:
            chunks = [await self.sdk.aio.models.generate_content(**asked)]
        told: list[Any] = [candidate for chunk in chunks for candidate in chunk.candidates or ()]
        parts = [part for candidate in told if candidate.content for part in candidate.content.parts or ()]
        self.history.append(types.Content(role="model", parts=parts))
        calls = [part.function_call for part in parts if part.function_call]
        return Said(
            "".join(part.text for part in parts if part.text and not part.thought), told[-1].finish_reason.name,
            tuple(Called(call.id or "", call.name, _tidy(call.args)) for call in calls),
            "".join(part.text for part in parts if part.text and part.thought),
        )


SURFACES: Mapping[str, type[Talks]] = {
    "chat": Chat, "responses": Responses, "messages": Messages, "gemini": Gemini,
}
