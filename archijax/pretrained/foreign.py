"""Models of other libraries, by the layouts that they are shared in."""

from pathlib import Path

from archijax.errors import InputError
from archijax.hub import pretrained_folder
from archijax.pipeline import Pipeline

# What tells a layout, and what reads it: the first that is there.
LAYOUTS = HUB, TOOLS = "model_index.json", "model_config.json"


def load_foreign(name: str | Path, revision: str | None = None) -> Pipeline | None:
    """Stable Audio in the layout of diffusers or of stable-audio-tools; None where neither is there.

    Raises:
        InputError: it is damaged, or another model of these libraries.
    """
    try:
        folder = pretrained_folder(name, revision, [HUB, TOOLS])
    except InputError:
        return None
    if (folder / HUB).is_file():
        from archijax.convert import diffusers as layout
    elif (folder / TOOLS).is_file():
        from archijax.convert import stable_audio_tools as layout
    else:
        return None
    config, variables = layout.read(name, revision)
    return Pipeline(config, config.build(), {"state": {}, **variables})
