"""What the reference makes of a docstring: a line that begins with the name of a parameter begins a paragraph."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Paragraphs(griffe.Extension):
    """Keeps `images: uint8 (n, height, width, 3)` and the like apart, which Markdown would run together."""

    def on_object(self, *, obj: griffe.Object, **options: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"(?<!\n)\n([a-z]\w*: )", r"\n\n\1", obj.docstring.value)
