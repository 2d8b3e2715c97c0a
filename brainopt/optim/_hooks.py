# SPDX-License-Identifier: Apache-2.0
"""Functions that users have called before and after an update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._typing import Arrays, Gradients
from . import _nonfinite


def changed_by_hooks(optimizer: Any, grads: Gradients) -> Any:
    """Return the gradients after the hooks that run before an update."""
    for hook in optimizer._hooks["before"]:
        changed = hook(optimizer, grads)
        grads = grads if changed is None else changed
    return grads


def end_step(optimizer: Any, grads: Arrays | None = None) -> None:
    """Raise if too many gradients were not finite, then call the hooks."""
    _nonfinite.watch(optimizer, grads or {})
    for hook in optimizer._hooks["after"]:
        hook(optimizer)


def before_update(self: Any, hook: Callable[[Any, Any], Any]) -> Callable[[], None]:
    """Call ``hook(opt, grads)`` before each update; returns as `after_update`.

    The hook may return new gradients.
    """
    return add_hook(self, "before", hook)


def after_update(self: Any, hook: Callable[[Any], None]) -> Callable[[], None]:
    """Call ``hook(opt)`` after each update; returns a function to take it out."""
    return add_hook(self, "after", hook)


def add_hook(optimizer: Any, when: str, hook: Callable) -> Callable[[], None]:
    """Have ``hook`` called ``"before"`` or ``"after"`` each update; return its undo."""
    if not callable(hook):
        raise TypeError(f"A hook is a function, not {hook!r}.")
    hooks = optimizer._hooks[when]
    hooks.append(hook)
    _note(optimizer)

    def remove() -> None:
        if hook in hooks:
            hooks.remove(hook)
            _note(optimizer)

    return remove


def as_hooked_now(optimizer: Any) -> Callable[[], None]:
    """Return a function that restores the present hooks."""
    kept = {when: list(hooks) for when, hooks in optimizer._hooks.items()}

    def set_back() -> None:
        for when, hooks in kept.items():
            optimizer._hooks[when][:] = hooks
        _note(optimizer)

    return set_back


def _note(optimizer: Any) -> None:
    hooks = optimizer._hooks
    optimizer._revision.note("hooks", (tuple(hooks["before"]), tuple(hooks["after"])))
