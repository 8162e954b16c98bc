"""Sphinx extension: docstrings that read well as plain text also read well as pages.

Some habits of plain text mean something else in reStructuredText. A heading in a module's
docstring would become a section, and a page with several modules would hold several sections
"Conventions": here it becomes a rubric. A size or modulus between bars would ask for a
substitution, and the two stars of keyword arguments would open bold text: here they are escaped.
"""

from __future__ import annotations

import re

UNDERLINE = re.compile(r"[-=]{3,}\s*")
LITERAL = re.compile(r"(``.+?``|`.+?`)")
STARS = re.compile(r"(?<![\\*])\*\*(?=\w)(?!.*\*\*)")
BARS = re.compile(r"(?<!\\)\|(?=\S)([^|\n]*?[^\s|\\])\|")


def rubrics(lines: list[str]) -> list[str]:
    """Turn underlined headings into rubrics."""
    result: list[str] = []
    for line in lines:
        heading = result[-1] if result else ""
        if UNDERLINE.fullmatch(line) and heading and not heading[0].isspace():
            result[-1:] = [f".. rubric:: {heading}", ""]
        else:
            result.append(line)
    return result


def escape(line: str) -> str:
    """Escape paired bars and unpaired double stars outside of code."""
    if line.lstrip().startswith((">>>", "...")):
        return line
    parts = LITERAL.split(line)
    # Every second part is code.
    parts[::2] = [STARS.sub(r"\\*\\*", BARS.sub(r"\\|\1\\|", part)) for part in parts[::2]]
    return "".join(parts)


def process(app, what, name, obj, options, lines: list[str]) -> None:
    """Rewrite one docstring in place, before numpydoc reads it."""
    changed = [escape(line) for line in lines]
    lines[:] = rubrics(changed) if what == "module" else changed


def setup(app) -> dict[str, bool]:
    """Register with Sphinx; numpydoc connects with the default priority, 500."""
    app.connect("autodoc-process-docstring", process, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
