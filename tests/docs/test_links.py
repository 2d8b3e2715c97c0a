# SPDX-License-Identifier: Apache-2.0
"""Code names in the text of pages stand for entries of the reference."""

import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def links():
    pytest.importorskip("sphinx", reason="needs the extra docs")
    sys.path.insert(0, str(DOCS / "_ext"))
    try:
        import links

        return links
    finally:
        sys.path.remove(str(DOCS / "_ext"))


@pytest.mark.parametrize(
    "text, name",
    [
        ("bo.jit", "brainopt.jit"),
        ("@bo.jit", "brainopt.jit"),
        ("bo.optim.AdamW(1e-3, net)", "brainopt.optim.AdamW"),
        ("opt.update(grads)", "brainopt.optim.Optimizer.update"),
        ("Manager.resume", "brainopt.checkpoint.Manager.resume"),
        ("TrainVar", "brainopt.TrainVar"),
        ("for_loop", "brainopt.for_loop"),
        ("jax.jit", "jax.jit"),
        ("jnp.where(a, b, c)", "jax.numpy.where"),
        ("grad", None),
        ("weight_decay", None),
        ("brainopt list runs/", None),
        ("bp.optim.AdamW", None),
    ],
)
def test_a_code_span_stands_for_a_name(links, text, name):
    assert links.target(text) == name


def test_a_bare_name_beside_those_of_peers_may_be_theirs(links):
    assert links.target("AdamW", with_bare=False) is None
    assert links.target("bo.optim.AdamW", with_bare=False) == "brainopt.optim.AdamW"
