"""The plan: who is chosen, in which order the others follow, and why. Then any ladder and any verdict."""

from collections.abc import Mapping
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import Condition, ModelConfig, RouteConfig, Rule
from gateway.errors import BadRequest, ContextTooLong, NotFound
from gateway.router import Plan, Reason, Router, Source, Target, Verdict, rung_names
from gateway.wire import ChatRequest, chat

STEADY = settings(deadline=None, derandomize=True, database=None, max_examples=200)
LADDER = ["small", "medium", "large"]
MODELS = {name: ModelConfig(upstream="u", context=1000) for name in (*LADDER, "huge", "extra")}
TOOL = {"type": "function", "function": {"name": "f"}}
IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://pictures.example/a.png"}}]}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}}


def asked(model: str = "auto", *, rung: str | None = None, **fields: Any) -> ChatRequest:
    """A request as the path decodes it."""
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], **fields}
    return chat.decode(orjson.dumps(body), {"x-thriftgate-rung": rung} if rung is not None else {})


def sure(p_cheap: float, task: str = "chat", source: Source = Source.CLASSIFIER) -> Verdict:
    """A verdict with this chance."""
    return Verdict(source, 1 - p_cheap, p_cheap, task)


def router(route: RouteConfig | None = None, default_threshold: float = 0.7, **models: Any) -> Router:
    """A router with one route, `auto`, over the ladder, and these models changed."""
    return Router({"auto": route or RouteConfig(ladder=LADDER)}, {**MODELS, **models}, default_threshold)


def names(plan: Plan) -> list[str]:
    """The models of a plan, in their order."""
    return [target.model for target in plan.targets]


class TestNames:
    """What a caller may write as `model`."""

    def test_a_route_and_its_aliases(self) -> None:
        """An application that asks for gpt-4 is routed without a change."""
        made = router(RouteConfig(ladder=LADDER, aliases=["gpt-4", "gpt-4o"]))

        assert [made.resolve(name) for name in ("auto", "gpt-4", "gpt-4o")] == ["auto", "auto", "auto"]
        assert ["auto", "gpt-4", "gpt-4o", *MODELS] == made.names()
        assert made.plan(asked("gpt-4"), sure(0.9)).route == "auto"

    def test_a_model(self) -> None:
        """A configured model stands behind its own name."""
        assert router().resolve("small") is None

    def test_anything_else_lists_what_there_is(self) -> None:
        """404, with every name that would have done."""
        with pytest.raises(NotFound) as caught:
            router(RouteConfig(ladder=LADDER, aliases=["gpt-4"])).plan(asked("gpt-5"), None)

        expected = (
            404, "model",
            "The model 'gpt-5' does not exist here. There are: auto, gpt-4, small, medium, large, huge, extra.",
        )
        assert expected == (caught.value.status, caught.value.param, caught.value.message)

    def test_the_repr(self) -> None:
        """An operator reads how much is configured."""
        assert repr(router()) == "<Router 1 routes, 5 models>"

    @pytest.mark.parametrize(
        ("count", "expected"),
        [
            (1, ["premium"]), (2, ["cheap", "premium"]), (3, ["cheap", "middle", "premium"]),
            (5, ["cheap", "middle-1", "middle-2", "middle-3", "premium"]),
        ],
    )
    def test_rungs(self, count: int, expected: list[str]) -> None:
        """Rungs are named from cheap to premium; one alone is premium."""
        assert expected == rung_names([f"m{i}" for i in range(count)])


class TestExplicit:
    """The caller decides."""

    @pytest.mark.parametrize("verdict", [None, sure(1.0), sure(0.0)])
    def test_a_model_is_never_routed(self, verdict: Verdict | None) -> None:
        """A model asked for by name answers, or nobody does: no route, no fallback, whatever the verdict."""
        expected = Plan((Target("medium", ""),), Reason.EXPLICIT, "the caller named the model")

        assert expected == router().plan(asked("medium"), verdict)

    @pytest.mark.parametrize(
        ("rung", "expected"),
        [
            ("cheap", ["small", "medium", "large"]), ("middle", ["medium", "large", "small"]),
            ("premium", ["large", "medium", "small"]), ("medium", ["medium", "large", "small"]),
        ],
    )
    def test_a_pinned_rung(self, rung: str, expected: list[str]) -> None:
        """A rung is pinned by its name or its model's, before rules and verdict; the others stay for fallback."""
        rules = [Rule(when=Condition(), use="huge")]
        plan = router(RouteConfig(ladder=LADDER, rules=rules)).plan(asked(rung=rung), sure(0.9))

        assert expected == names(plan)
        assert (Reason.EXPLICIT, f"the caller pinned rung {rung!r}") == (plan.reason, plan.why)

    def test_a_models_name_goes_before_a_rungs(self) -> None:
        """On a ladder whose model is called `cheap`, that model is meant."""
        models = {"cheap": MODELS["small"], "other": MODELS["small"]}
        made = Router({"auto": RouteConfig(ladder=["other", "cheap"])}, models, 0.7)

        assert names(made.plan(asked(rung="cheap"), None)) == ["cheap", "other"]

    @pytest.mark.parametrize("rung", ["cheap", "premium", "small"])
    def test_one_rung_is_cheap_and_premium(self, rung: str) -> None:
        """A pin for either end holds on a ladder of one."""
        plan = router(RouteConfig(ladder=["small"])).plan(asked(rung=rung), None)

        assert plan.targets == (Target("small", "premium"),)

    @pytest.mark.parametrize("rung", ["middle-1", "huge", "", "CHEAP"])
    def test_an_unknown_rung(self, rung: str) -> None:
        """400, with the rungs there are; a model off the ladder is none."""
        with pytest.raises(BadRequest) as caught:
            router().plan(asked(rung=rung), sure(0.9))

        expected = (
            400, "x-thriftgate-rung",
            f"There is no rung {rung!r} on this ladder: use one of cheap, middle, premium, small, medium, large.",
        )
        assert expected == (caught.value.status, caught.value.param, caught.value.message)


CONDITIONS: dict[str, tuple[Condition, dict[str, Any], bool]] = {
    "nothing always holds": (Condition(), {}, True),
    "tools": (Condition(tools=True), {"tools": [TOOL]}, True),
    "tools, none": (Condition(tools=True), {}, False),
    "no tools": (Condition(tools=False), {}, True),
    "no tools, one": (Condition(tools=False), {"tools": [TOOL]}, False),
    "images": (Condition(images=True), {"messages": [IMAGE]}, True),
    "images, none": (Condition(images=True), {}, False),
    "no images": (Condition(images=False), {}, True),
    "no images, one": (Condition(images=False), {"messages": [IMAGE]}, False),
    "structured": (Condition(structured=True), {"response_format": SCHEMA}, True),
    "structured, not": (Condition(structured=True), {}, False),
    "not structured": (Condition(structured=False), {}, True),
    "not structured, but is": (Condition(structured=False), {"response_format": SCHEMA}, False),
    "task": (Condition(task="chat"), {}, True),
    "another task": (Condition(task="code"), {}, False),
    "all": (Condition(tools=True, task="chat"), {"tools": [TOOL]}, True),
    "all but one": (Condition(tools=True, task="code"), {"tools": [TOOL]}, False),
}


class TestRules:
    """A route's rules go before the verdict."""

    @pytest.mark.parametrize(("when", "fields", "holds"), CONDITIONS.values(), ids=CONDITIONS)
    def test_each_condition(self, when: Condition, fields: dict[str, Any], *, holds: bool) -> None:
        """Every part of a condition that is given must hold."""
        plan = router(RouteConfig(ladder=LADDER, rules=[Rule(when=when, use="large")])).plan(asked(**fields), sure(0.9))
        ruled, judged = ("large", Reason.RULE, "rule 0"), ("small", Reason.LEARNED, "p_cheap 0.900 ≥ threshold 0.7")

        assert (ruled if holds else judged) == (names(plan)[0], plan.reason, plan.why)

    def test_the_first_that_holds(self) -> None:
        """Rules are read in their order, and the reason counts them."""
        rules = [Rule(when=Condition(tools=True), use="small"), Rule(when=Condition(task="chat"), use="medium"),
                 Rule(when=Condition(), use="large")]
        plan = router(RouteConfig(ladder=LADDER, rules=rules)).plan(asked(), sure(0.9))

        assert (names(plan), plan.why) == (["medium", "large", "small"], "rule 1")

    @pytest.mark.parametrize("verdict", [None, Verdict(Source.LATE)])
    def test_without_a_verdict_no_task_is_known(self, verdict: Verdict | None) -> None:
        """A rule on the task does not hold then; one on the request does."""
        rules = [Rule(when=Condition(task="chat"), use="small"), Rule(when=Condition(tools=False), use="medium")]
        plan = router(RouteConfig(ladder=LADDER, rules=rules)).plan(asked(), verdict)

        assert (plan.reason, plan.why) == (Reason.RULE, "rule 1")

    def test_a_model_off_the_ladder(self) -> None:
        """A rule may use a model on no rung; behind it the ladder is tried from its top."""
        rules = [Rule(when=Condition(), use="huge")]
        plan = router(RouteConfig(ladder=LADDER, rules=rules)).plan(asked(), None)

        assert names(plan) == ["huge", "large", "medium", "small"]
        assert [target.rung for target in plan.targets] == ["", "premium", "middle", "cheap"]


def with_room(context: int) -> ModelConfig:
    """A model that holds this many tokens."""
    return ModelConfig(upstream="u", context=context)


LACKS: dict[str, tuple[ModelConfig, dict[str, Any], str]] = {
    "tools": (ModelConfig(upstream="u", tools=False, context=1000), {"tools": [TOOL]}, "it cannot call tools"),
    "functions": (ModelConfig(upstream="u", tools=False, context=1000), {"functions": [{}]}, "it cannot call tools"),
    "images": (ModelConfig(upstream="u", images=False, context=1000), {"messages": [IMAGE]}, "it cannot read images"),
    "structured": (
        ModelConfig(upstream="u", structured=False, context=1000), {"response_format": SCHEMA},
        "it cannot follow a JSON schema",
    ),
    "context": (
        with_room(99), {"max_tokens": 80}, "about 106 tokens do not fit into its context of 99"
    ),
}


class TestCapability:
    """Who cannot serve the request is off the ladder before anything is ranked."""

    @pytest.mark.parametrize(("weak", "fields", "lack"), LACKS.values(), ids=LACKS)
    def test_the_next_rung_up_answers(self, weak: ModelConfig, fields: dict[str, Any], lack: str) -> None:
        """Capability goes before price, and the plan says what was missing."""
        plan = router(small=weak).plan(asked(**fields), sure(0.9))

        assert names(plan) == ["medium", "large"]
        assert plan.reason == Reason.CAPABILITY
        assert plan.why == f"p_cheap 0.900 ≥ threshold 0.7, but small cannot serve this: {lack}"
        assert plan.removed == (("small", lack),)

    @pytest.mark.parametrize(("weak", "fields", "lack"), LACKS.values(), ids=LACKS)
    def test_a_fallback_that_could_not_serve_is_none(
        self, weak: ModelConfig, fields: dict[str, Any], lack: str
    ) -> None:
        """Where the choice itself can serve, its reason stands and only the fallback shrinks."""
        plan = router(large=weak).plan(asked(**fields), sure(0.9))

        assert (names(plan), plan.reason) == (["small", "medium"], Reason.LEARNED)
        assert plan.removed == (("large", lack),)

    @pytest.mark.parametrize("weak", [weak for weak, _, _ in LACKS.values()])
    def test_what_is_not_asked_for_is_not_missed(self, weak: ModelConfig) -> None:
        """A plain request goes to a plain model."""
        plan = router(small=weak).plan(asked(), sure(0.9))

        assert (names(plan), plan.removed) == (LADDER, ())

    @pytest.mark.parametrize("model", ["auto", "small"])
    def test_nobody_can(self, model: str) -> None:
        """400 that says what each lacks, for a route and for a model that was named."""
        weak = ModelConfig(upstream="u", tools=False)
        with pytest.raises(BadRequest) as caught:
            router(RouteConfig(ladder=["small"]), small=weak).plan(asked(model, tools=[TOOL]), sure(0.9))

        expected = (
            400, "model", f"No model behind {model!r} can serve this request. small: it cannot call tools.",
        )
        assert expected == (caught.value.status, caught.value.param, caught.value.message)

    def test_a_rules_model_that_cannot(self) -> None:
        """The ladder stands in for a model off the ladder too."""
        route = RouteConfig(ladder=LADDER, rules=[Rule(when=Condition(), use="huge")])
        plan = router(route, huge=ModelConfig(upstream="u", tools=False)).plan(asked(tools=[TOOL]), None)

        assert (names(plan), plan.reason) == (["large", "medium", "small"], Reason.CAPABILITY)

    def test_room_for_the_answer_counts(self) -> None:
        """What the caller wants written must fit beside what is read: about three bytes a token, to the token."""
        request = asked(max_tokens=500)
        likely = len(request.raw) // 3 + 500
        enough = with_room(likely)
        plan = router(small=with_room(likely - 1), medium=enough, large=enough).plan(request, sure(0.9))

        assert names(plan) == ["medium", "large"]

    def test_attached_data_takes_no_room(self) -> None:
        """A picture is not counted by its bytes."""
        picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
        plan = router().plan(asked(messages=[{"role": "user", "content": [picture]}]), sure(0.9))

        assert names(plan) == LADDER

    def test_in_doubt_the_roomiest_is_asked(self) -> None:
        """Where no rung probably fits but one may, the provider counts: our estimate refuses nobody."""
        contexts: dict[str, Any] = {"small": with_room(200), "medium": with_room(300), "large": with_room(250)}
        plan = router(**contexts).plan(asked(messages=[{"role": "user", "content": "x" * 2000}]), sure(0.9))

        assert (names(plan), plan.reason) == (["medium"], Reason.CAPABILITY)
        assert [model for model, _ in plan.removed] == ["small", "large"]

    @pytest.mark.parametrize("model", ["auto", "medium"])
    def test_what_surely_fits_nowhere(self, model: str) -> None:
        """Only when even eight bytes a token are too many: 400 context_length_exceeded, before anything is sent."""
        rooms: dict[str, Any] = {"small": with_room(20), "medium": with_room(30), "large": with_room(25)}
        request = asked(model, messages=[{"role": "user", "content": "x" * 1000}])
        least = len(request.raw) // 8
        with pytest.raises(ContextTooLong) as caught:
            router(**rooms).plan(request, sure(0.9))

        expected = (
            400, "context_length_exceeded", "messages",
            f"The conversation has at least {least} tokens; the largest context behind {model!r} has 30."
            " Shorten the messages or add a model with a larger context.",
        )
        error = caught.value
        assert expected == (error.status, error.code, error.param, error.message)

    def test_the_least_is_exact(self) -> None:
        """A conversation whose least count is just the context still goes out."""
        request = asked(messages=[{"role": "user", "content": "x" * 1000}])
        room = with_room(len(request.raw) // 8)

        plan = router(small=room, medium=room, large=room).plan(request, sure(0.9))

        assert names(plan) == ["small", "medium", "large"]

    def test_doubt_about_the_room_moves_nobody_down(self) -> None:
        """Where no rung surely has the room, those with most of it stay: a hard prompt still goes to the top."""
        request = asked(messages=[{"role": "user", "content": "x" * 1000}])
        room = with_room(len(request.raw) // 8)
        plan = router(small=room, medium=room, large=room).plan(request, sure(0.01))

        assert names(plan) == ["large", "medium", "small"]
        assert plan.reason is Reason.LEARNED


THRESHOLDS: dict[str, tuple[int, float, float, int]] = {
    "0 is always cheap": (2, 0.0, 0.0, 0),
    "0 is always cheap, of three": (3, 0.0, 0.0, 0),
    "1.01 is never cheap": (2, 1.01, 1.0, 1),
    "1.01 is always the dearest": (3, 1.01, 1.0, 2),
    "the threshold itself is cheap": (2, 0.7, 0.7, 0),
    "below it is not": (2, 0.7, 0.699, 1),
    "three: at the threshold": (3, 0.7, 0.7, 0),
    "three: between": (3, 0.7, 0.6, 1),
    "three: at half of its odds": (3, 0.8, 0.667, 1),
    "three: below half of its odds": (3, 0.8, 0.666, 2),
    "four: a quarter of its odds": (4, 0.9, 0.693, 2),
    "four: half of its odds": (4, 0.9, 0.819, 1),
    "four: below a quarter": (4, 0.9, 0.691, 3),
    "four: the threshold itself, where halves do not add up": (4, 0.012, 0.012, 0),
    "one": (1, 0.7, 0.1, 0),
}


class TestThreshold:
    """The verdict against the route's threshold."""

    @pytest.mark.parametrize(("rungs", "threshold", "p_cheap", "expected"), THRESHOLDS.values(), ids=THRESHOLDS)
    def test_which_rung(self, rungs: int, threshold: float, p_cheap: float, expected: int) -> None:
        """The cheapest from the threshold on, those between in even steps of odds below it."""
        ladder = [*MODELS][:rungs]
        plan = router(RouteConfig(ladder=ladder, threshold=threshold)).plan(asked(), sure(p_cheap))
        sign = "≥" if p_cheap >= threshold else "<"

        assert ladder[expected] == names(plan)[0]
        assert (Reason.LEARNED, f"p_cheap {p_cheap:.3f} {sign} threshold {threshold:g}") == (plan.reason, plan.why)
        assert threshold == plan.threshold

    def test_the_default_threshold(self) -> None:
        """A route without one takes the classifier's, and 0 is one."""
        assert names(router(default_threshold=0.6).plan(asked(), sure(0.65)))[0] == "small"
        assert names(router(default_threshold=0.7).plan(asked(), sure(0.65)))[0] == "medium"
        assert names(router(RouteConfig(ladder=LADDER, threshold=0.0), 0.7).plan(asked(), sure(0.0)))[0] == "small"

    @pytest.mark.parametrize(
        ("p_cheap", "expected"),
        [(0.9, ["small", "medium", "large"]), (0.6, ["medium", "large", "small"]), (0.1, ["large", "medium", "small"])],
    )
    def test_fallback_goes_up_first(self, p_cheap: float, expected: list[str]) -> None:
        """A failed target is followed by the better ones, then by the next cheaper."""
        assert expected == names(router().plan(asked(), sure(p_cheap)))

    def test_the_plan_carries_its_circumstances(self) -> None:
        """Route, rungs and what savings are counted against."""
        plan = router().plan(asked(), sure(0.9))

        expected = Plan(
            targets=(Target("small", "cheap"), Target("medium", "middle"), Target("large", "premium")),
            reason=Reason.LEARNED, why="p_cheap 0.900 ≥ threshold 0.7", route="auto", threshold=0.7, premium="large",
        )
        assert expected == plan


class TestWithoutAVerdict:
    """The conservative default."""

    @pytest.mark.parametrize(
        ("verdict", "cause"),
        [(None, "not asked")]
        + [(Verdict(source), source.value) for source in (Source.LATE, Source.BUSY, Source.FAILED, Source.ABSENT)],
    )
    def test_the_top_of_the_ladder(self, verdict: Verdict | None, cause: str) -> None:
        """Quality before price, with the cause, even where the threshold says always cheap."""
        plan = router(RouteConfig(ladder=LADDER, threshold=0.0)).plan(asked(), verdict)

        assert names(plan) == ["large", "medium", "small"]
        assert (Reason.SAFE_DEFAULT, f"no verdict ({cause}): the top of the ladder") == (plan.reason, plan.why)

    @pytest.mark.parametrize(("p_cheap", "model"), [(0.9, "small"), (0.6, "medium"), (0.1, "large")])
    def test_the_sessions_last_verdict(self, p_cheap: float, model: str) -> None:
        """It is used like a fresh one and the reason says so."""
        plan = router().plan(asked(), sure(p_cheap, source=Source.SESSION))

        assert (model, Reason.STICKY) == (names(plan)[0], plan.reason)

    def test_a_cached_verdict_is_a_verdict(self) -> None:
        """A repeated prompt is learned, not sticky."""
        assert router().plan(asked(), sure(0.9, source=Source.CACHE)).reason == Reason.LEARNED


SWITCHES = st.booleans()
SOME_MODELS = st.dictionaries(
    st.sampled_from("abcdef"),
    st.builds(
        ModelConfig, upstream=st.just("u"), context=st.sampled_from([10, 60, 1000]), tools=SWITCHES, images=SWITCHES,
        structured=SWITCHES,
    ),
    min_size=1,
)
PINS = st.none() | st.sampled_from(["cheap", "middle", "middle-1", "premium", "a", "b"])
NEEDS: st.SearchStrategy[Mapping[str, Any]] = st.fixed_dictionaries(
    {}, optional={"tools": st.just([TOOL]), "messages": st.just([IMAGE]), "response_format": st.just(SCHEMA),
                  "max_tokens": st.integers(1, 900)}
)
VERDICTS = st.none() | st.builds(
    Verdict, source=st.sampled_from(Source), score=st.just(0.5), p_cheap=st.none() | st.floats(0, 1),
    task=st.none() | st.sampled_from(["chat", "code"]),
)
CHOICES = {Reason.LEARNED, Reason.STICKY, Reason.SAFE_DEFAULT, Reason.RULE, Reason.EXPLICIT, Reason.CAPABILITY}


@st.composite
def routes(draw: st.DrawFn, models: dict[str, ModelConfig]) -> RouteConfig:
    """Any route over these models."""
    some = st.sampled_from(sorted(models))
    conditions = st.builds(Condition, tools=st.none() | SWITCHES, task=st.none() | st.just("chat"))
    return RouteConfig(
        ladder=draw(st.lists(some, min_size=1, unique=True)),
        threshold=draw(st.none() | st.floats(0, 1.01)),
        rules=draw(st.lists(st.builds(Rule, when=conditions, use=some), max_size=2)),
    )


def cannot(request: ChatRequest, model: ModelConfig) -> bool:
    """Whether the request needs what the model has not, apart from room."""
    return bool(
        (request.tools and not model.tools) or (request.images and not model.images)
        or (request.structured and not model.structured)
    )


def planned(made: Router, request: ChatRequest, verdict: Verdict | None) -> Plan | BadRequest:
    """A plan, or the refusal."""
    try:
        return made.plan(request, verdict)
    except BadRequest as refusal:
        return refusal


@STEADY
@given(data=st.data(), models=SOME_MODELS, needs=NEEDS, verdict=VERDICTS, pin=PINS)
def test_any_plan(
    data: st.DataObject, models: dict[str, ModelConfig], needs: Mapping[str, Any], verdict: Verdict | None,
    pin: str | None,
) -> None:
    """Whatever the ladder, verdict and need: no unfit model, none twice, none forgotten, the first as reasoned."""
    route = data.draw(routes(models))
    request = asked(rung=pin, **needs)
    threshold = 0.7 if route.threshold is None else route.threshold
    plan = planned(Router({"auto": route}, models, 0.7), request, verdict)
    if isinstance(plan, BadRequest):
        unknown = pin is not None and pin not in {*route.ladder, *rung_names(route.ladder), "cheap"}
        assert unknown or isinstance(plan, ContextTooLong) or all(cannot(request, models[m]) for m in route.ladder)
        return
    tried, removed = names(plan), dict(plan.removed)

    assert len(set(tried)) == len(tried)
    assert not any(cannot(request, models[m]) for m in tried)
    assert not set(tried) & set(removed)
    assert set(route.ladder) <= {*tried, *removed} <= {*route.ladder, *(rule.use for rule in route.rules)}
    assert plan.reason in CHOICES
    assert plan.why
    if plan.reason is Reason.SAFE_DEFAULT:
        assert route.ladder[-1] == tried[0]
    if plan.reason in {Reason.LEARNED, Reason.STICKY} and len(route.ladder) > 1:
        assert verdict is not None
        assert verdict.p_cheap is not None
        assert (tried[0] == route.ladder[0]) == (verdict.p_cheap >= threshold)
        assert (plan.reason is Reason.STICKY) == (verdict.source is Source.SESSION)
    if plan.reason is Reason.RULE:
        assert tried[0] == route.rules[int(plan.why.removeprefix("rule "))].use
    if plan.reason is Reason.EXPLICIT:
        rung_of = dict(zip(route.ladder, rung_names(route.ladder), strict=True))
        assert pin in {tried[0], rung_of[tried[0]], "cheap"}
    if plan.reason is Reason.CAPABILITY:
        assert removed


@STEADY
@given(rungs=st.integers(2, 6), threshold=st.floats(0, 1.01), chances=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_better_chance_is_never_dearer(rungs: int, threshold: float, chances: tuple[float, float]) -> None:
    """The rung falls as p_cheap rises; the cheapest answers from the threshold on, to the last digit."""
    ladder = [f"m{i}" for i in range(rungs)]
    models = dict.fromkeys(ladder, MODELS["small"])
    made = Router({"auto": RouteConfig(ladder=ladder, threshold=threshold)}, models, 0.7)
    low, high = (ladder.index(names(made.plan(asked(), sure(p)))[0]) for p in sorted(chances))
    at = names(made.plan(asked(), sure(threshold)))[0]

    assert high <= low
    assert at == ladder[0]


def test_a_plan_is_a_value() -> None:
    """It crosses rooms: frozen, and equal to another with the same content."""
    plan = router().plan(asked(), sure(0.9))

    assert plan == msgspec.structs.replace(plan)
    with pytest.raises(AttributeError):
        plan.why = "other"  # type: ignore[misc]


@pytest.mark.parametrize(("kept", "models", "reason", "why"), [
    ([0, 1, 2], ["a", "b", "c"], Reason.LEARNED, "sure"), ([0, 2], ["a", "c"], Reason.LEARNED, "sure"),
    ([1, 2], ["b", "c"], Reason.BUDGET, "sure, but not a: budget"),
    ([2], ["c"], Reason.BUDGET, "sure, but not a: budget"),
    ([2, 0], ["c", "a"], Reason.BUDGET, "sure, but not a: budget"),
])
def test_what_is_left_of_a_plan(kept: list[int], models: list[str], reason: Reason, why: str) -> None:
    """Those of its targets that may be called; another reason where the first of all is not the first of these."""
    plan = Plan(tuple(Target(model) for model in "abc"), Reason.LEARNED, "sure", route="auto", threshold=0.5)
    left = plan.only(kept, Reason.BUDGET)

    assert (names(left), left.reason, left.why) == (models, reason, why)
    assert (left.route, left.threshold, left is plan) == ("auto", 0.5, kept == [0, 1, 2])
