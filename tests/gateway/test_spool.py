"""What is written ahead is there for whoever comes next: whole, once, and only after its process is dead."""

import errno
import fcntl
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway import spool
from gateway.spool import Spool

LINE = b'{"request_id":"r-1"}\n'
Opens = Callable[..., Spool]
# A process that appends a line, says so, and lives until it is killed
WRITER = """
import sys
from pathlib import Path
from gateway.spool import Spool
spool = Spool(Path(sys.argv[1]), sys.argv[2])
for line in sys.argv[3:]:
    spool.append(line.encode() + b"\\n")
print("written", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the segments are; it is not there yet."""
    return tmp_path / "data" / "spool"


@pytest.fixture
def opened(directory: Path) -> Iterator[Opens]:
    """`opened("holder")`: a spool, closed after the test."""
    all_: list[Spool] = []

    def open_(holder: str = "me", bound: int = spool.BOUND_BYTES) -> Spool:
        all_.append(Spool(directory, holder, bound))
        return all_[-1]

    yield open_
    for one in all_:
        one.close()


@pytest.fixture
def dead(directory: Path) -> Callable[..., None]:
    """`dead("holder", lines)`: a process that has written and was killed with SIGKILL."""
    def die(holder: str, *lines: str) -> None:
        command = [sys.executable, "-c", WRITER, str(directory), holder, *lines]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
        process.communicate()

    return die


def line(number: int) -> bytes:
    """A receipt's line."""
    return b'{"request_id":"r-%d"}\n' % number


def ids(*paths: Path) -> list[str]:
    """The receipts in some segments."""
    return [row["request_id"] for path in paths for row in spool.read(path).rows]


def test_a_segment_is_what_was_appended(opened: Opens, directory: Path) -> None:
    """In order, in a file of the holder's name, for nobody else's eyes."""
    mine = opened()
    mine.append(line(1) + line(2))
    mine.append(line(3))
    path = mine.rotate()

    assert path == directory / "me-00000001.jsonl"
    assert path.read_bytes() == line(1) + line(2) + line(3)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (directory, directory.parent)] == [0o700, 0o700]
    assert spool.holder_of(path.stem) == "me"


def test_rotation(opened: Opens) -> None:
    """Nothing is made of nothing; each segment has a number of its own; the oldest come first."""
    mine = opened()
    nothing = mine.rotate()
    paths = []
    for number in (1, 2):
        mine.append(line(number))
        paths.append(mine.rotate())

    assert nothing is None
    assert mine.closed() == paths
    assert ids(*mine.closed()) == ["r-1", "r-2"]
    assert mine.rotate() is None


def test_a_large_segment_closes_itself(opened: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no need of anybody's help to stay of a size that is stored at once."""
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 2 * len(LINE))
    mine = opened()
    for number in range(5):
        mine.append(line(number))

    assert [len(spool.read(path).rows) for path in mine.closed()] == [2, 2]
    assert (mine.segments, mine.size) == (3, 5 * len(LINE))
    assert repr(mine) == "<Spool me 3 segments, 105 bytes>"


def test_what_is_stored_is_gone(opened: Opens, directory: Path) -> None:
    """And counted no more."""
    mine = opened()
    mine.append(LINE)
    path = mine.rotate()
    assert path is not None
    mine.remove(path)
    mine.remove(path)

    assert (mine.closed(), mine.segments, mine.size) == ([], 0, 0)
    assert list(directory.glob("*.jsonl")) == []


def test_a_write_that_stops_in_the_middle_is_undone(opened: Opens) -> None:
    """The system takes a part of the lines and refuses the rest: none is there, and all can be written again."""
    mine = opened()
    mine.append(line(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(line(1)) * 2 + 5, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            mine.append(line(2) + line(3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    mine.append(line(2) + line(3))
    path = mine.rotate()

    assert path is not None
    assert path.read_bytes() == line(1) + line(2) + line(3)


def test_a_part_that_cannot_be_undone_at_once(opened: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is added behind it, and the segment is not closed, until it is cut off."""
    mine = opened()
    mine.append(line(1))
    real_write, real_cut = os.write, os.ftruncate
    parts = iter([7])

    def write(descriptor: int, data: bytes) -> int:
        if (part := next(parts, None)) is None:
            raise OSError(errno.ENOSPC, "full")
        return real_write(descriptor, data[:part])

    def cut(descriptor: int, size: int) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as broken:
        broken.setattr(os, "write", write)
        broken.setattr(os, "ftruncate", cut)
        with pytest.raises(OSError, match="full"):
            mine.append(line(2))
        broken.setattr(os, "write", real_write)
        with pytest.raises(OSError, match="broken"):
            mine.append(line(2))
        closed = mine.rotate()
        broken.setattr(os, "ftruncate", real_cut)
        mine.append(line(2))

    assert closed is None
    path = mine.rotate()
    assert path is not None
    assert path.read_bytes() == line(1) + line(2)


def test_the_bound(opened: Opens, dead: Callable[..., None]) -> None:
    """All that waits in the directory counts, whoever wrote it; what is stored makes room."""
    others = opened("other")
    others.append(LINE)
    mine = opened("me", bound=3 * len(LINE))
    mine.adopt()
    mine.append(LINE)
    path = mine.rotate()
    mine.append(LINE)
    with pytest.raises(OSError, match="as large as it may grow"):
        mine.append(LINE)
    assert path is not None
    mine.remove(path)
    mine.append(LINE)

    assert mine.size == 2 * len(LINE)


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """It is an error of the append, and none once it can be."""
    (tmp_path / "data").write_text("in the way")
    mine = Spool(tmp_path / "data" / "spool", "me")
    adopted = mine.adopt()
    with pytest.raises(OSError, match="data"):
        mine.append(LINE)
    (tmp_path / "data").unlink()
    mine.append(LINE)
    mine.close()

    assert adopted == []
    assert ids(*(tmp_path / "data" / "spool").glob("*.jsonl")) == ["r-1"]


def test_a_directory_that_is_cleared(opened: Opens, directory: Path) -> None:
    """What was in it is gone; what comes is written to files that are there."""
    mine = opened()
    mine.append(line(1))
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
    mine.append(line(2))

    assert ids(*filter(None, [mine.rotate()])) == ["r-2"]
    assert opened("other").adopt() == []


@pytest.mark.parametrize(
    ("content", "rows", "unreadable"),
    [
        (b"", [], 0),
        (line(1) + line(2)[:9], ["r-1"], 0),
        (line(1)[:9], [], 0),
        (line(1) + b"\0\0\0\n[]\n" + line(2), ["r-1", "r-2"], 2),
    ],
)
def test_reading(tmp_path: Path, content: bytes, rows: list[str], unreadable: int) -> None:
    """A last line that was not finished was never appended. A whole one that is no receipt is counted."""
    path = tmp_path / "a-00000001.jsonl"
    path.write_bytes(content)

    assert ids(path) == rows
    assert spool.read(path).unreadable == unreadable


def test_the_dead_are_inherited(opened: Opens, dead: Callable[..., None], directory: Path) -> None:
    """By one, under the names that the segments have; once they are stored nothing is left."""
    dead("first", '{"request_id":"r-1"}')
    dead("second", '{"request_id":"r-2"}')
    mine, late = opened("me"), opened("late")
    adopted = mine.adopt()
    again, too_late = mine.adopt(), late.adopt()
    closed = mine.closed()
    for path in adopted:
        mine.remove(path)

    assert [path.name for path in adopted] == ["first-00000001.jsonl", "second-00000001.jsonl"]
    assert closed == adopted
    assert (again, too_late) == ([], [])
    assert list(directory.iterdir()) == []


def test_the_living_are_not(opened: Opens) -> None:
    """Neither what a process writes nor what it has closed."""
    theirs, mine = opened("them"), opened("me")
    theirs.append(line(1))
    theirs.rotate()
    theirs.append(line(2))

    assert mine.adopt() == []


def test_the_living_are_not_even_without_their_lock_file(opened: Opens, directory: Path) -> None:
    """Whoever deletes it does not make them dead."""
    theirs, mine = opened("them"), opened("me")
    theirs.append(line(1))
    (directory / "them.lock").unlink()

    assert mine.adopt() == []


def test_an_heir_that_dies(opened: Opens, dead: Callable[..., None]) -> None:
    """What it had inherited is there for the next, and so is its own."""
    dead("first", '{"request_id":"r-1"}')
    heir = opened("heir")
    heir.adopt()
    heir.append(line(2))
    heir.close()

    assert ids(*opened("next").adopt()) == ["r-1", "r-2"]


def test_many_heirs(opened: Opens, dead: Callable[..., None]) -> None:
    """However many try at once, each segment has exactly one."""
    names = [f"dead-{number}" for number in range(3)]
    for name in names:
        dead(name, f'{{"request_id":"{name}"}}')
    heirs = [opened(f"heir-{number}") for number in range(8)]
    start = threading.Barrier(len(heirs))

    def inherit(heir: Spool) -> list[Path]:
        start.wait()
        return heir.adopt()

    with ThreadPoolExecutor(len(heirs)) as threads:
        found = [path for paths in threads.map(inherit, heirs) for path in paths]
    found += [path for heir in heirs for path in heir.adopt()]      # those whom two hindered each other to take

    assert sorted(ids(*found)) == names


def test_a_torn_line_of_the_dead(opened: Opens, dead: Callable[..., None], directory: Path) -> None:
    """The rest of the segment is inherited."""
    dead("first", '{"request_id":"r-1"}')
    with (directory / "first-00000001.jsonl").open("ab") as torn:
        torn.write(b'{"request_id":')

    assert ids(*opened().adopt()) == ["r-1"]


def test_locks_without_segments_are_cleared_away(opened: Opens, dead: Callable[..., None], directory: Path) -> None:
    """A process that left nothing leaves nothing; that of a living one stays."""
    dead("first", '{"request_id":"r-1"}')
    (directory / "first-00000001.jsonl").unlink()
    theirs = opened("them")
    theirs.append(LINE)
    opened().adopt()

    assert sorted(path.name for path in directory.iterdir()) == ["them-00000001.jsonl", "them.lock"]


def test_a_lock_that_is_deleted_while_it_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock on a file that is no more is none: the file that took its place is locked."""
    path = tmp_path / "x.lock"
    real = fcntl.flock
    deleted: list[int] = []

    def flock(descriptor: int, how: int) -> None:
        if not deleted:
            deleted.append(descriptor)
            path.unlink()
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    descriptor = spool._locked(path)
    assert descriptor is not None

    assert spool._locked(path) is None
    assert os.path.samestat(os.fstat(descriptor), path.stat())
    os.close(descriptor)


def test_two_of_one_name(opened: Opens) -> None:
    """The second is refused, rather than that both write."""
    opened("me").append(LINE)

    with pytest.raises(OSError, match="somebody else holds this lock"):
        opened("me").append(LINE)


def test_set_aside(opened: Opens, directory: Path) -> None:
    """It is still there, for somebody to look at, and nobody tries to store it again."""
    mine = opened()
    mine.append(LINE)
    path = mine.rotate()
    assert path is not None
    aside = mine.set_aside(path)
    closed, size = mine.closed(), mine.size
    mine.close()

    assert aside.read_bytes() == LINE
    assert (closed, size) == ([], 0)
    assert opened("next").adopt() == []


def test_a_sync_reaches_the_disk(opened: Opens, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """What is open, what was closed since, and that the files are there; what is stored meanwhile is no matter."""
    synced: list[Path] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    mine = opened()
    mine.sync()
    before = list(synced)
    paths = []
    for number in (1, 2):
        mine.append(line(number))
        paths.append(mine.rotate())
    mine.append(line(3))
    assert paths[0] is not None
    mine.remove(paths[0])
    mine.sync()
    once = list(synced)
    synced.clear()
    mine.sync()

    assert before == []
    assert set(once) == {directory / "me-00000003.jsonl", paths[1], directory}
    assert set(synced) == {directory / "me-00000003.jsonl", directory}


def test_nothing_is_left_where_all_was_stored(opened: Opens, directory: Path) -> None:
    """A directory does not fill up with what processes leave."""
    mine = opened()
    mine.append(LINE)
    for path in [*mine.closed(), *filter(None, [mine.rotate()])]:
        mine.remove(path)
    mine.close()

    assert list(directory.iterdir()) == []


def test_holders_are_never_the_same() -> None:
    """A segment's name is stored once and for all."""
    names = {spool.new_holder() for _ in range(100)}

    assert len(names) == 100
    assert all(spool._NAME.fullmatch(f"{name}-00000001.jsonl") for name in names)
