"""The deadlines of a call, on a clock that jumps: nothing here waits, and every moment is exact."""

import asyncio

import pytest

from gateway.errors import TimedOut
from gateway.upstream.deadline import Deadline
from tests.jumping import jumping

FOREVER_S = 1e6


def now() -> float:
    """The clock's time, in whole milliseconds."""
    return round(asyncio.get_running_loop().time(), 3)


async def hang() -> None:
    """Wait for what never comes."""
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(
    ("total_s", "phase", "seconds", "at", "expired"),
    [
        (600, "first_output", 8, 8, "first_output"),
        (600, "idle", 15, 15, "idle"),
        (600, "idle", 0, 0, "idle"),
        (10, "idle", 15, 10, "total"),
        (10, "first_output", 10, 10, "first_output"),
        (0, "first_output", 5, 0, "total"),
        (600, "idle", FOREVER_S, 600, "total"),
    ],
)
@jumping
async def test_each_phase(total_s: float, phase: str, seconds: float, at: float, expired: str) -> None:
    """What lasts too long is ended at its moment, and the error and the repr say which deadline it was."""
    deadline = Deadline(total_s)
    with pytest.raises(TimedOut) as caught, deadline.wait(phase, seconds):
        await hang()

    assert at == now()
    assert f"The upstream was too slow: its {expired} deadline passed." == caught.value.message
    assert (expired, f"<Deadline {expired} expired>") == (deadline.expired, repr(deadline))
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    deadline.close()


@jumping
async def test_what_is_in_time_is_left_alone() -> None:
    """Many waits, each shorter than its phase, together longer than any; then the task goes on uncancelled."""
    deadline = Deadline(600)
    with deadline.wait("first_output", 8):
        await asyncio.sleep(7.9)
    for _ in range(50):
        with deadline.wait("idle", 2):
            await asyncio.sleep(1.9)
    task = asyncio.current_task()
    deadline.close()

    assert task is not None
    assert (102.9, 0, None, "<Deadline idle>") == (now(), task.cancelling(), deadline.expired, repr(deadline))


@jumping
async def test_an_early_timer_sets_itself_again() -> None:
    """The clock of an earlier phase does not end a later one, nor does it let it go on too long."""
    deadline = Deadline(600)
    with deadline.wait("first_output", 5):
        await asyncio.sleep(4)
    with pytest.raises(TimedOut, match="idle"), deadline.wait("idle", 3):
        await hang()

    assert now() == 7
    deadline.close()


@jumping
async def test_a_shorter_phase_comes_before_a_longer_ones_timer() -> None:
    """The timer is set forward where the next phase ends sooner."""
    deadline = Deadline(600)
    with deadline.wait("first_output", 100):
        await asyncio.sleep(1)
    with pytest.raises(TimedOut, match="idle"), deadline.wait("idle", 3):
        await hang()

    assert now() == 4
    deadline.close()


@jumping
async def test_between_two_waits_the_phase_stands_still() -> None:
    """A client that reads slowly is not the upstream's fault: only the total runs on."""
    deadline = Deadline(600)
    with deadline.wait("first_output", 5):
        await asyncio.sleep(1)
    await asyncio.sleep(100)
    with deadline.wait("idle", 5):
        await asyncio.sleep(4)
    await asyncio.sleep(100)
    with pytest.raises(TimedOut, match="idle"), deadline.wait("idle", 5):
        await hang()

    assert now() == 210
    deadline.close()


@jumping
async def test_a_total_that_passes_between_two_waits() -> None:
    """It does not tear the client's own waiting: the next wait for the upstream raises, at once and every time."""
    deadline = Deadline(10)
    with deadline.wait("first_output", 5):
        await asyncio.sleep(1)
    await asyncio.sleep(100)
    for _ in range(2):
        with pytest.raises(TimedOut, match="total"), deadline.wait("idle", 5):
            await hang()
    await asyncio.sleep(100)
    task = asyncio.current_task()

    assert task is not None
    assert (201, 0) == (now(), task.cancelling())
    deadline.close()


@jumping
async def test_a_total_that_passes_while_the_client_is_waited_for() -> None:
    """Whoever waits for the client is told once, when the total passes, so that it can be given up."""
    deadline = Deadline(10)
    told: list[float] = []
    deadline.otherwise = lambda: told.append(now())
    with deadline.wait("first_output", 5):
        await asyncio.sleep(1)
    await asyncio.sleep(100)

    assert told == [10]
    deadline.close()


@pytest.mark.parametrize("at", [3.0, 5.0], ids=["before the deadline", "at the deadline"])
@jumping
async def test_anothers_cancellation_wins(at: float) -> None:
    """A client that left, even in the same moment as the deadline: the task is cancelled and not merely late."""

    async def waiting() -> None:
        """Wait under a deadline."""
        deadline = Deadline(600)
        try:
            with deadline.wait("idle", 5):
                await hang()
        finally:
            deadline.close()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(waiting())
        asyncio.get_running_loop().call_at(at, task.cancel)
        await asyncio.wait([task])

    assert task.cancelled()
    assert at == now()


@jumping
async def test_a_cancellation_from_before_is_not_taken_back() -> None:
    """A task that goes on after a cancellation still gets its own deadlines, and stays as cancelled as it was."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(1)
    deadline = Deadline(600)
    with pytest.raises(TimedOut), deadline.wait("idle", 5):
        await hang()
    cancelling = task.cancelling()
    deadline.close()
    task.uncancel()

    assert cancelling == 1


@jumping
async def test_the_waits_own_error_passes() -> None:
    """What the upstream raised is what is raised, even at the last moment."""

    async def fail_late() -> None:
        """Turn the cancellation into another error."""
        try:
            await hang()
        except asyncio.CancelledError:
            raise ConnectionResetError from None

    deadline = Deadline(600)
    with pytest.raises(ConnectionRefusedError), deadline.wait("idle", 5):
        raise ConnectionRefusedError
    with pytest.raises(ConnectionResetError), deadline.wait("idle", 5):
        await fail_late()
    task = asyncio.current_task()
    deadline.close()

    assert task is not None
    assert task.cancelling() == 0


@jumping
async def test_closing() -> None:
    """A closed deadline ends nothing any more."""
    deadline = Deadline(10)
    with deadline.wait("first_output", 5):
        await asyncio.sleep(1)
    deadline.close()
    await asyncio.sleep(100)

    assert deadline.expired is None


@jumping
async def test_outside_a_task() -> None:
    """There is nothing it could end, and it says so at once."""
    loop = asyncio.get_running_loop()
    told = loop.create_future()

    def make() -> None:
        """Make one in a callback of the loop's."""
        try:
            Deadline(1)
        except RuntimeError as error:
            told.set_result(str(error))

    loop.call_soon(make)

    assert await told == "a deadline needs a task whose waiting it can end"


@jumping
async def test_before_any_wait() -> None:
    """Only the total runs, and it ends no waiting but the upstream's."""
    deadline = Deadline(10)
    shown = repr(deadline)
    await asyncio.sleep(20)
    with pytest.raises(TimedOut, match="total"), deadline.wait("first_output", 5):
        await hang()

    assert (shown, now()) == ("<Deadline total>", 20)
    deadline.close()


class TestAdopting:
    """Another task waits on, under the same deadlines."""

    @pytest.mark.parametrize(
        ("total_s", "phase_s", "at", "expired"), [(600, 5, 8, "idle"), (7, 5, 7, "total")], ids=["phase", "total"]
    )
    @jumping
    async def test_its_waiting_is_ended(self, total_s: float, phase_s: float, at: float, expired: str) -> None:
        """The total goes on from when the deadline was made, and the task that made it is left alone."""
        made: asyncio.Future[Deadline] = asyncio.get_running_loop().create_future()

        async def begin() -> str:
            """Make a deadline, wait for the first output, and live on."""
            deadline = Deadline(total_s)
            with deadline.wait("first_output", 5):
                await asyncio.sleep(3)
            made.set_result(deadline)
            await asyncio.sleep(100)
            return "untouched"

        async with asyncio.TaskGroup() as group:
            maker = group.create_task(begin())
            deadline = await made
            deadline.adopt()
            with pytest.raises(TimedOut, match=expired), deadline.wait("idle", phase_s):
                await hang()
            ended = now()
            deadline.close()
        task = asyncio.current_task()
        assert task is not None

        assert (at, "untouched", 0) == (ended, maker.result(), task.cancelling())

    @jumping
    async def test_its_own_cancellations_are_its_own(self) -> None:
        """One from before is not taken back, and one that comes meanwhile wins."""
        deadline = await asyncio.gather(_made())

        async def wait() -> None:
            """Adopt it in a task that is cancelled, twice."""
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(1)
            deadline[0].adopt()
            asyncio.get_running_loop().call_at(5, task.cancel)
            with deadline[0].wait("idle", 5):
                await hang()

        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(wait())
            await asyncio.wait([waiting])
        deadline[0].close()

        assert waiting.cancelled()
        assert now() == 5


async def _made() -> Deadline:
    return Deadline(600)
