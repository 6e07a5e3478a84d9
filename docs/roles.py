"""Prepares docstrings and classes for the pages of the API reference."""

import re
from collections.abc import Iterator

import griffe


class Roles(griffe.Extension):
    """Writes :class:`Name` as `Name`, and adds constructors to Flax modules, which are dataclasses without a
    decorator."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring:
            text = re.sub(r":[a-z]+:`~?([^`]+)`", r"`\1`", obj.docstring.value).replace("``", "`")
            # Entries under "Fields:" are attributes. Two names with one text make one row of the table.
            text = re.sub(r"(?m)^( *)Fields:$", r"\1Attributes:", text)
            obj.docstring.value = re.sub(
                r"(?m)^( *\w+(?:, \w+)+):(?= )", lambda names: names[0].replace(", ", ","), text
            )

    def on_package(self, *, pkg: griffe.Module, **_) -> None:
        for cls in _classes(pkg):
            family = [*reversed(cls.mro()), cls]
            bases = [str(base) for one in family for base in one.bases]
            if "__init__" not in cls.members and any(base.endswith("nn.Module") for base in bases):
                fields = {name: one for kin in family for name, one in kin.attributes.items() if _is_field(one)}
                kind = griffe.ParameterKind.positional_or_keyword
                given = [
                    griffe.Parameter(name, annotation=one.annotation, default=one.value, kind=kind)
                    for name, one in fields.items()
                ]
                parameters = griffe.Parameters(griffe.Parameter("self", kind=kind), *given)
                cls.set_member("__init__", griffe.Function("__init__", parameters=parameters))


def _is_field(attribute: griffe.Attribute) -> bool:
    return attribute.annotation is not None and "property" not in attribute.labels


def _classes(module: griffe.Module) -> Iterator[griffe.Class]:
    for member in module.members.values():
        if member.is_alias:
            continue
        if member.is_module:
            yield from _classes(member)
        elif member.is_class:
            yield member
