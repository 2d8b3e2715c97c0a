# SPDX-License-Identifier: Apache-2.0
"""``brainopt doctor``: what is installed, and what is missing."""

import argparse
import importlib.metadata
import importlib.util
import platform

import jax

from ..._compat import config
from ..._version import __version__
from ..format._checksum import LIBRARY as CRC_LIBRARY
from ._output import say, say_json

# Package, its distribution, and what installs it.
HOSTS = (
    ("brainpy", "brainpy", "brainopt[brainpy]"),
    ("brainstate", "brainstate", "brainopt[brainstate]"),
    ("braintools", "braintools", "brainopt[brainstate]"),
    ("flax", "flax", "brainopt[flax]"),
    ("equinox", "equinox", "brainopt[equinox]"),
    ("haiku", "dm-haiku", "brainopt[haiku]"),
    ("jaxley", "jaxley", "brainopt[jaxley]"),
    ("optax", "optax", "brainopt[optax]"),
    ("orbax", "orbax-checkpoint", "brainopt[orbax]"),
    ("fsspec", "fsspec", "brainopt[cloud]"),
)
_NEEDED = ("jax", "jaxlib", "numpy", "msgpack")


def run(chosen: argparse.Namespace) -> int:
    """Print versions, devices, frameworks, and what installs the missing ones."""
    needed = {name: importlib.metadata.version(name) for name in _NEEDED}
    there, missing = {}, {}
    for name, distribution, source in HOSTS:
        # Found, not imported: a broken framework must not break its diagnosis.
        if importlib.util.find_spec(name) is None:
            missing[name] = f"pip install '{source}'"
        else:
            there[name] = _version(distribution)
    devices = _devices()
    if chosen.json:
        say_json(
            {
                "brainopt": __version__,
                "python": platform.python_version(),
                "needed": needed,
                "devices": devices,
                "hosts": there,
                "missing": missing,
                "checksums": CRC_LIBRARY,
                "compilation_cache": config.jax_compilation_cache_dir,
            }
        )
        return 0
    say(f"brainopt {__version__}, Python {platform.python_version()}")
    say(*(f"  {name} {version}" for name, version in needed.items()))
    say(f"devices: {devices}")
    said = ", ".join(f"{name} {version}" for name, version in there.items())
    say(f"hosts: {said or 'none'}")
    say(f"checksums: {CRC_LIBRARY}")
    if CRC_LIBRARY == "zlib":
        say("no isal: pip install 'brainopt[fast]' for faster checkpoints")
    cache = config.jax_compilation_cache_dir
    say(
        f"compilation cache: {cache}"
        if cache
        else "no compilation cache: JAX_COMPILATION_CACHE_DIR=folder keeps compiled "
        "steps for the next process"
    )
    say(*(f"no {name}: {source}" for name, source in missing.items()))
    if "cpu" in devices.lower():
        say("no accelerator: pip install 'brainopt[cuda12]' where there is one")
    return 0


def _devices() -> str:
    try:
        return ", ".join(map(str, jax.devices()))
    except RuntimeError as error:  # a plugin without its driver
        return f"none; jax says: {error}"


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "of an unknown version"
