# SPDX-License-Identifier: Apache-2.0
"""Four roads through the library: the functions and files that a call passes.

Each call has run before, so that imports and caches are not counted; a profile hook
then notes every function of the library in the order of its first call.
"""

import dataclasses
import importlib.util
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import jax
import jax.numpy as jnp

import brainopt as bo

from .floors import GROUND, PACKAGE, place
from .svg import FAINT, INK, Sheet, colours, width_of

MARGIN, LANE, LABEL, SHEET = 24, 34, 112, 1180
HEADING, TITLE, AFTER = 84, 30, 26
UNNAMED = ("<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>", "<module>")


@dataclasses.dataclass
class Road:
    """What one call passes: the functions of each file, in order of arrival."""

    call: str
    files: Counter[Path]

    @property
    def functions(self) -> int:
        return self.files.total()


class Net(bo.Node):
    """Two trained variables."""

    def __init__(self) -> None:
        self.w = bo.TrainVar(jnp.ones((3, 2)))
        self.b = bo.TrainVar(jnp.zeros(2))

    def loss(self, x: jax.Array) -> jax.Array:
        return ((x @ self.w.value + self.b.value) ** 2).mean()


def passed(call: str, act: Callable[[], Any]) -> Road:
    """Run ``act`` and note the functions of the library that it enters."""
    seen: dict[CodeType, None] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        ours = code.co_filename.startswith(str(PACKAGE))
        if event == "call" and ours and code.co_name not in UNNAMED:
            seen.setdefault(code)

    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
    return Road(call, Counter(Path(code.co_filename) for code in seen))


def measure() -> list[Road]:
    """Pass the four roads with AdamW on a net of two variables."""
    net = Net()
    opt = bo.optim.AdamW(1e-3, net.train_vars())
    grads = bo.grad(net.loss, net.train_vars())
    x = jnp.ones((4, 3))
    given = grads(x)
    step = bo.jit(lambda x: opt.update(grads(x)))
    model, kind = _model()
    with tempfile.TemporaryDirectory() as folder:
        path, state = f"{folder}/run.bopt", {"net": net, "opt": opt}
        bo.checkpoint.save(path, state)
        acts = [
            ("opt.update(grads), eager", lambda: opt.update(given)),
            ("step(x), a compiled step of bo.jit, third call", lambda: step(x)),
            (
                'bo.checkpoint.restore(path, {"net": net, "opt": opt})',
                lambda: bo.checkpoint.restore(path, state),
            ),
            (f"bo.attach(model), {kind}", lambda: bo.attach(model())),
        ]
        return [_after_two(call, act) for call, act in acts]


def _after_two(call: str, act: Callable[[], Any]) -> Road:
    act(), act()
    return passed(call, act)


def _model() -> tuple[Callable[[], Any], str]:
    """Return a maker of a model of another framework, and what it makes."""
    if importlib.util.find_spec("brainpy") is None:
        return lambda: {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}, "a dict of arrays"
    brainpy = importlib.import_module("brainpy")
    mode = brainpy.math.training_mode
    return lambda: brainpy.dnn.Dense(3, 2, mode=mode), "a Dense of brainpy"


def table(roads: list[Road]) -> str:
    """Lay out the figures as a table of Markdown."""
    lines = ["| road | functions | files |", "|---|---|---|"]
    lines += [f"| `{r.call}` | {r.functions} | {len(r.files)} |" for r in roads]
    return "\n".join(lines)


def draw(roads: list[Road], order: list[str]) -> str:
    """Return the picture as SVG; ``order`` names the wings from the top down."""
    plans = [_lanes(road, order) for road in roads]
    height = HEADING + sum(TITLE + LANE * len(plan) + AFTER for plan in plans)
    sheet = Sheet(SHEET, height, "Four roads through brainopt")
    sheet.text(MARGIN, 36, "Four roads through brainopt", 22, weight="bold")
    legend = (
        "The files of the library that a call passes, by floor. The number in front is "
        "the order of arrival; the one behind, how many functions of the file run."
    )
    sheet.text(MARGIN, 58, legend, 12, FAINT)
    y = float(HEADING)
    for road, plan in zip(roads, plans, strict=True):
        _draw_road(sheet, road, plan, y)
        y += TITLE + LANE * len(plan) + AFTER
    return str(sheet)


def _lanes(road: Road, order: list[str]) -> list[tuple[str, list[str]]]:
    """Sort the labels of the files into lanes of the width of the sheet."""
    labels: dict[str, list[str]] = {wing: [] for wing in order}
    for number, (file, count) in enumerate(road.files.items(), 1):
        wing = place(file)[0]
        inside = file.relative_to(PACKAGE / wing if wing != GROUND else PACKAGE)
        label = f"{number}  {inside.as_posix().removesuffix('.py')}  ·{count}"
        labels.setdefault(wing, []).append(label)
    lanes: list[tuple[str, list[str]]] = []
    for wing, names in labels.items():
        room, title = 0.0, wing
        for name in names:
            if room < _pill(name):
                room = SHEET - 2 * MARGIN - LABEL
                lanes.append((title, []))
                title = ""
            lanes[-1][1].append(name)
            room -= _pill(name)
    return lanes


def _pill(name: str) -> float:
    return width_of(name, 12) + 22


def _draw_road(
    sheet: Sheet, road: Road, plan: list[tuple[str, list[str]]], y: float
) -> None:
    size = f"{road.functions} functions in {len(road.files)} files"
    sheet.text(MARGIN, y + 16, road.call, 15, INK, weight="bold")
    sheet.text(SHEET - MARGIN, y + 16, size, 12, FAINT, "end")
    y += TITLE
    wing = ""
    for title, names in plan:
        wing = title or wing
        fill, line = colours(wing)
        sheet.text(MARGIN, y + 19, title, 13, line, weight="bold")
        x = float(MARGIN + LABEL)
        for name in names:
            width = _pill(name) - 8
            sheet.box(x, y + 2, width, LANE - 8, fill, line, 12)
            sheet.text(x + width / 2, y + 19, name, 12, INK, "middle")
            x += _pill(name)
        y += LANE
