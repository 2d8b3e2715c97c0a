# SPDX-License-Identifier: Apache-2.0
"""Every error brainopt raises, and the one way its messages are written.

::

    BrainoptError
     ├─ VariableError (ValueError)        a value that a Variable cannot hold
     ├─ PathError (ValueError)            two things under one path, or a bad path
     ├─ UniqueNameError (ValueError)      a display name that is taken or malformed
     ├─ TraceContextError (RuntimeError)  a Variable used in a trace it is not part of
     ├─ StateLostError (RuntimeError)     a donated step failed while it ran
     ├─ StateDictError (ValueError)       a state dict that does not fit
     ├─ GradientError (ValueError)        gradients that do not fit the variables
     ├─ HyperparameterError (ValueError)  a setting outside its range
     ├─ DeviceError (RuntimeError)        a device that is not there
     ├─ DistributedError (RuntimeError)   processes that do not meet
     ├─ HostError (RuntimeError)          a foreign framework that cannot be attached
     └─ CheckpointError (ValueError)      a file that cannot be written or read
         ├─ CheckpointCorruptError        damaged, truncated or foreign bytes
         ├─ CheckpointVersionError        written by a newer format
         ├─ CheckpointMismatchError       a sound file that does not fit its target
         └─ CheckpointIOError (OSError)   the file system refused

    BrainoptWarning (UserWarning)
     ├─ SelectionWarning    a name or rule that fits no variable
     ├─ TrainingWarning     an optimizer that trains nothing, or what another one trains
     ├─ TracingWarning      Python state that a traced function would change or hold
     ├─ StateWarning        state that is not collected, or not loaded
     ├─ HostWarning         a foreign framework or model that is only partly attached
     └─ CheckpointWarning   a file that is there, but not as it was asked for
"""

from collections.abc import Iterable
from typing import Self


class BrainoptError(Exception):
    """Root of every error that brainopt raises on purpose."""


# Each also derives from the builtin error that code without brainopt would catch.
class VariableError(BrainoptError, ValueError):
    """A value of another shape, dtype or structure than its Variable holds."""


class PathError(BrainoptError, ValueError):
    """Two different Variables or Nodes under one path."""


class UniqueNameError(BrainoptError, ValueError):
    """A display name that another living object has, or that is no identifier."""


class TraceContextError(BrainoptError, RuntimeError):
    """A Variable read or written in a JAX trace that brainopt does not thread."""


class StateLostError(BrainoptError, RuntimeError):
    """A compiled step failed while running, after its inputs had been donated."""


class StateDictError(BrainoptError, ValueError):
    """A state dict with missing, unexpected or misshapen entries."""


class GradientError(BrainoptError, ValueError):
    """Gradients that do not fit the variables of an optimizer."""


class HyperparameterError(BrainoptError, ValueError):
    """A hyperparameter outside its documented range."""


class CompilationError(BrainoptError, AssertionError):
    """More compilations than a test allows."""


class DeviceError(BrainoptError, RuntimeError):
    """A device or platform that this process does not have."""


class ShardingError(BrainoptError, ValueError):
    """Rules, axes or batches that do not fit a mesh."""


class DistributedError(BrainoptError, RuntimeError):
    """Processes of one run that did not come together, or that disagree."""


class HostError(BrainoptError, RuntimeError):
    """A foreign framework or model that cannot be attached."""


class CheckpointError(BrainoptError, ValueError):
    """A checkpoint that cannot be written or read."""


class CheckpointCorruptError(CheckpointError):
    """A file that is damaged, truncated, or not a brainopt checkpoint."""


class CheckpointVersionError(CheckpointError):
    """A file written by a newer format version than this library reads."""


class CheckpointMismatchError(CheckpointError):
    """A sound checkpoint that does not fit the nodes it is restored into."""

    differences: tuple[str, ...] = ()


class CheckpointIOError(CheckpointError, OSError):
    """A file operation that the operating system refused; ``errno`` says how."""

    @classmethod
    def of(cls, path: str, error: OSError, what: str, help: str = "") -> Self:
        """Return the error for a path, a verb phrase on what failed, and its cause."""
        reason = error.strerror or str(error)
        refusal = cls(message(f"{path} {what}: {reason}.", help=help))
        refusal.errno, refusal.filename = error.errno, path
        return refusal

    # With ``errno`` set, an OSError would show number and file in the place of the
    # text.
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class BrainoptWarning(UserWarning):
    """Root of every warning; it stands at the line of the user's code."""


class SelectionWarning(BrainoptWarning):
    """A name or rule that fits no variable."""


class TrainingWarning(BrainoptWarning):
    """An optimizer that trains nothing, or what another optimizer trains."""


class TracingWarning(BrainoptWarning):
    """Python state that a traced function would change, or values that it holds."""


class StateWarning(BrainoptWarning):
    """State that is not collected, or that was not loaded."""


class HostWarning(BrainoptWarning):
    """A foreign framework or model that is only partly attached."""


class CheckpointWarning(BrainoptWarning):
    """A file that is there, but not as it was asked for."""


_MOST = 20


def message(fact: str, items: Iterable[str] = (), help: str = "") -> str:
    """Lay out an error: the fact, everything wrong by path, the likely mend.

    Args:
        fact: one sentence; it ends in a colon when items follow.
        items: one line for each thing that is wrong. After 20 lines the rest is
            counted, not listed.
        help: what to do about it.
    """
    items = list(items)
    fact, help = (printable(text, lines=True) for text in (fact, help))
    lines = [fact, *(f"  {printable(item)}" for item in items[:_MOST])]
    if len(items) > _MOST:
        lines.append(f"  … and {len(items) - _MOST} more")
    if help:
        lines.append(f"help: {help}")
    return "\n".join(lines)


def printable(text: str, lines: bool = False) -> str:
    """Escape control characters, which a file of a stranger may hold.

    Args:
        text: what is to be shown.
        lines: leave the ends of lines as they are.
    """
    if text.isprintable():
        return text
    return "".join(
        part
        if part.isprintable() or (lines and part == "\n")
        else part.encode("unicode_escape", "backslashreplace").decode()
        for part in text
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error of another library, or its kind."""
    return str(error).strip().split("\n")[0] or type(error).__name__
