"""`python3 -m baton._zygote`: imports a function's module once, and is forked into its replicas on the node's word.

The node's socket is descriptor 3; crates/replica/src/zygote.rs has its messages. What is forked gets a socket of its own at that
number, where `baton.run` finds it as in any other process.
"""

from __future__ import annotations

import ctypes
import gc
import os
import select
import shutil
import socket
import struct
import sys
import traceback
from typing import Any, NoReturn

from . import _hooks

#: Most bytes of a reason that the node is told: the end of it.
REASON_BYTES_MAX = 6000
CONTROL = 3
#: `CLD_EXITED` and `CLD_KILLED` of `waitid`.
EXITED, KILLED = 1, 2
PR_SET_DUMPABLE = 4
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446
#: `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET` and `LANDLOCK_SCOPE_SIGNAL`.
SCOPES = 3
#: The exit status of a replica whose hooks failed.
EXIT_HOOK = 70


class Failed(Exception):
    """What the node is told, and the end."""


def _load() -> Any:
    """The function's handler: its module is imported."""
    from . import logs, run
    from .lookup import HandlerNotFound, load

    logs.install()
    try:
        files = run.files()
        if files is not None:
            os.chdir(files)
        return load(os.environ.get("BATON_HANDLER"), path=files)
    except HandlerNotFound as error:
        raise Failed(str(error)) from None
    except BaseException as error:
        trace = error.__traceback__
        # From the function's own module on.
        while trace is not None and trace.tb_next is not None and run._is_machinery(trace.tb_frame.f_code.co_filename):
            trace = trace.tb_next
        text = "".join(traceback.format_exception(type(error), error, trace)).rstrip()
        logs.write("E", "the module cannot be imported:\n" + text)
        raise Failed("its module cannot be imported:\n" + text) from None


def _check_threads() -> None:
    """A fork has one thread: what others were doing, or held, is lost. So there may be none."""
    try:
        tasks = os.listdir("/proc/self/task")
    except OSError:
        tasks = []
    threading = sys.modules.get("threading")
    python = {} if threading is None else {thread.native_id: thread.name for thread in threading.enumerate()}
    others = {int(task) for task in tasks} | {number for number in python if number is not None}
    others.discard(os.getpid())
    if not others:
        return
    names = sorted(python.get(task) or _thread_name(task) for task in others)
    raise Failed(
        f"threads run after the import of its module: {', '.join(names[:8])}; they would be missing in every replica. Start them in a "
        "function given to baton.after_fork or at the first request, or set snapshot = false in the manifest"
    )


def _thread_name(task: int) -> str:
    try:
        with open(f"/proc/self/task/{task}/comm", encoding="utf-8", errors="replace") as file:
            return f"{file.read().strip()} (of a library)"
    except OSError:
        return f"thread {task}"


def _ruleset() -> int | None:
    """A Landlock rule set under which a process reaches nobody outside itself and what it starts: not its siblings, which live in
    the same namespaces. None where the kernel has none."""
    call = ctypes.CDLL(None, use_errno=True).syscall
    # The kernel's `landlock_ruleset_attr`: files, network, scopes.
    attributes = struct.pack("QQQ", 0, 0, SCOPES)
    fd = call(LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    return fd if fd >= 0 else None


def _reseed() -> None:
    """Generators that were seeded before the fork. `random` does so itself, `secrets`, `uuid` and `ssl` ask the kernel."""
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()


def _enter(fds: list[int], number: int, core: int, ruleset: int | None) -> None:
    """Becomes a replica: descriptors, place, walls, randomness, hooks."""
    control, out, err = fds
    os.dup2(control, CONTROL, inheritable=False)
    os.dup2(out, 1)
    os.dup2(err, 2)
    for fd in fds:
        if fd > CONTROL:
            os.close(fd)
    try:
        os.sched_setaffinity(0, {core})
    except OSError:
        pass
    libc = ctypes.CDLL(None)
    if ruleset is not None:
        if libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0) != 0:
            raise OSError("a replica cannot be walled in against its siblings")
        os.close(ruleset)
    # What another process of the same user could look into, it cannot now.
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    place = _place(number)
    if os.environ.get("TMPDIR") == "/tmp":
        try:
            os.mkdir(place, 0o700)
            os.environ["TMPDIR"] = place
            tempfile = sys.modules.get("tempfile")
            if tempfile is not None:
                tempfile.tempdir = None
        except OSError:
            pass
    _reseed()
    _hooks.run()


def _place(number: int) -> str:
    return f"/tmp/replica-{number}"


def _replica(handler: Any, fds: list[int], number: int, core: int, ruleset: int | None) -> NoReturn:
    status = EXIT_HOOK
    try:
        try:
            _enter(fds, number, core, ruleset)
        except BaseException:
            sys.stderr.write("a function given to baton.after_fork failed, or the fork itself:\n" + traceback.format_exc())
        else:
            from .run import serve

            status = serve(handler)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            # Not back into the zygote's loop, and not through its exit hooks.
            os._exit(status & 0xFF)


class Zygote:
    """Forks on the node's word, and says how each ended."""

    def __init__(self, control: socket.socket, handler: Any) -> None:
        self.control = control
        self.handler = handler
        self.ruleset = _ruleset()
        #: By pid: the node's number, and the pidfd.
        self.children: dict[int, tuple[int, int]] = {}
        self.poll = select.poll()
        self.poll.register(control, select.POLLIN)

    def run(self) -> int:
        while True:
            ready = self.poll.poll()
            for fd, _ in ready:
                if fd == self.control.fileno() and not self.hear():
                    return 0
            self.reap()

    def hear(self) -> bool:
        """Takes one message; False once the node has hung up."""
        message, fds, _, _ = socket.recv_fds(self.control, 64, 3)
        if not message:
            return False
        if message[:1] == b"F" and len(message) == 9 and len(fds) == 3:
            number, core = struct.unpack("<II", message[1:])
            self.fork(fds, number, core)
        else:
            for fd in fds:
                os.close(fd)
        return True

    def fork(self, fds: list[int], number: int, core: int) -> None:
        _check_threads()
        pid = os.fork()
        if pid == 0:
            for _, pidfd in self.children.values():
                os.close(pidfd)
            # Its number is given to the replica's own.
            self.control.detach()
            _replica(self.handler, fds, number, core, self.ruleset)
        pidfd = os.pidfd_open(pid)
        self.children[pid] = (number, pidfd)
        self.poll.register(pidfd, select.POLLIN)
        socket.send_fds(self.control, [b"B" + struct.pack("<I", number)], [pidfd])
        for fd in fds:
            os.close(fd)

    def reap(self) -> None:
        """Everything that has ended: replicas, and what they left behind."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            known = self.children.pop(pid, None)
            if known is None:
                continue
            number, pidfd = known
            self.poll.unregister(pidfd)
            os.close(pidfd)
            code, value = (KILLED, os.WTERMSIG(status)) if os.WIFSIGNALED(status) else (EXITED, os.WEXITSTATUS(status))
            self.control.send(b"E" + struct.pack("<Iii", number, code, value))
            shutil.rmtree(_place(number), ignore_errors=True)


def main() -> int:
    # The module that the function imports by its name, and not this one, which is `__main__`.
    from baton import _zygote

    control = socket.socket(fileno=CONTROL)
    control.set_inheritable(False)
    try:
        handler = _zygote._load()
        _zygote._check_threads()
        # What a replica needs first is imported before the fork, too.
        from baton import context as _context  # noqa: F401

        gc.collect()
        # What is there now is never looked at again: its pages stay shared.
        gc.freeze()
        zygote = _zygote.Zygote(control, handler)
        control.send(b"L")
        return zygote.run()
    except _zygote.Failed as failed:
        reason = str(failed).encode("utf-8", "replace")
        control.send(b"X" + reason[-REASON_BYTES_MAX:])
        return 2
    except (BrokenPipeError, ConnectionResetError):
        # The node is gone.
        return 0


if __name__ == "__main__":
    sys.exit(main())
