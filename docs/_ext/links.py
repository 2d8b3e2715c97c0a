# SPDX-License-Identifier: Apache-2.0
"""Link the code names in the text of a page to their entries in the reference.

A page is plain Markdown and says `` `bo.jit` `` or `` `opt.update(grads)` ``; the first
of each on a page becomes a link, to our reference or by intersphinx to that of others.
What has no entry stays as it is.
"""

import re

from docutils import nodes
from sphinx import addnodes

import brainopt as bo

NAME = re.compile(r"@?(?P<name>[A-Za-z_]\w*(?:\.\w+)*)(?:\(.*\))?", re.DOTALL)
# What the pages call a module or an object of a class.
CALLED = {
    "bo": "brainopt",
    "opt": "brainopt.optim.Optimizer",
    "manager": "brainopt.checkpoint.Manager",
    "net": "brainopt.Node",
    "node": "brainopt.Node",
    "jnp": "jax.numpy",
    "nnx": "flax.nnx",
}
OTHERS = ("brainopt", "jax", "flax", "optax", "numpy")
FACES = {
    "brainopt": bo,
    "brainopt.optim": bo.optim,
    "brainopt.checkpoint": bo.checkpoint,
}
# Pages that set the names of other libraries beside ours.
OF_PEERS = re.compile("start/from-")


def target(text: str, with_bare: bool = True) -> str | None:
    """Return the full name that a code span stands for, if it may have an entry.

    Args:
        text: the code.
        with_bare: whether a name without its module is one of ours.
    """
    if not (match := NAME.fullmatch(text)):
        return None
    first, dot, rest = match["name"].partition(".")
    if dot and first in CALLED:
        return f"{CALLED[first]}.{rest}"
    if dot and first in OTHERS:
        return match["name"]
    # A short word may be anything: an argument, a slot, a key.
    if with_bare and (first[0].isupper() or (not dot and "_" in first)):
        for module, face in FACES.items():
            if first in dir(face):
                return f"{module}.{match['name']}"
    return None


def _link(app, doctree):
    page = app.env.docname
    if page.startswith("reference/"):
        return
    seen = set()
    for literal in list(doctree.findall(nodes.literal)):
        name = target(literal.astext(), with_bare=not OF_PEERS.match(page))
        if name is None or name in seen or _is_fixed(literal):
            continue
        seen.add(name)
        link = addnodes.pending_xref(
            "", refdomain="py", reftype="obj", reftarget=name, refdoc=page
        )
        link += literal.deepcopy()
        literal.replace_self(link)


def _is_fixed(node):
    while (node := node.parent) is not None:
        if isinstance(node, nodes.title | nodes.reference | addnodes.pending_xref):
            return True
    return False


def setup(app):
    """Connect the linking to Sphinx."""
    app.connect("doctree-read", _link)
    return {"parallel_read_safe": True, "version": "1"}
