"""Which function a module serves with, and clear words where there is none."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
from types import ModuleType
from typing import Any, Callable, TypeVar, overload

from .serving import Handler

__all__ = ["HandlerNotFound", "function", "load"]

#: The module that is looked for if none is named.
DEFAULT_MODULE = "handler"
MARK = "__baton_function__"

F = TypeVar("F", bound=Callable[..., Any])


class HandlerNotFound(Exception):
    """There is no such handler; the message says what there is."""


@overload
def function(handler: F) -> F: ...
@overload
def function() -> Callable[[F], F]: ...
def function(handler: Any = None) -> Any:
    """Marks a function as one that answers requests: `def hello(request, ctx)`, `async def`, or a generator that streams.

    It stays an ordinary function. If its module has one of them, the manifest need not name it.
    """

    def mark(handler: Any) -> Any:
        if not callable(handler):
            raise TypeError(f"@baton.function marks functions, not {type(handler).__name__}")
        # Found to be wrong when the module is written, and not when it is first called.
        Handler(handler)
        setattr(handler, MARK, True)
        return handler

    return mark if handler is None else mark(handler)


def load(name: str | None = None, *, path: str | None = None) -> Handler:
    """The handler that `name` says: "module:function", or "module" if that has one function for it.

    `path` is a directory where modules are looked for first.
    """
    name = (name or DEFAULT_MODULE).strip()
    module_name, colon, attribute = name.partition(":")
    if not module_name or (colon and not attribute):
        raise HandlerNotFound(f'handler = "{name}": write "module:function", such as "app:handle"')
    if path is not None and path not in sys.path:
        sys.path.insert(0, path)
    module = _import(module_name, name, path)
    handler = Handler(_named(module, attribute) if attribute else _only(module, name))
    if handler.is_async:
        # What it needs to serve is imported before the first request, and before a fork.
        importlib.import_module("baton.aio")
    return handler


def _import(module_name: str, name: str, path: str | None) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # A module that it imports is missing: that one is the news.
        if error.name is None or not (module_name == error.name or module_name.startswith(error.name + ".")):
            raise
        places = [path] if path else [entry or os.getcwd() for entry in sys.path[:2]]
        there = sorted({entry[:-3] for place in places if os.path.isdir(place) for entry in os.listdir(place) if entry.endswith(".py")})
        hint = _hint(module_name, there)
        if "." in module_name and ":" not in name:
            stem, _, last = module_name.rpartition(".")
            hint = f'; for function {last} of module {stem} write "{stem}:{last}"'
        raise HandlerNotFound(f'handler = "{name}": there is no module {module_name}{hint}') from None


def _named(module: ModuleType, attribute: str) -> Callable[..., Any]:
    found: Any = module
    for step in attribute.split("."):
        if not hasattr(found, step):
            raise HandlerNotFound(f"module {module.__name__} has no {attribute}{_hint(attribute, _functions(module))}")
        found = getattr(found, step)
    if not callable(found):
        raise HandlerNotFound(f"{attribute} of module {module.__name__} is a {type(found).__name__}, and no function")
    return found


def _only(module: ModuleType, name: str) -> Callable[..., Any]:
    marked = [value for value in vars(module).values() if getattr(value, MARK, False) is True and callable(value)]
    if len(marked) == 1:
        return marked[0]
    if len(marked) > 1:
        names = ", ".join(sorted(value.__name__ for value in marked))
        raise HandlerNotFound(f'module {module.__name__} has several functions ({names}): say which, handler = "{name}:{marked[0].__name__}"')
    for default in ("handler", "handle", "main"):
        if callable(getattr(module, default, None)):
            return getattr(module, default)
    raise HandlerNotFound(
        f"module {module.__name__} has no function with @baton.function, and none that is called handler{_hint('', _functions(module))}"
    )


def _functions(module: ModuleType) -> list[str]:
    own = [name for name, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == module.__name__]
    return sorted(name for name in own if not name.startswith("_"))


def _hint(wanted: str, there: list[str]) -> str:
    if not there:
        return ""
    close = difflib.get_close_matches(wanted, there, 1)
    return f"; did you mean {close[0]}?" if close else f"; there is {', '.join(there[:12])}"
