"""Templates: HTML from `templates/`, with every value escaped unless it is markup already."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from sdbench.report import wording


def fill(template: str, **values: object) -> Markup:
    """A template with these values."""
    return Markup(_environment().get_template(template).render(**values))


def source(name: str) -> Markup:
    """A file of `templates/` as it is: the stylesheet or the script."""
    loader = _environment().loader
    assert loader is not None
    return Markup(loader.get_source(_environment(), name)[0])


def _prose(text: str) -> Markup:
    """Text with the symbol A_t set as mathematics."""
    return Markup(str(escape(text)).replace("A_t", "<i>A</i><sub>t</sub>"))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("sdbench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )
    environment.filters["condition"] = wording.condition_name
    environment.filters["prose"] = _prose
    return environment
