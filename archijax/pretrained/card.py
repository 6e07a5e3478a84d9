"""Writes the text of the model card (README.md) in a model folder."""

from __future__ import annotations

import json
from typing import Any

from archijax.configs import KINDS, to_dict
from archijax.pipeline.facts import Facts


def card(name: str, config: Any, facts: Facts, parameters: int) -> str:
    """Returns the text of a model card: Markdown that begins with the metadata for the Hugging Face hub.

    Args:
        name: the name of the model folder, which becomes the title.
        config: the configuration of the model, such as `pipeline.config`.
        facts: the facts about the training, such as ``archijax.pretrained.Facts(step=5000)``.
        parameters: the number of the model's parameters.
    """
    settings = to_dict(config)
    text, kind = config.text, settings["kind"].replace("_", " ")
    seconds = config.length / config.sample_rate
    sound = f"{config.sample_rate} Hz, {config.channels} channel{'s' if config.channels > 1 else ''}"
    unit = {"rms": "dBFS", "lufs": "LUFS"}[facts.loudness_by]
    values = {"step": facts.step, f"loudness of the sounds ({unit})": facts.loudness, **facts.metrics}
    figures = [f"| {key} | {value:g} |" for key, value in values.items() if value is not None]
    usage, command = _usage(config, name)
    return "\n".join(
        [
            "---",
            "library_name: archijax",
            *(["pipeline_tag: text-to-audio"] if text is not None else []),
            f"tags: [audio, jax, {settings['kind']}]",
            "---",
            "",
            f"# {name}",
            "",
            f"A model of kind {kind} with {parameters / 1e6:.3g} million parameters, for sound of {sound}, "
            f"trained on {seconds:.3g} s at a time.",
            *(
                ["", f"Its text encoder is `{text.tokenizer}`, which is loaded by this name."]
                if text is not None and text.is_pretrained
                else []
            ),
            "",
            "## Use",
            "",
            f"`{name}` is this folder, or its name on the Hugging Face hub.",
            "",
            "```python",
            *usage,
            "```",
            "",
            "```sh",
            command,
            "```",
            "",
            "## Training",
            "",
            *(["| figure | value |", "|---|---|", *figures] if figures else ["There is no record of the training."]),
            "",
            "## Configuration",
            "",
            "```json",
            json.dumps(settings, indent=2),
            "```",
            "",
        ]
    )


def _usage(config: Any, name: str) -> tuple[list[str], str]:
    """Returns (lines of Python, a shell command), which both show how to use a model."""
    text, kind, quoted = config.text, to_dict(config)["kind"], json.dumps(name, ensure_ascii=False)
    lines = ["import archijax as aj", "", f"pipeline = aj.from_pretrained({quoted})"]
    if kind not in KINDS:
        command = f"python -m sample generate --model {quoted} --config FILE.py --out sounds"
        return ["import archijax as aj", "", f"pipeline = aj.from_pretrained({quoted}, config={kind}(...))"], command
    if kind in ("diffusion", "latent", "autoregressive"):
        prompt, option = ("", "") if text is None else ('["warm pad"]', ' --prompt "warm pad"')
        command = f"python -m sample generate --model {quoted}{option} --out sounds"
        return [*lines, f"sounds, sample_rate = pipeline.generate({prompt})"], command
    verb = {"upsampler": "upsample", "vocoder": "vocode"}.get(kind, "reconstruct")
    command = f"python -m sample {verb} sound.wav --model {quoted} --out sounds"
    return [*lines, f'sounds, sample_rate = pipeline.{verb}("sound.wav")'], command
