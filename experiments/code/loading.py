"""Notes every file that this process runs as a module or opens, with its bytes at that moment.

`watch` is called before anything else of the project is imported, so this file uses the standard library alone. Its
audit hook (PEP 578) does not see files that C libraries open themselves, nor what other processes read.
"""

# ruff: noqa: PTH100, PTH110, PTH116, PTH117, PTH123  (a hook must be quick: making a Path takes longer than all that it does)
import hashlib
import os
import stat
import sys
import sysconfig
import time
from dataclasses import dataclass, field
from importlib.util import cache_from_source
from types import CodeType
from typing import Any

_LARGEST, _MOST = 1_000_000, 1000  # bytes of a file that is hashed when it is opened, and the number of such files
_FOLDERS = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
_VENV = [sys.prefix] if sys.prefix != sys.base_prefix else []
_INSTALLED = tuple({f"{way(folder)}/" for folder in _FOLDERS + _VENV for way in (os.path.abspath, os.path.realpath)})
_SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/", "/lib", "/usr/lib", "/usr/share/")
_PACKAGES = ("/site-packages/", "/dist-packages/")


@dataclass
class Read:
    """A file that was opened for reading."""

    identity: tuple[int, int, int]  # of the file when it was last hashed: inode, size and time of the last change
    blob: str | None  # its blob id; None: it was not hashed
    at: float  # when it was last opened, by time.perf_counter


@dataclass
class Watched:
    """What a process has loaded so far, by absolute path. A child that it forks goes on with a copy of this."""

    ran: dict[str, bytes | None] = field(default_factory=dict)  # modules; None: unknown, or other byte code ran instead
    # Those of `ran` that were imported before `watch` and edited since, or of which only a part ran again.
    unknown: set[str] = field(default_factory=set)
    read: dict[str, Read] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)
    run_ended: float = 0.0  # when the latest run in this process ended, by time.perf_counter

    def note_module(self, path: str, code: CodeType | None = None) -> None:
        """Notes a module that is imported already, or with `code` one that runs now: again, if it is reloaded."""
        is_known = path in self.ran
        if (is_known and code is None) or not path.endswith(".py") or not os.path.isabs(path) or is_installed(path):
            return
        self.ran[path] = None  # reading the file calls the hook again
        content = _content(path)
        is_whole = _is_made_from if is_known else _is_of
        if content is not None and (code is None or is_whole(code, content, path)):
            self.ran[path] = content
            self.unknown.discard(path)
        elif is_known:  # only a part of the file, as IPython's %autoreload may run it
            self.unknown.add(path)

    def note_opened(self, path: str, flags: int) -> None:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            self.written.add(os.path.abspath(path))
            return
        if path.endswith(".pyc") or path.startswith(_SYSTEM) or is_installed(path):
            return
        path = os.path.abspath(path)
        identity = _identity_of_file(path)
        if identity is None or path in self.written:
            return
        known, now = self.read.get(path), time.perf_counter()
        if known is not None and known.identity == identity:
            known.at = now
            return
        self.read[path] = noted = Read(identity, None, now)  # reading the file calls the hook again
        if len(self.read) <= _MOST and identity[1] <= _LARGEST and (content := _content(path)) is not None:
            noted.blob = blob_id(content)

    def read_since(self, begin: float) -> dict[str, str | None]:
        """Returns the files that were opened since `begin` (by time.perf_counter), with their blob ids."""
        return {path: read.blob for path, read in list(self.read.items()) if read.at >= begin}


_watched: Watched | None = None


def watch() -> Watched:
    """Watches this process from now on, if it is not watched yet. Modules that are imported already count as loaded.

    What such a module held is known if its file was not changed since the process began.
    """
    global _watched
    if _watched is None:
        _watched = Watched()
        began = _start_of_process()
        for module in list(sys.modules.values()):
            path = getattr(module, "__file__", None)
            if isinstance(path, str) and os.path.exists(path):
                _watched.note_module(path)
                if _watched.ran.get(path) is not None and os.stat(path).st_ctime >= began:
                    _watched.ran[path] = None
                    _watched.unknown.add(path)
        sys.addaudithook(_hook)
    return _watched


def blob_id(content: bytes) -> str:
    """Returns the name that git gives these bytes in a repository with SHA-256 objects."""
    return hashlib.sha256(b"blob %d\0" % len(content) + content).hexdigest()


def is_installed(path: str) -> bool:
    """Whether a file belongs to Python or to an installed package."""
    return path.startswith(_INSTALLED) or any(folder in path for folder in _PACKAGES)


def _hook(event: str, args: Any) -> None:
    if event == "open":
        path, _, flags = args
        if isinstance(path, str | bytes) and _watched is not None:
            _watched.note_opened(os.fsdecode(path), flags)
    elif event == "exec" and args[0].co_name == "<module>" and _watched is not None:
        _watched.note_module(args[0].co_filename, args[0])


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def _identity_of_file(path: str) -> tuple[int, int, int] | None:
    """Returns inode, size and time of a file; None for a folder, a pipe, or a path that leads nowhere."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


def _is_of(code: CodeType, content: bytes, path: str) -> bool:
    """Whether a module that runs was made from these bytes.

    Python takes old byte code if the file has the same size and the same time in whole seconds. The times at which the
    system saw both files change cannot be set; only if the file's is later, it is compiled to compare the two.
    """
    try:
        if os.stat(cache_from_source(path)).st_ctime_ns >= os.stat(path).st_ctime_ns:
            return True
    except (OSError, NotImplementedError):  # there is no byte code
        return True
    return _is_made_from(code, content, path)


def _is_made_from(code: CodeType, content: bytes, path: str) -> bool:
    try:
        return compile(content, path, "exec", dont_inherit=True) == code
    except (SyntaxError, ValueError):
        return False


def _start_of_process() -> float:
    """Returns when this process began, in seconds since 1970; up to 0.01 s later, when Python itself still starts."""
    try:
        with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])  # field 22, man 5 proc: since the machine started
    except OSError:
        import psutil  # on other systems than Linux

        return psutil.Process().create_time()
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age + 0.01  # the kernel counts in steps of 0.01 s
