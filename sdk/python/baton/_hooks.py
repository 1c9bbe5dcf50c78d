"""What a function wants done in each of its replicas that is forked from a snapshot."""

from __future__ import annotations

from typing import Any, Callable

_hooks: list[Callable[[], Any]] = []


def after_fork(callback: Callable[[], Any]) -> Callable[[], Any]:
    """Has `callback()` called in every replica that is forked from a snapshot, before its first request, in the order of the calls:
    to open connections again, or seed generators of its own. Gives `callback`, so that it is a decorator, too. Without a snapshot
    nothing is forked, and it is never called.
    """
    if not callable(callback):
        raise TypeError(f"after_fork takes a function without arguments, not {type(callback).__name__}")
    _hooks.append(callback)
    return callback


def run() -> None:
    """Calls them all."""
    for hook in _hooks:
        hook()
