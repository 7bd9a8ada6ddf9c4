"""Receipts on disk that wait to be stored: neither a dead store nor a SIGKILL loses what is here.

A process appends to an open segment of its own, `{holder}-{number}.jsonl`, one receipt a line. Only a closed segment is
stored, whole, and deleted after that. A receipt is in one segment: what could be written in part is cut off again
before it is tried anew.

Rule: whoever holds the lock of a holder's lock file may touch its segments. The system unlocks it however a process
ends; whoever locks it then has inherited the segments, and when that one dies too they are free again. No names of
processes are compared, and nothing is renamed, so that a segment keeps the name under which the store knows it.

A line is the system's once `append` returns, so that no end of the process can lose it, a SIGKILL included. Only the
machine's own end could: against that `sync` is called once a second.
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

SEGMENT_BYTES = 1 << 20         # a segment is closed at that size; about a thousand receipts, stored in one transaction
BOUND_BYTES = 1 << 30           # of all segments in the directory
_NAME = re.compile(r"(?P<holder>.+)(?:-\d{8,}\.jsonl|\.lock)")


class Lines(NamedTuple):
    """What a segment holds."""

    rows: list[dict[str, Any]]
    unreadable: int             # whole lines that are no receipts: a disk's fault


def new_holder() -> str:
    """Return a name that no other process has, nor any that there was: segments of one name are stored only once."""
    return f"{os.getpid()}-{secrets.token_hex(8)}"


def holder_of(segment: str) -> str:
    """Return whose segment it is, by its name without the ending."""
    return segment.rpartition("-")[0]


def read(path: Path) -> Lines:
    """Return what a closed segment holds, without a last line that its process could not finish."""
    whole = path.read_bytes().split(b"\n")[:-1]
    rows = []
    for line in whole:
        with contextlib.suppress(orjson.JSONDecodeError):
            row = orjson.loads(line)
            if isinstance(row, dict):
                rows.append(row)
    return Lines(rows, len(whole) - len(rows))


class Spool:
    """One process' segments, and those that it has inherited. Any thread may append, one other does all the rest."""

    def __init__(self, directory: Path, holder: str, bound: int = BOUND_BYTES) -> None:
        self.holder = holder
        self._directory = directory
        self._bound = bound
        self._guard = threading.Lock()              # of the open segment and of what is counted
        self._locks: dict[str, int] = {}            # by holder: descriptors of the lock files that are ours
        self._open: int | None = None               # the descriptor of the segment that is being written
        self._size = 0                              # of its whole lines
        self._torn = False                          # there may be more in it
        self._number = 0
        self._closed: dict[Path, int] = {}          # sizes, the oldest first
        self._closed_bytes = 0
        self._unsynced: list[Path] = []
        self._others = 0                            # bytes of other processes, as they were last seen

    def __repr__(self) -> str:
        return f"<Spool {self.holder} {self.segments} segments, {self.size} bytes>"

    @property
    def segments(self) -> int:
        """How many wait, the open one included."""
        return len(self._closed) + (self._size > 0)

    @property
    def size(self) -> int:
        """How many bytes wait in them. Waits for no disk, as a scrape asks for it."""
        return self._size + self._closed_bytes

    def append(self, lines: bytes) -> None:
        """Write whole lines, all or nothing. Raises OSError; nothing of them is on disk then."""
        with self._guard:
            if self.size + self._others + len(lines) > self._bound:
                raise OSError(errno.EDQUOT, "the spool is as large as it may grow")
            open_ = self._ready()
            self._torn = True
            try:
                _write(open_, lines)
            except OSError:
                with contextlib.suppress(OSError):      # else it is tried again before anything is appended
                    self._mend(open_)
                raise
            self._torn = False
            self._size += len(lines)
            if self._size >= SEGMENT_BYTES:
                self._close()

    def rotate(self) -> Path | None:
        """Close the open segment, if it holds anything, and return where it is."""
        with self._guard, contextlib.suppress(OSError):
            if self._size and self._open is not None:
                self._mend(self._open)
                return self._close()
        return None

    def closed(self) -> list[Path]:
        """Return the segments that may be stored, ours and those inherited, the oldest first."""
        with self._guard:
            return list(self._closed)

    def remove(self, path: Path) -> None:
        """Delete a segment that is stored. Raises OSError."""
        path.unlink(missing_ok=True)
        self._let_go(path)

    def set_aside(self, path: Path) -> Path:
        """Have a segment that cannot be stored wait for somebody to look at it. Raises OSError."""
        aside = path.rename(path.with_suffix(".refused"))
        self._let_go(path)
        return aside

    def adopt(self) -> list[Path]:
        """Inherit what dead processes left and nobody else has inherited; return the segments, the oldest first."""
        found: dict[str, int] = {}
        for name, seen in self._there().items():
            if (named := _NAME.fullmatch(name)) and named["holder"] not in {*self._locks, self.holder}:
                found[named["holder"]] = found.get(named["holder"], 0) + seen.st_size
        inherited: dict[Path, os.stat_result] = {}
        others = 0
        for holder, size in found.items():
            with contextlib.suppress(OSError):          # a disk that is full, or read-only: next time
                if (left := self._inherit(holder)) is not None:
                    inherited |= left
                    continue
            others += size
        ordered = sorted(inherited, key=lambda path: (inherited[path].st_mtime_ns, path.name))
        with self._guard:
            self._others = others
            for path in ordered:
                self._keep(path, inherited[path].st_size)
        return ordered

    def sync(self) -> None:
        """Have the disk itself keep what is here. May take as long as the disk does; nothing else waits for it."""
        with self._guard:
            unsynced = [path for path in self._unsynced if path in self._closed]
            self._unsynced = []
            copy = os.dup(self._open) if self._open is not None and self._size else None
        try:
            if copy is not None:
                os.fsync(copy)
        finally:
            if copy is not None:
                os.close(copy)
        for path in [*unsynced, *([self._directory] if unsynced or copy is not None else [])]:
            with contextlib.suppress(FileNotFoundError), _descriptor(path) as descriptor:
                os.fsync(descriptor)

    def close(self) -> None:
        """Give up every segment and lock: what is left is for whoever comes next. Nothing may be appended after it."""
        self.rotate()
        with self._guard:
            left = {holder_of(path.stem) for path in self._closed}
            for holder, lock in self._locks.items():
                if holder not in left:
                    self._lock_path(holder).unlink(missing_ok=True)
                os.close(lock)
            self._locks.clear()
            self._closed.clear()
            self._closed_bytes = 0
            self._forget_open()

    def _ready(self) -> int:
        """Return the open segment, whole, or a new one."""
        if self._open is not None:
            if os.fstat(self._open).st_nlink:
                self._mend(self._open)
                return self._open
            self._forget_open()                     # somebody has cleared the directory
        return self._begin()

    def _begin(self) -> int:
        for directory in (self._directory.parent, self._directory):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = self._locks.get(self.holder)
        path = self._lock_path(self.holder)
        if lock is None or not _is_at(lock, path):
            if (mine := _locked(path)) is None:
                raise OSError(errno.EBUSY, "somebody else holds this lock", str(path))
            if lock is not None:
                os.close(lock)
            self._locks[self.holder] = mine
        self._number += 1
        path = self._path(self._number)
        self._open = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._open, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return self._open

    def _mend(self, descriptor: int) -> None:
        if self._torn:
            os.ftruncate(descriptor, self._size)
            self._torn = False

    def _close(self) -> Path:
        path = self._path(self._number)
        self._keep(path, self._size)
        self._unsynced.append(path)
        self._forget_open()
        return path

    def _forget_open(self) -> None:
        if self._open is not None:
            with contextlib.suppress(OSError):          # what was written was written
                os.close(self._open)
        self._open, self._size, self._torn = None, 0, False

    def _keep(self, path: Path, size: int) -> None:
        self._closed[path] = size
        self._closed_bytes += size

    def _there(self) -> dict[str, os.stat_result]:
        """Return every file in the directory."""
        found = {}
        with contextlib.suppress(OSError), os.scandir(self._directory) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    found[entry.name] = entry.stat()
        return found

    def _inherit(self, holder: str) -> dict[Path, os.stat_result] | None:
        """Return a dead process' segments, which are ours now; None where it lives, or somebody was quicker."""
        path = self._lock_path(holder)
        if (lock := _locked(path)) is None:
            return None
        # looked for again: whoever was quicker may have stored them, and let go of the lock
        left = {self._directory / name: seen for name, seen in self._there().items() if _is_of(holder, name)}
        if any(_lives(segment) for segment in left):        # its lock file was deleted, by whomever
            os.close(lock)
            return None
        if not left:
            path.unlink(missing_ok=True)
            os.close(lock)
        else:
            self._locks[holder] = lock
        return left

    def _let_go(self, path: Path) -> None:
        """Count a segment out, and with the last one of a dead process that process."""
        with self._guard:
            self._closed_bytes -= self._closed.pop(path, 0)
            holder = holder_of(path.stem)
            last = holder != self.holder and all(holder_of(other.stem) != holder for other in self._closed)
            lock = self._locks.pop(holder, None) if last else None
        if lock is not None:
            self._lock_path(holder).unlink(missing_ok=True)
            os.close(lock)

    def _path(self, number: int) -> Path:
        return self._directory / f"{self.holder}-{number:08d}.jsonl"

    def _lock_path(self, holder: str) -> Path:
        return self._directory / f"{holder}.lock"


def _is_of(holder: str, name: str) -> bool:
    return name.endswith(".jsonl") and holder_of(name.removesuffix(".jsonl")) == holder


def _write(descriptor: int, lines: bytes) -> None:
    left = memoryview(lines)
    while left:                                     # once, but where the disk is full: it takes a part, then refuses
        left = left[os.write(descriptor, left):]


def _locked(path: Path) -> int | None:
    """Return a descriptor that holds the lock of a file, which is made if need be; None where somebody else does."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return None
            raise
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)                        # deleted between the two, by whoever held it before


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _lives(segment: Path) -> bool:
    """Say whether somebody has the segment open to write to it."""
    with _descriptor(segment) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextlib.contextmanager
def _descriptor(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
