"""Loads models from folders in the layouts of other libraries."""

from pathlib import Path

from archijax.errors import InputError
from archijax.hub import pretrained_folder
from archijax.pipeline import Pipeline

# The file that identifies each layout. The first file that exists decides.
LAYOUTS = HUB, TOOLS = "model_index.json", "model_config.json"


def load_foreign(name: str | Path, revision: str | None = None) -> Pipeline | None:
    """Loads Stable Audio from a folder, or from the hub, in the layout of diffusers or stable-audio-tools. Returns None
    if there is no such folder, or if the folder has neither layout.

    Raises:
        InputError: the folder has one of these layouts, but the model is damaged or is not Stable Audio.
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
