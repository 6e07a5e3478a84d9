"""How docstrings name other things, :class:`Name`, becomes `Name` on the pages of the reference."""

import re

import griffe


class Roles(griffe.Extension):
    """Rewrites the docstrings of all objects."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring:
            text = re.sub(r":[a-z]+:`~?([^`]+)`", r"`\1`", obj.docstring.value)
            # What stands under "Fields:" are attributes.
            obj.docstring.value = re.sub(r"(?m)^( *)Fields:$", r"\1Attributes:", text).replace("``", "`")
