"""Writing a Messages request, and what becomes of the fields that Anthropic has no words for.

- System turns become the one `system`; later ones are moved there, but for those that Anthropic's own callers put
  between messages. A request of nothing else asks it as a user.
- User turns that follow one another become one where any holds a tool's results, and results stand first in it:
  Anthropic wants all results of a turn's calls in the next message.
- A choice among some of the tools is written as those tools alone.
- JSON without a schema has no field: the model is told in the system prompt. A schema goes to `output_config.format`,
  closed and with its bounds in words (schema.py).
- `max_tokens` must be there: without a limit of the caller's it is what every current model can write (thinking.py).
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.dialects.anthropic.fields import DIALECT, write_mark
from gateway.dialects.anthropic.parts import Wording, label
from gateway.dialects.anthropic.schema import closable, closed
from gateway.dialects.anthropic.thinking import (
    DEFAULT_MAX_TOKENS,
    FORCED,
    Asking,
    Facts,
    facts,
    unthought,
    write_thinking,
)
from gateway.dialects.neutral import Choice, Conversation, Losses, Output, Reasoning, Result, Tool, Turn
from gateway.dialects.reading import too_deep
from gateway.errors import BadRequest

# "drop": a hint, a label, a mark, or thoughts that only their own model can use. "refuse": the answer would be another.
LOSSES: Mapping[str, str] = {
    "citations": "drop",                # of another dialect's answers
    "frequency_penalty": "drop",
    "logprobs": "refuse",
    "media.audio": "refuse",
    "media.detail": "drop",
    "media.file_id": "refuse",
    "media.name": "drop",               # of an image
    "media.type": "refuse",             # but images of four types, PDF and text
    "metadata": "drop",
    "n": "refuse",
    "output": "refuse",                 # on models before 4.5, which follow no schema; objects of any keys
    "output.json": "drop",              # told to the model in words
    "output.name": "drop",
    "part.native": "refuse",
    "presence_penalty": "drop",
    "reasoning": "drop",                # where a model cannot think, or not in this request
    "reasoning.budget": "drop",         # the nearest is taken
    "reasoning.effort": "drop",         # the nearest is taken
    "seed": "drop",
    "service_tier": "drop",             # a tier of another provider's
    "signature": "drop",
    "stop": "refuse",                   # a sequence of white space alone
    "temperature": "drop",              # above 1; on models from 4.7 on, and beside thinking
    "thinking": "drop",
    "tool.native": "refuse",
    "tool.strict": "drop",              # likewise
    "top_k": "drop",
    "top_p": "drop",
    "turn.first": "drop",               # an assistant's turn before any of the user's
    "turn.name": "drop",
    "turn.system": "drop",              # its place; its words are moved to the front
    "user": "drop",                     # longer than Anthropic takes
    "verbosity": "drop",
    # by other dialects' names; what is not listed is dropped
    "others.audio": "refuse", "others.web_search_options": "refuse", "others.background": "refuse",
    "others.conversation": "refuse", "others.previous_response_id": "refuse", "others.prompt": "refuse",
    "others.cachedContent": "refuse", "others.generationConfig.responseModalities": "refuse",
    "others.generationConfig.speechConfig": "refuse",
}

CHOICES = {"auto": "auto", "any": "any", "one": "tool", "none": "none"}
TIERS = {"auto": "auto", "default": "standard_only"}
OWN_SHOWN = {"auto": "summarized", "none": "omitted"}
KINDS = {-1: "adaptive", 0: "disabled"}         # of thinking, by what is asked for instead of a budget
UNSAID = ("presence_penalty", "frequency_penalty", "seed", "logprobs", "verbosity")
MOST_USER = 256                                 # characters of metadata.user_id
LEAST_TOP_P = 0.95                              # beside thinking
PLACES = ("output_config.format", "output_config", "thinking", "tool_choice")     # the inner one first
OPENING = "(The assistant speaks first.)"
AS_JSON = "Answer with one JSON object and nothing else: no words around it, no code fence."

Words = dict[str, Any]


def write_request(conversation: Conversation, model: str, losses: Losses) -> bytes:
    """Word a request. Raises BadRequest for what must not be left out and cannot be said."""
    try:
        return msgspec.json.encode(_body(conversation, model, losses))
    except RecursionError:
        raise too_deep() from None


def _body(conversation: Conversation, model: str, losses: Losses) -> Words:
    own, takes = conversation.others.get("") == DIALECT, facts(model)
    tools = _tools(conversation, takes, losses, own=own)
    body = {
        "model": model,
        **_messages(conversation, losses, own=own),
        **(_own_settings(conversation, losses) if own else _settings(conversation, takes, losses)),
        **_calling(conversation, tools, losses, own=own),
        "tools": tools,
        "stop_sequences": list(conversation.stop),
        "stream": conversation.stream,
    }
    body = {name: value for name, value in body.items() if value not in (None, False, [], {})}
    for name, value in conversation.others.items():
        if name and own:
            _place(body, name, value)
        elif name:
            losses.lose(f"others.{name}", name)
    return body


def _place(body: Words, path: str, value: Any) -> None:
    if path == "tools" or path.startswith("messages["):     # a tool takes what was said of it; a message has no more
        return
    place = next((place for place in PLACES if path.startswith(f"{place}.")), "")
    at = body
    for name in place.split(".") if place else ():
        at = at.setdefault(name, {})
    at[path.removeprefix(f"{place}.") if place else path] = value


def _messages(conversation: Conversation, losses: Losses, *, own: bool) -> Words:
    """Return the system prompt and the messages. Raises BadRequest where nothing is said."""
    wording = Wording(losses, own=own)
    system: list[Words] = []
    messages: list[Words] = []
    for turn in _joined(conversation.turns):
        if turn.name:
            losses.lose("turn.name")
        blocks = wording.blocks(turn.parts)
        if turn.role == "system" and not (own and messages):
            if messages and blocks:
                losses.lose("turn.system")
            system += blocks
        elif blocks:
            messages.append({"role": turn.role, "content": _short(blocks)})
    if not messages:
        if not system:
            raise BadRequest("Nothing is said in this conversation. Send at least one turn with words in it.")
        messages, system = [{"role": "user", "content": _short(system)}], []
    elif messages[0]["role"] == "assistant":
        losses.lose("turn.first")
        messages.insert(0, {"role": "user", "content": OPENING})
    if conversation.output is not None and conversation.output.kind == "json":
        losses.lose("output.json")
        system.append({"type": "text", "text": AS_JSON})
    return {"system": _short(system) if system else None, "messages": messages}


def _joined(turns: tuple[Turn, ...]) -> list[Turn]:
    """Return the turns, those of the user joined where results are among them, and the results put first.

    A system turn between results does not part them.
    """
    joined: list[Turn] = []
    last: int | None = None             # of the user's turns, while it is the last but for the system's
    for turn in turns:
        if turn.role == "user" and last is not None and (_answers(joined[last]) or _answers(turn)):
            joined[last] = _ordered(joined[last], turn)
            continue
        if turn.role != "system":
            last = len(joined) if turn.role == "user" else None
        joined.append(_ordered(turn) if turn.role == "user" else turn)
    return joined


def _answers(turn: Turn) -> bool:
    return any(isinstance(part, Result) for part in turn.parts)


def _ordered(first: Turn, second: Turn | None = None) -> Turn:
    parts = first.parts + (second.parts if second else ())
    results = tuple(part for part in parts if isinstance(part, Result))
    return msgspec.structs.replace(
        first, parts=results + tuple(part for part in parts if not isinstance(part, Result)),
    )


def _short(blocks: list[Words]) -> str | list[Words]:
    """Return a content of one plain text as a string."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        text: str = blocks[0]["text"]
        return text
    return blocks


# ---- tools


def _tools(conversation: Conversation, model: Facts, losses: Losses, *, own: bool) -> list[Words]:
    declared = conversation.others.get("tools", {}) if own else {}
    only = conversation.choice.names if conversation.choice is not None else ()
    tools: list[Words] = []
    for tool in conversation.tools:
        if isinstance(tool, Tool):
            if tool.name in only or not only:
                words = _own_tool(tool) if own else _tool(tool, model, losses)
                tools.append(words | declared.get(tool.name, {}) | write_mark(tool.cache))
        elif tool.dialect == DIALECT:
            tools.append(tool.value)
        else:
            losses.lose("tool.native", label(tool))
    return tools


def _own_tool(tool: Tool) -> Words:
    said = {
        "name": tool.name, "description": tool.description, "input_schema": tool.parameters, "strict": tool.strict
    }
    return {name: value for name, value in said.items() if value is not None}


def _tool(tool: Tool, model: Facts, losses: Losses) -> Words:
    schema = {"type": "object", **(tool.parameters or {"properties": {}})}
    strict = bool(tool.strict) and model.structured and closable(schema)
    if tool.strict and not strict:
        losses.lose("tool.strict")
    return {
        "name": tool.name, **({"description": tool.description} if tool.description else {}),
        "input_schema": closed(schema) if strict else schema, **({"strict": True} if strict else {}),
    }


def _calling(conversation: Conversation, tools: list[Words], losses: Losses, *, own: bool) -> Words:
    """Return tool_choice, which also says whether several calls may come at once."""
    choice, parallel = conversation.choice, conversation.parallel
    if not own and not tools:
        if choice is not None and choice.mode in FORCED:
            losses.lose("tool.native", "tool_choice")
        return {}
    if choice is None and (parallel is None or (parallel and not own)):
        return {}
    choice = choice or Choice()
    one = choice.name if choice.mode == "one" else None
    said: Words = {"type": CHOICES[choice.mode], **({"name": one} if one else {})}
    if choice.mode != "none" and parallel is not None and (own or not parallel):
        said["disable_parallel_tool_use"] = not parallel
    return {"tool_choice": said}


# ---- settings


def _own_settings(conversation: Conversation, losses: Losses) -> Words:
    """Return the settings of a request that came in this dialect, as they were.

    But for a budget of thinking while another model's calls are answered: Anthropic wants to have thought before them.
    """
    asked = conversation.reasoning or Reasoning()
    thinking: Words = {}
    if asked.budget is not None:
        thinking = {"type": KINDS[asked.budget]} if asked.budget in KINDS else {
            "type": "enabled", "budget_tokens": asked.budget
        }
        if asked.shown is not None:
            thinking["display"] = OWN_SHOWN[asked.shown]
    if thinking.get("type") == "enabled" and unthought(conversation.turns):
        losses.lose("reasoning")
        thinking = {"type": "disabled"}
    user = {} if conversation.user is None else {"user_id": conversation.user}
    tier = conversation.service_tier
    return {
        "max_tokens": DEFAULT_MAX_TOKENS if conversation.max_output is None else conversation.max_output,
        "thinking": thinking, "output_config": _config(conversation.output, asked.effort),
        "temperature": conversation.temperature, "top_p": conversation.top_p, "top_k": conversation.top_k,
        "metadata": {**(conversation.metadata or {}), **user}, "service_tier": TIERS.get(tier or "", tier),
    }


def _settings(conversation: Conversation, model: Facts, losses: Losses) -> Words:
    """Return the settings of a request that came in another dialect, as this model takes them."""
    for name in UNSAID:
        if getattr(conversation, name) is not None:
            losses.lose(name)
    if conversation.n not in (None, 1):
        losses.lose("n")
    if any(not sequence.strip() for sequence in conversation.stop):
        losses.lose("stop")
    if conversation.metadata:
        losses.lose("metadata")
    asking = Asking(conversation.reasoning, conversation.choice, conversation.max_output, conversation.turns)
    thought = write_thinking(asking, model, losses)
    thinks = thought.thinking is not None and thought.thinking["type"] != "disabled"
    return {
        "max_tokens": thought.max_tokens, "thinking": thought.thinking,
        "output_config": _config(_form(conversation.output, model, losses), thought.effort),
        **_sampling(conversation, model, losses, thinks=thinks),
        "metadata": _user(conversation.user, losses), "service_tier": _tier(conversation.service_tier, losses),
    }


def _sampling(conversation: Conversation, model: Facts, losses: Losses, *, thinks: bool) -> Words:
    temperature, top_p, top_k = conversation.temperature, conversation.top_p, conversation.top_k
    fixed = not model.sampling or thinks
    said: Words = {}
    if temperature is not None and temperature != 1:
        if fixed or temperature > 1:
            losses.lose("temperature")
        if not fixed:
            said["temperature"] = min(temperature, 1.0)
    if top_p is not None and top_p != 1:
        if not model.sampling or (thinks and top_p < LEAST_TOP_P) or (said and model.one_of_both):
            losses.lose("top_p")
        else:
            said["top_p"] = top_p
    if top_k is not None:
        if fixed:
            losses.lose("top_k")
        else:
            said["top_k"] = top_k
    return said


def _form(output: Output | None, model: Facts, losses: Losses) -> Output | None:
    """Return an output whose schema this model takes; None for JSON without one, which is asked for in words."""
    if output is None or output.kind != "schema" or output.schema is None:
        return None
    if not model.structured or not closable(output.schema):
        losses.lose("output", "schema")
        return None
    if output.name is not None:
        losses.lose("output.name")
    described = {"description": output.description} if output.description else {}
    return Output("schema", closed({**described, **output.schema}))


def _config(output: Output | None, effort: str | None) -> Words:
    form = {} if output is None else {"format": {"type": "json_schema", "schema": output.schema}}
    return {**form, **({} if effort is None else {"effort": effort})}


def _user(user: str | None, losses: Losses) -> Words:
    if user is None:
        return {}
    if len(user) > MOST_USER:
        losses.lose("user")
        return {}
    return {"user_id": user}


def _tier(tier: str | None, losses: Losses) -> str | None:
    if tier is not None and tier not in TIERS:
        losses.lose("service_tier")
    return TIERS.get(tier or "")
