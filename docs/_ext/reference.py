# SPDX-License-Identifier: Apache-2.0
"""The ``{api}`` block: a table of public names, and below it the entry of each.

::

    ```{api} brainopt.optim
    AdamW
    Manager: save restore steps
    ```

A class shows its own documented methods; names after a colon choose them. What is no
part of the promise to users is left out by its docstring (``:meta private:``) or here.
"""

import importlib
import inspect
import re

BLOCK = re.compile(
    r"^```\{api\} (?P<module>[\w.]+)\n(?P<names>.*?)^``` *$", re.MULTILINE | re.DOTALL
)
# Methods with public names that the wings call on each other, not users.
INTERNAL = frozenset(
    "count_by members outside set_rate step_call tree_flatten tree_unflatten "
    "register_vars register_trainable_weights".split()
)


def entries(text: str):
    """Yield (module, name, chosen members or None) of each name on a page."""
    for block in BLOCK.finditer(text):
        for line in block["names"].split("\n"):
            name, colon, members = line.partition(":")
            if name.strip():
                chosen = members.split() if colon else None
                yield block["module"], name.strip(), chosen


def expanded(text: str) -> str:
    """Return the page with each ``{api}`` block as a table and its entries."""
    return BLOCK.sub(lambda match: _directives(match[0]), text)


def _directives(block):
    rows, bodies = [], []
    for module, name, members in entries(block):
        rows.append(f"   ~{module}.{name}")
        value = getattr(importlib.import_module(module), name)
        kind = "autoclass" if inspect.isclass(value) else "autofunction"
        if inspect.isclass(value) and issubclass(value, Exception):
            kind = "autoexception"
        bodies.append(f".. {kind}:: {module}.{name}")
        if members is not None:
            chosen = ", ".join(members)
            bodies.append(
                f"   :members: {chosen}\n   :inherited-members:"
                if members
                else "   :no-members:"
            )
        bodies.append("")
    table = ".. autosummary::\n   :nosignatures:\n\n" + "\n".join(rows)
    return "```{eval-rst}\n" + table + "\n\n" + "\n".join(bodies) + "```"


def _skip_internal(app, what, name, obj, skip, options):
    return True if name in INTERNAL else None


def _on_source_read(app, docname, source):
    source[0] = expanded(source[0])


def setup(app):
    """Connect the expansion to Sphinx."""
    app.connect("source-read", _on_source_read)
    app.connect("autodoc-skip-member", _skip_internal)
    return {"parallel_read_safe": True}
