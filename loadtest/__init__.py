"""Everything that puts Thriftgate under load, or on trial. Imports nothing of ours: it must be able to accuse us.

In reading order:

    dials           what a fake provider can be told to do wrong, or slowly
    answers         what it says: seeded text, tool calls, JSON to a schema, token counts
    asking          a request in no provider's words, and the answer to it
    signatures      how it knows its own thoughts again
    script          what each fault makes of a healthy answer
    frames          OpenAI's Chat Completions as bytes; openai_format: its requests, refusals, headers
    anthropic_*     Anthropic's Messages: the fields of a request (shapes), what goes together (rules), the prompt's
                    cached prefix (cache), its bytes (frames), and all of it together (format)
    gemini_*        Google's Gemini API: the same, without a cache
    formats         the seam between these and the fake provider, and their addresses
    journal         what the fake provider saw and did, for tests to read and to wait on
    mock_upstream   the fake provider itself; `python -m loadtest.mock_upstream`
    workload        seeded prompts and arrival times
    processes       starts and stops what a run needs, and reads what it cost
    bare_relay      the plainest correct aiohttp relay: the yardstick of the bench
    locustfile      streaming users, closed and at a constant arrival rate
    load            `make load`: the locust users with and without the gateway
    overhead        the bench: CPU per request and per chunk, added latency, memory, start
    reception       what a client gets on each of the four surfaces, read as its SDK would
    judging         what became of each request of a storm, by client, receipts and providers
    storm_users     the clients of the storm, for locust
    storm           `make chaos`: faults, a provider killed and revived, every request accounted for
    crowd           2,000 streams at once through one worker, and what each costs
    real_prompts    the proof: 1,000 real prompts through the gateway with the official SDK
"""
