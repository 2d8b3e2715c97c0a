# SPDX-License-Identifier: Apache-2.0
"""Functions that users have called before and after an update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def changed_by_hooks(optimizer: Any, grads: Any) -> Any:
    """Return the gradients after the hooks that run before an update."""
    for hook in optimizer._hooks["before"]:
        changed = hook(optimizer, grads)
        grads = grads if changed is None else changed
    return grads


def add_hook(optimizer: Any, when: str, hook: Callable) -> Callable[[], None]:
    """Have ``hook`` called ``"before"`` or ``"after"`` each update; return its undo."""
    if not callable(hook):
        raise TypeError(f"A hook is a function, not {hook!r}.")
    hooks = optimizer._hooks[when]
    hooks.append(hook)
    optimizer.revision.changed()

    def remove() -> None:
        if hook in hooks:
            hooks.remove(hook)
            optimizer.revision.changed()

    return remove
