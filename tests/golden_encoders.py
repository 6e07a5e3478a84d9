"""Builders of the golden cases of encoders and bottlenecks."""

from __future__ import annotations

BUILDERS = {}
