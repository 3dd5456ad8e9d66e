"""Plugins: one module each, and a plugin's name is its module's name.

A kind is a package of `sdbench`; every module in it but `base` and private ones is a plugin. So one
new file adds one, and there is no list to keep.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from enum import StrEnum
from types import ModuleType

from sdbench.errors import ConfigError


class Kind(StrEnum):
    """The packages whose modules are plugins."""

    CONDITION = "conditions"
    CRITIC = "critics"
    LOSS = "losses"
    ENGINE = "engines"


def names(kind: Kind) -> list[str]:
    """Sorted names of all plugins of a kind, without importing any of them."""
    package = importlib.import_module(f"sdbench.{kind}")
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in found if name != "base" and not name.startswith("_"))


def load(kind: Kind, name: str) -> ModuleType:
    """Imports a plugin.

    Raises:
        ConfigError: there is no such plugin; the message lists those there are.
    """
    known = names(kind)
    if name not in known:
        singular = (
            kind.value.removesuffix("es") if kind is Kind.LOSS else kind.value.removesuffix("s")
        )
        raise unknown(singular, name, known)
    return importlib.import_module(f"sdbench.{kind}.{name}")


def summary(kind: Kind, name: str) -> str:
    """First line of the plugin's docstring."""
    return (load(kind, name).__doc__ or "").strip().splitlines()[0]


def unknown(what: str, found: str, allowed: list[str]) -> ConfigError:
    """The error for a name that is not among those allowed, with the nearest one as a hint."""
    near = difflib.get_close_matches(found, allowed, n=1)
    return ConfigError(
        f"unknown {what} {found!r}; allowed: {', '.join(allowed) or 'none'}",
        hint=f"did you mean {near[0]!r}?" if near else None,
    )
