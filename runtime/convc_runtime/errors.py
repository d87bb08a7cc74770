"""The errors that the runtime raises on purpose, each with a one-line message."""

from __future__ import annotations


class ConvcRuntimeError(Exception):
    """Base of all: the message names the thing, what was expected and what came."""


class ArtifactError(ConvcRuntimeError):
    """A file that is missing, unreadable, truncated, altered or not an artifact."""


class VersionError(ArtifactError):
    """An artifact of a format version that this runtime does not read."""


class CpuError(ConvcRuntimeError):
    """An artifact for another machine, or for CPU features that this one hasn't."""


class InputError(ConvcRuntimeError):
    """Arrays whose number, names, shapes or dtypes don't fit the model."""


class StateError(ConvcRuntimeError):
    """A saved state that can't be read, is damaged, or is another model's."""


class WriteError(ConvcRuntimeError):
    """An artifact or a state that could not be written; nothing is left behind."""
