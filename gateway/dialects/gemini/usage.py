"""What a Gemini answer used, in its words.

Google counts thoughts beside the candidates, and the results of built-in tools beside the prompt; the prompt has what
came from the cache in it. Some of its servers have the one or the other among the rest already: there the total is
reached without them, and they are not counted twice.
"""

from typing import Any

from gateway.dialects.reading import objects, string
from gateway.dialects.tokens import count, first, settled
from gateway.pricing import Usage

Words = dict[str, Any]

PICTURES = ("IMAGE", "VIDEO")       # which are frames, and priced like images
TIERS = {
    "flex": "flex", "on_demand_flex": "flex", "priority": "priority", "on_demand_priority": "priority",
    "batch": "batch",
}
SEARCH_ONCE = ("gemini-1", "gemini-2")      # models that are paid for a prompt with searches, however many they were


def usage_of(said: Any, searched: int = 0) -> Usage | None:
    """Return what a usageMetadata says; None where it says nothing. `searched`: web searches up to it."""
    if not isinstance(said, dict):
        return None
    prompt, output, thought = _wholes(said)
    cached = count(said, "cachedContentTokenCount")
    pictures, sounds = _modalities(said.get("promptTokensDetails"))
    for details, sign in ((said.get("toolUsePromptTokensDetails"), 1), (said.get("cacheTokensDetails"), -1)):
        if details:
            more = _modalities(details)
            pictures, sounds = pictures + sign * more[0], sounds + sign * more[1]
    drawn, spoken = _modalities(said.get("candidatesTokensDetails") or said.get("responseTokensDetails"))
    tier = _tier(said.get("serviceTier")) or _tier(said.get("trafficType"))
    return settled(Usage(
        max(prompt, cached), output, cached, 0, thought, 0, max(pictures, 0), max(sounds, 0), drawn, spoken, searched,
        tier,
    ))


def searches(frame: Words) -> int:
    """Return how many web searches are paid: one of each query, or one in all where the model is older."""
    queries: set[str] = set()
    for candidate in objects(frame.get("candidates")):
        for source in objects([candidate.get("groundingMetadata")]):
            asked = source.get("webSearchQueries")
            queries |= {query for query in asked if string(query)} if isinstance(asked, list) else set()
    once = string(frame.get("modelVersion")).rpartition("/")[2].startswith(SEARCH_ONCE)
    return min(len(queries), 1) if once else len(queries)


def _wholes(said: Words) -> tuple[int, int, int]:
    """Return all of the prompt, all that was generated, and how much of that was thoughts."""
    prompt, output = count(said, "promptTokenCount"), first(said, "candidatesTokenCount", "responseTokenCount")
    tools, thought = count(said, "toolUsePromptTokenCount"), count(said, "thoughtsTokenCount")
    total = count(said, "totalTokenCount")
    if prompt + tools + output + thought == total or not (tools or thought):
        return prompt + tools, output + thought, thought
    for more_prompt, more_output in ((tools, 0), (0, thought), (0, 0)):
        fits = (more_output or thought <= output) and (more_prompt or tools <= prompt)
        if fits and prompt + more_prompt + output + more_output == total:
            return prompt + more_prompt, output + more_output, thought
    return prompt + tools, output + thought, thought


def _tier(said: Any) -> str:
    return TIERS.get(said.lower(), "") if isinstance(said, str) else ""


def _modalities(details: Any) -> tuple[int, int]:
    """Return the tokens of pictures and of sound."""
    pictures = sounds = 0
    for detail in objects(details):
        kind = detail.get("modality")
        if kind in PICTURES:
            pictures += count(detail, "tokenCount")
        elif kind == "AUDIO":
            sounds += count(detail, "tokenCount")
    return pictures, sounds


def worded(usage: Usage) -> Words:
    """Return a usage in Google's words; what there seldom is stands there when there is some."""
    said: Words = {"promptTokenCount": usage.input, "candidatesTokenCount": max(usage.output - usage.reasoning, 0)}
    if usage.cached:
        said["cachedContentTokenCount"] = usage.cached
    if usage.reasoning:
        said["thoughtsTokenCount"] = usage.reasoning
    if details := _details(usage.input, usage.image_input, usage.audio_input):
        said["promptTokensDetails"] = details
        if usage.cached:
            said["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": usage.cached}]
    if details := _details(usage.output - usage.reasoning, usage.image_output, usage.audio_output):
        said["candidatesTokensDetails"] = details
    if usage.tier in ("flex", "priority"):
        said["serviceTier"] = usage.tier
    return {**said, "totalTokenCount": usage.input + usage.output}


def _details(whole: int, pictures: int, sounds: int) -> list[Words]:
    """Return tokens by modality, where there are others than text."""
    if not pictures and not sounds:
        return []
    counts = {"TEXT": whole - pictures - sounds, "IMAGE": pictures, "AUDIO": sounds}
    return [{"modality": kind, "tokenCount": tokens} for kind, tokens in counts.items() if tokens > 0]
