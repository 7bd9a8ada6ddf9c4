"""What becomes of the fields that not every dialect has: the table of README.md beside this file.

    python -m gateway.dialects.table        # prints it; tests hold the README to it

Its cells come from the tables that the dialects are worded by, so it says what happens and not what was meant. A field
that an upstream's table has may still be carried: the reason says which of its values are not.
"""

import sys
from collections.abc import Iterator

from gateway.dialects.neutral import ANTHROPIC, GEMINI, OPENAI, RESPONSES, Conversation, Losses, Text, Turn
from gateway.dialects.register import UPSTREAMS
from gateway.errors import Inexpressible

CARRIED, LEFT_OUT, REFUSED = "carried", "left out, logged", "400"
TITLES = {OPENAI: "OpenAI", ANTHROPIC: "Anthropic", GEMINI: "Gemini"}
OTHERS = "others"       # begins the names of fields that one dialect alone has
HOME = {                # whose they are; each is carried to its own provider
    "audio": OPENAI, "web_search_options": OPENAI, "container": ANTHROPIC, "mcp_servers": ANTHROPIC,
    "thread": ANTHROPIC,
    "cachedContent": GEMINI, "generationConfig.responseModalities": GEMINI, "generationConfig.speechConfig": GEMINI,
    "background": RESPONSES, "conversation": RESPONSES, "previous_response_id": RESPONSES, "prompt": RESPONSES,
}
STORED = "Responses: names what a provider has stored; our own surface refuses it before"
REASONS = {
    "cache": "A mark for the prompt cache. OpenAI and Gemini cache by themselves; OpenRouter is told",
    "citations": "Sources of earlier answers: every dialect has its own form for them",
    "frequency_penalty": "Anthropic has none; OpenAI's reasoning models neither",
    "logprobs": "Anthropic gives none nor do OpenAI's models that think, and the caller would wait for them",
    "media.assistant": "An image in an assistant's turn: here it can only speak",
    "media.audio": "Anthropic hears nothing; OpenAI takes wav and mp3 as data, no addresses",
    "media.detail": "How closely to look; the provider decides (OpenAI: at documents)",
    "media.file_id": "A file uploaded to one provider, which no other can read",
    "media.name": "A file's name. Anthropic and OpenAI have none for images; Gemini none but in tool results",
    "media.type": "Anthropic reads four types of images, PDF and text",
    "media.url": "The address of a document: OpenAI fetches images only",
    "metadata": "Labels for the provider's own logs",
    "n": "Anthropic gives one answer",
    "others": "Any other field that only the caller's dialect has",
    "output": "A schema, for models before Claude 4.5, or one whose objects take any keys",
    "output.json": "JSON without a schema: the model is told in words",
    "output.name": "A schema's label",
    "parallel": "Gemini decides itself whether it calls several tools at once",
    "part.native": "A part of a turn that one provider alone knows, such as a search it made",
    "presence_penalty": "Anthropic has none; OpenAI's reasoning models neither",
    "reasoning": "For a model that cannot think, or not in this request",
    "reasoning.budget": "Becomes the nearest that the model takes",
    "reasoning.effort": "Becomes the nearest that the model takes",
    "reasoning.shown": "Chat completions do not show thinking",
    "result.error": "That a tool failed: said in words before its result",
    "result.media": "Images of a tool's result: moved to a user message behind it",
    "seed": "Anthropic has none",
    "service_tier": "A tier of another provider's; those that both have are carried",
    "signature": "The seal on a call, of use to the provider that made it",
    "stop": "OpenAI's reasoning models take none, Anthropic none of white space, Gemini no more than five",
    "temperature": "Anthropic takes up to 1, none beside thinking or from Claude 4.7 on; OpenAI's thinking models none",
    "thinking": "Earlier thinking, sealed by another provider",
    "tool.native": "A built-in tool of one provider, such as its web search; left out where functions stand beside it",
    "tool.strict": "Gemini has no such promise; Anthropic keeps it where model and schema allow",
    "top_k": "OpenAI has none; Anthropic none beside thinking or from Claude 4.7 on",
    "top_p": "Anthropic takes one of top_p and temperature, less beside thinking; OpenAI's thinking models none",
    "turn.first": "An assistant's turn before the user's first: a short user turn is put before it",
    "turn.name": "Who speaks, where several share a role",
    "turn.system": "The place of a late system turn: its words are moved to the front",
    "user": "Gemini has none; Anthropic takes 256 characters, OpenAI 64",
    "verbosity": "OpenAI alone has it",
    "others.audio": "OpenAI: an answer in sound",
    "others.web_search_options": "OpenAI: a search before the answer",
    "others.container": "Anthropic: a machine that tools run on",
    "others.mcp_servers": "Anthropic: tools that the provider calls itself",
    "others.thread": "Anthropic: a conversation that the provider stores",
    "others.cachedContent": "Gemini: a stored beginning of the conversation, without which the rest says little",
    "others.generationConfig.responseModalities": "Gemini: an answer in images or sound",
    "others.generationConfig.speechConfig": "Gemini: the voice of an answer in sound",
    **{f"others.{name}": STORED for name in ("background", "conversation", "previous_response_id", "prompt")},
}


def fields() -> list[str]:
    """Return every field that any dialect's table has, those of one dialect last."""
    named = {name for upstream in UPSTREAMS.values() for name in upstream.LOSSES}
    return sorted(named, key=lambda name: (name.startswith(OTHERS), name))


def render() -> str:
    """Return the table in Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield " | ".join(["| field", *(f"to {TITLES[dialect]}" for dialect in UPSTREAMS), "why, and when |"])
    yield "|---" * (len(UPSTREAMS) + 2) + "|"
    for field in fields():
        cells = (cell(field, dialect) for dialect in UPSTREAMS)
        yield " | ".join([f"| `{field.removeprefix(f'{OTHERS}.')}`", *cells, f"{REASONS[field]} |"])


def cell(field: str, dialect: str) -> str:
    """Return what becomes of a field on its way to a provider."""
    if field.startswith(OTHERS):
        return _other(field.removeprefix(f"{OTHERS}."), dialect)
    return {"drop": LEFT_OUT, "refuse": REFUSED, None: CARRIED}[UPSTREAMS[dialect].LOSSES.get(field)]


def _other(name: str, dialect: str) -> str:
    """Ask the dialect itself: what its table does not list, it leaves out or knows to be of weight."""
    if HOME.get(name) == dialect:
        return CARRIED
    losses = Losses(dialect, UPSTREAMS[dialect].LOSSES)
    asked = Conversation((Turn("user", (Text("hello"),)),), others={name: {}})
    try:
        UPSTREAMS[dialect].write_request(asked, "any", losses)
    except Inexpressible:
        return REFUSED
    return LEFT_OUT


if __name__ == "__main__":
    sys.stdout.write(render())
