"""Thriftgate's gateway. In reading order:

- `app`           who exists: the composition root, start and stop; `books` what outlives a configuration
- `handler`       what happens to a request: the path, in one file
- `wire`          the request as a value, in whichever dialect it came; `auth` its caller
- `classify`      the classifier's place on the path: deadline, thread, cache
- `router`        who is chosen, and why: pure
- `allowance`     what it may use. `admission`: limits (`limits` the rules); `treasury`: budgets (`budgets` the rules,
                  `purse` and `teller` what a process has of them, `alerts`); `shared` what several nodes have in common
- `calling`       from the plan to the first answer: `search` who is called when, and when again; `race` two at once
- `upstream`      `pool` how a call is made, `deadline` for how long, `slots` how many at once, `model` where to;
                  `health` how they do, `refusal` what they say, `hedging`, `probing`; `report` for an operator
- `relay`         how the answer returns; `sse` what it is cut into; `keepalive` while there is none
- `translate`     from one dialect to another; `dialects` what each says: `door`, `neutral`, then a package for each
- `receipt`       what happened; `accounting` what it cost: `pricing`, `estimating`, `counterfactual`
- `ledger`        where receipts go: `spool` on disk, `bookkeeper` from there to the `store`; `metrics` what is counted
- `endpoints`     everything but the path; `explain` the dry run; `usage` a key's own figures, `report` everybody's
- `keys`          virtual keys as values; `storedkeys` those in force, `admin` who changes them
- `config`        the configuration; `faults` what is wrong with it; `errors` what a caller is told
- `cli`           the commands; `serving` the listening side; `workers` several processes; `tasks`, `logs`

The words (caller, upstream, pool, model, route, rung, verdict, plan, target, lease, answer, response, receipt) mean one
thing each. "Model" is always an LLM; ours is the classifier. "Client" is the HTTP peer.
"""
