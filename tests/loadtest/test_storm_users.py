"""Locust's clients write down what they saw, all of it, whatever the server does.

In a process of their own: importing locust patches the sockets of the whole process.
"""

import socket
from pathlib import Path

from loadtest import processes, storm
from loadtest.processes import Server
from loadtest.reception import SURFACES, Seen
from loadtest.storm import Options


def blown(tmp_path: Path, server: Server, *, deadline_s: float = 10) -> tuple[int, list[Seen]]:
    """What the clients of a short storm say of a server."""
    out = tmp_path / "seen.jsonl"
    with storm.locust(out, server, Options(2, 20, 0, deadline_s, 1)) as users:
        users.wait(60)
    return storm.witnesses(out.read_bytes())


def at(port: int, tmp_path: Path) -> Server:
    """A server that is no process of ours."""
    return Server("other", 0, f"http://127.0.0.1:{port}/v1", tmp_path / "out", 0)


def test_every_request_leaves_a_line(tmp_path: Path) -> None:
    """Numbered, on all surfaces in turn; the mock, which knows no model of that name, refuses each in its own form."""
    with processes.mock() as mock:
        asked, seen = blown(tmp_path, mock)

    assert asked == len(seen) > 8
    assert [one.number for one in seen] == list(range(asked))
    assert [one.surface for one in seen[:8]] == [*SURFACES, *SURFACES]
    assert [one.stream for one in seen[:8]] == [True] * 4 + [False] * 4
    assert all(one.prompt.endswith(f"[storm {one.number}]") for one in seen)
    assert {one.status for one in seen} == {404}
    assert all("auto" in one.error for one in seen if one.surface != "responses")
    assert all(one.ended and one.begun < one.over for one in seen)


def test_a_server_that_says_nothing_is_left_at_the_deadline(tmp_path: Path) -> None:
    """It is written down as hung, and the run ends."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(1000)
        asked, seen = blown(tmp_path, at(deaf.getsockname()[1], tmp_path), deadline_s=1)

    assert asked == len(seen) > 8
    assert all(one.hung and not one.status for one in seen)


def test_a_server_that_is_not_there_is_written_down(tmp_path: Path) -> None:
    """No status, and what the connection did."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        asked, seen = blown(tmp_path, at(closed.getsockname()[1], tmp_path))

    assert asked == len(seen) > 8
    assert {(one.status, one.hung) for one in seen} == {(0, False)}
    assert all(one.broke.startswith("ConnectionRefusedError") for one in seen)
