"""Sphinx extension: worked examples that are computed when the page is built.

The directive `computed` shows its Python code and, below it, what the code prints. Examples of one
page share their names, in order, so that a later one can go on from an earlier one. An example
that fails is a warning, and a warning fails the book.
"""

from __future__ import annotations

import contextlib
import io
import traceback

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

LOGGER = logging.getLogger(__name__)


def printed(code: str, names: dict) -> str:
    """Run code among `names` and give what it prints."""
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        exec(compile(code, "<computed>", "exec"), names)
    return stream.getvalue()


class Computed(SphinxDirective):
    """Code, and below it what it prints."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Give a block of code and a block of output."""
        code = "\n".join(self.content)
        names = self.env.temp_data.setdefault("computed_names", {})
        try:
            output = printed(code, names)
        except Exception:
            reason = traceback.format_exc().splitlines()[-1]
            LOGGER.warning("a computed example fails: %s", reason, location=self.get_location())
            output = reason
        shown = nodes.container(classes=["vad-computed"])
        shown += nodes.literal_block(code, code, language="python")
        shown += nodes.literal_block(output, output.rstrip(), language="text")
        return [shown]


def setup(app) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("computed", Computed)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
