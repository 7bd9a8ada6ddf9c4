"""Thriftgate's gateway. In reading order:

- `app`           who exists: the composition root, start and stop
- `handler`       what happens to a request: the path, in one file
- `wire`          the request as a value, in whichever dialect it came; `auth` its caller
- `classify`      the classifier's place on the path: deadline, thread, cache
- `router`        who is chosen, and why: pure
- `calling`       from the plan to the first answer: who is called when, and when again
- `upstream`      `pool` how a call is made, `deadline` for how long, `slots` how many at once, `model` where to;
                  `health` how they do, `refusal` what they say, `hedging`, `probing`; `report` for an operator
- `relay`         how the answer returns; `sse` what it is cut into; `keepalive` while there is none
- `translate`     from one dialect to another; `dialects` what each says: `door`, `neutral`, then a package for each
- `receipt`       what happened; `ledger` where it goes; `pricing` what it cost; `metrics` what is counted
- `endpoints`     everything but the path; `explain` the dry run
- `config`        the configuration; `faults` what is wrong with it; `errors` what a caller is told
- `cli`           the commands; `serving` the listening side; `workers` several processes; `tasks`, `logs`

The words (caller, upstream, pool, model, route, rung, verdict, plan, target, lease, answer, response, receipt) mean one
thing each. "Model" is always an LLM; ours is the classifier. "Client" is the HTTP peer.
"""
