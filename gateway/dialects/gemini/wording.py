"""Writing a generateContent request, and what becomes of the fields that Gemini has no words for.

JSON schemas go out whole, as parametersJsonSchema and responseJsonSchema: the older fields know a subset.

- System turns, wherever they stand, become the one systemInstruction; a request of nothing else asks it as a user.
- Tool results that follow one another become one content, and so do turns of the model: Gemini wants parallel calls
  together, and their results.
- An id that only counts calls (call_0) was made for want of one, and is left out where names and order say the same.
- Media in a tool's result go inside it for models that read them there (Gemini 3 and later), else behind it.
- Gemini 3 refuses a call without a signature; one that another model made gets the word that Google documents for
  this (ai.google.dev/gemini-api/docs/thought-signatures, FAQ).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from gateway.dialects.gemini.fields import DIALECT
from gateway.dialects.gemini.parts import UNSIGNED, write_media, write_output
from gateway.dialects.gemini.thinking import Control, control, write_thinking
from gateway.dialects.neutral import (
    Call,
    Choice,
    Conversation,
    Losses,
    Media,
    Native,
    Output,
    Part,
    Reasoning,
    Refusal,
    Result,
    Text,
    Thinking,
    Tool,
    Turn,
)
from gateway.dialects.reading import arguments_of, too_deep
from gateway.errors import BadRequest

# "drop": a hint, a label, a mark, or thoughts that only their own model can use. "refuse": the answer would be another.
LOSSES: Mapping[str, str] = {
    "cache": "drop",                    # Gemini caches by itself; its explicit caches are objects of their own
    "citations": "drop",                # of earlier answers
    "media.detail": "drop",
    "media.file_id": "refuse",
    "media.name": "drop",               # but in tool results, whose words may refer to it
    "metadata": "drop",
    "output.name": "drop",
    "parallel": "drop",                 # Gemini decides; who reads calls reads a list of them
    "part.native": "refuse",
    "reasoning": "drop",                # on models that do not think
    "reasoning.budget": "drop",         # the nearest that the model takes, or its level
    "reasoning.effort": "drop",         # the nearest level is taken
    "service_tier": "drop",             # a tier of another provider's
    "stop": "refuse",                   # more than five
    "thinking": "drop",
    "tool.native": "refuse",
    "tool.strict": "drop",
    "turn.name": "drop",
    "turn.system": "drop",              # its place; its words are moved to the front
    "user": "drop",
    "verbosity": "drop",
    # by other dialects' names; what is not listed is dropped
    "others.audio": "refuse", "others.web_search_options": "refuse", "others.background": "refuse",
    "others.conversation": "refuse", "others.previous_response_id": "refuse", "others.prompt": "refuse",
    "others.container": "refuse", "others.mcp_servers": "refuse", "others.thread": "refuse",
}

ANSWERS = {"functionResponse", "inlineData", "fileData"}     # what a tool's result is written as
MOST_STOPS = 5
CHOICES = {"auto": "AUTO", "none": "NONE", "any": "ANY", "one": "ANY"}
TIERS = {"auto": None, "default": "standard", "flex": "flex", "priority": "priority"}
SETTINGS = {
    "temperature": "temperature", "top_p": "topP", "top_k": "topK", "max_output": "maxOutputTokens",
    "n": "candidateCount", "seed": "seed", "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
UNSAID = ("user", "metadata", "verbosity")
PLACES = (      # of what only Gemini has, the inner ones first
    "generationConfig.thinkingConfig.", "toolConfig.functionCallingConfig.", "generationConfig.", "toolConfig.",
)

Words = dict[str, Any]


def write_request(conversation: Conversation, model: str, losses: Losses) -> bytes:
    """Word a request. Raises BadRequest for what must not be left out and cannot be said."""
    own = conversation.others.get("") == DIALECT
    for name in UNSAID:
        if getattr(conversation, name) is not None:
            losses.lose(name)
    if conversation.parallel is False:
        losses.lose("parallel")
    others = {name: value for name, value in conversation.others.items() if name}
    declared = others.pop("tools", {}) if own else {}
    body: Words = {
        **_Contents(conversation.turns, model, losses).worded(),
        "tools": _tools(conversation, declared, losses),
        "toolConfig": {} if conversation.choice is None else {"functionCallingConfig": _calling(conversation.choice)},
        "generationConfig": _settings(conversation, model, losses),
        "serviceTier": _tier(conversation.service_tier, losses),
    }
    body = {name: value for name, value in body.items() if value}
    for name, value in others.items():
        if own:
            _place(body, name, value)
        else:
            losses.lose(f"others.{name}", name)
    try:
        return msgspec.json.encode(body)
    except RecursionError:
        raise too_deep() from None


def _place(body: Words, path: str, value: Any) -> None:
    place = next((place for place in PLACES if path.startswith(place)), "")
    at = body
    for name in place.split(".")[:-1]:
        at = at.setdefault(name, {})
    at[path.removeprefix(place)] = value


def _tools(conversation: Conversation, declared: Mapping[str, Words], losses: Losses) -> list[Words]:
    """Return the tools: the functions in one object, where the first of them stands."""
    tools: list[Words] = []
    functions: list[Words] = []
    for tool in conversation.tools:
        if isinstance(tool, Tool):
            if not functions:
                tools.append({"functionDeclarations": functions})
            functions.append(_declaration(tool, losses) | declared.get(tool.name, {}))
        elif tool.dialect == DIALECT:
            tools.append(dict(tool.value))
        else:
            losses.lose("tool.native", _label(tool))
    return tools


def _declaration(tool: Tool, losses: Losses) -> Words:
    if tool.strict:
        losses.lose("tool.strict")
    if tool.cache:
        losses.lose("cache")
    said = {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.parameters}
    return {name: value for name, value in said.items() if value is not None}


def _label(native: Native) -> str | None:
    kind = native.value.get("type")
    return kind if isinstance(kind, str) else next(iter(native.value), None)


def _calling(choice: Choice) -> Words:
    names = [choice.name] if choice.mode == "one" and choice.name else list(choice.names)
    if not names:
        return {"mode": CHOICES[choice.mode]}
    # of its modes that let the model answer in words, VALIDATED is the one that heeds names
    return {"mode": "VALIDATED" if choice.mode == "auto" else CHOICES[choice.mode], "allowedFunctionNames": names}


def _settings(conversation: Conversation, model: str, losses: Losses) -> Words:
    given = {said: getattr(conversation, name) for name, said in SETTINGS.items()}
    config: Words = {name: value for name, value in given.items() if value is not None}
    if conversation.stop:
        config["stopSequences"] = list(conversation.stop)
        if len(conversation.stop) > MOST_STOPS:
            losses.lose("stop")
    if conversation.logprobs is not None:
        config |= {"responseLogprobs": True, **({"logprobs": conversation.logprobs} if conversation.logprobs else {})}
    if conversation.output is not None:
        config |= _output(conversation.output, losses)
    if (asked := _reasoning(conversation)) is not None and (thinking := write_thinking(asked, model, losses)):
        config["thinkingConfig"] = thinking
    return config


def _reasoning(conversation: Conversation) -> Reasoning | None:
    """Return how much is to be thought. Elsewhere, thinking that is asked for is shown unless the caller says no."""
    asked, own = conversation.reasoning, conversation.others.get("") == DIALECT
    if asked is None or own or asked.shown is not None or (asked.effort in (None, "none") and not asked.budget):
        return asked
    return msgspec.structs.replace(asked, shown="auto")


def _output(output: Output, losses: Losses) -> Words:
    form: Words = {"responseMimeType": "application/json"}
    if output.name is not None:
        losses.lose("output.name")
    if output.kind == "schema" and output.schema is not None:
        described = {"description": output.description} if output.description else {}
        form["responseJsonSchema"] = {**described, **output.schema}
    return form


def _tier(tier: str | None, losses: Losses) -> str | None:
    if tier is not None and tier not in TIERS:
        losses.lose("service_tier")
    return TIERS.get(tier or "auto")


class _Contents:
    """The turns of one conversation on their way to one model."""

    def __init__(self, turns: Sequence[Turn], model: str, losses: Losses) -> None:
        self._turns = turns
        self._losses = losses
        self._newer = control(model) is Control.LEVEL
        self._uncalled = _made_ids(turns)
        self._names: dict[str, str] = {}        # of the calls so far, by id
        self._words: dict[type, Callable[[Any], list[Words]]] = {
            Text: self._text, Refusal: self._refusal, Media: self._media, Call: self._call, Result: self._result,
            Thinking: self._thinking, Native: self._native,
        }

    def worded(self) -> Words:
        """Return the contents and the system instruction. Raises BadRequest where nothing is said."""
        system: list[Words] = []
        contents: list[Words] = []
        for turn in self._turns:
            parts = self._parts(turn)
            role = "model" if turn.role == "assistant" else "user"
            if turn.role == "system":
                system += parts
                if contents and parts:
                    self._losses.lose("turn.system")
            elif contents and parts and _belongs(role, parts, contents[-1]):
                contents[-1]["parts"] += parts
            elif parts:
                contents.append({"role": role, "parts": parts})
        if not contents:
            if not system:
                raise BadRequest("Nothing is said in this conversation. Send at least one turn with words in it.")
            contents, system = [{"role": "user", "parts": system}], []
        if self._newer:
            _sign(contents)
        return {"systemInstruction": {"parts": system} if system else None, "contents": contents}

    def _parts(self, turn: Turn) -> list[Words]:
        if turn.name:
            self._losses.lose("turn.name")
        said: list[Words] = []
        seal: str | None = None
        for part in turn.parts:
            if getattr(part, "cache", None):
                self._losses.lose("cache")
            loose = _seal(part)
            words = [] if loose else self._words[type(part)](part)
            if seal and (loose or words):
                if loose or words[0].keys() & {"functionCall", "thought", "thoughtSignature"}:
                    said.append(_sealed(seal))
                else:
                    words[0]["thoughtSignature"] = seal
                seal = None
            seal = loose or seal
            said += words
        if seal:
            said.append(_sealed(seal))
        return said

    def _text(self, part: Text) -> list[Words]:
        if part.citations:
            self._losses.lose("citations")
        return [{"text": part.text}] if part.text else []       # Gemini refuses a part without words

    def _refusal(self, part: Refusal) -> list[Words]:
        return [{"text": part.text}] if part.text else []

    def _media(self, part: Media, *, named: bool = False) -> list[Words]:
        if part.detail not in (None, "auto"):
            self._losses.lose("media.detail")
        if part.name and not named:
            self._losses.lose("media.name")
        words = write_media(part, named=named)
        if words is None:
            self._losses.lose("media.file_id", "file_id")
        return [] if words is None else [words]

    def _thinking(self, part: Thinking) -> list[Words]:
        if part.dialect != DIALECT:
            self._losses.lose("thinking")
            return []
        if part.redacted:
            return [_sealed(part.redacted)]
        signature = {"thoughtSignature": part.signature} if part.signature else {}
        return [{"text": part.text, "thought": True, **signature}]

    def _native(self, part: Native) -> list[Words]:
        if part.dialect == DIALECT:
            return [dict(part.value)]
        self._losses.lose("part.native", _label(part))
        return []

    def _call(self, part: Call) -> list[Words]:
        self._names[part.id] = part.name
        call = {"name": part.name, "args": arguments_of(part.arguments)}
        signature = {"thoughtSignature": part.signature} if part.signature else {}
        return [{"functionCall": self._id(part.id) | call, **signature}]

    def _result(self, part: Result) -> list[Words]:
        name = self._names.get(part.id) or part.name
        if name is None:
            raise BadRequest(f"A tool's result answers the call {part.id[:100]!r}, which no earlier turn makes.")
        text: list[str] = []
        beside: list[Words] = []
        for one in part.parts:
            if getattr(one, "cache", None):
                self._losses.lose("cache")
            if isinstance(one, Text):
                text += [word["text"] for word in self._text(one)]
            elif isinstance(one, Media):
                beside += self._media(one, named=self._newer)
            else:
                beside += self._native(one)
        output = write_output("\n".join(text), error=part.error)
        response: Words = self._id(part.id) | {"name": name, "response": output}
        if self._newer and beside:
            response["parts"] = beside
            beside = []
        return [{"functionResponse": response}, *beside]

    def _id(self, call: str) -> Words:
        return {} if call in self._uncalled or not call else {"id": call}


def _belongs(role: str, parts: list[Words], before: Words) -> bool:
    """Say whether parts go into the content before them: the model's do, and a tool's results behind others."""
    if role != before["role"]:
        return False
    begin = "functionResponse" in before["parts"][0] and "functionResponse" in parts[0]
    return role == "model" or (begin and all(part.keys() & ANSWERS for part in parts))


def _sign(contents: list[Words]) -> None:
    """Give the first call of a content a signature where it has none: only that one must have it."""
    for content in contents:
        first = next((part for part in content["parts"] if "functionCall" in part), None)
        if first is not None:
            first.setdefault("thoughtSignature", UNSIGNED)


def _seal(part: Part) -> str | None:
    """Return the signature of a part that is nothing else."""
    if isinstance(part, Thinking) and part.dialect == DIALECT and not (part.text or part.redacted):
        return part.signature
    return None


def _sealed(signature: str) -> Words:
    return {"text": "", "thoughtSignature": signature}


def _made_ids(turns: Sequence[Turn]) -> frozenset[str]:
    """Return the ids that say no more than the order of calls and the names of results do."""
    parts = [part for turn in turns for part in turn.parts]
    calls = [part for part in parts if isinstance(part, Call)]
    often = Counter(call.id for call in calls)
    numbers = {
        call.id: number for number, call in enumerate(calls) if call.id == f"call_{number}" and often[call.id] == 1
    }
    names = {call.id: call.name for call in calls}
    last: dict[str, int] = {}
    for part in parts:
        if isinstance(part, Result) and part.id in numbers:
            if numbers[part.id] < last.get(names[part.id], -1):
                return frozenset()          # results in another order than their calls
            last[names[part.id]] = numbers[part.id]
    return frozenset(numbers)
