"""What an answer used, the same for every dialect: each token counts once in `input` or `output`, whatever it was."""

from typing import NamedTuple


class Usage(NamedTuple):
    """Tokens of one answer."""

    input: int                  # all of the prompt
    output: int                 # all that was generated
    cached: int = 0             # of `input`: read from the provider's prompt cache
    cache_write: int = 0        # of `input`: written to it
    reasoning: int = 0          # of `output`: thinking
    cache_write_1h: int = 0     # of `cache_write`: kept for an hour, which costs more
    image_input: int = 0        # of `input`, and not of `cached`
    audio_input: int = 0        # of `input`, and not of `cached`
    image_output: int = 0       # of `output`
    audio_output: int = 0       # of `output`
    searches: int = 0           # web searches, which are paid one by one
    tier: str = ""              # how it was served, where the price depends on it: batch, flex, priority, fast
    estimated: bool = False     # counted by us, since the provider did not say
