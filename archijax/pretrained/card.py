"""The model card of a folder to share."""

from __future__ import annotations

import json
from typing import Any

from archijax.configs import to_dict
from archijax.pretrained.facts import Facts


def card(name: str, config: Any, facts: Facts, parameters: int) -> str:
    """The text of a model card, Markdown headed by what the hub reads.

    Args:
        name: of the folder.
        config: of the model.
        facts: of its training.
        parameters: number of its parameters.
    """
    settings = to_dict(config)
    text, kind = config.text, settings["kind"].replace("_", " ")
    seconds = config.length / config.sample_rate
    sound = f"{config.sample_rate} Hz, {config.channels} channel{'s' if config.channels > 1 else ''}"
    known = {"step": facts.step, "loudness of the sounds (dBFS)": facts.loudness, **facts.metrics}
    figures = [f"| {key} | {value:g} |" for key, value in known.items() if value is not None]
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
                ["", f"Its text encoder is `{text.tokenizer}`, which is loaded by that name."]
                if text is not None and text.is_pretrained
                else []
            ),
            "",
            "## Use",
            "",
            f"`{name}` is this folder, or the name that it has on the Hugging Face hub.",
            "",
            "```python",
            *usage,
            "```",
            *(["", "```sh", command, "```"] if command else []),
            "",
            "## Training",
            "",
            *(["| figure | value |", "|---|---|", *figures] if figures else ["Nothing is recorded."]),
            "",
            "## Configuration",
            "",
            "```json",
            json.dumps(settings, indent=2),
            "```",
            "",
        ]
    )


def _usage(config: Any, name: str) -> tuple[list[str], str | None]:
    """Lines of Python that use a model, and a command, for its card."""
    text, kind, quoted = config.text, to_dict(config)["kind"], json.dumps(name, ensure_ascii=False)
    load = ["from archijax.pretrained import from_pretrained"]
    lines = ["", f"config, model, variables, facts = from_pretrained({quoted})"]
    if kind in ("diffusion", "latent"):
        given = ""
        if text is not None:
            load += ["from archijax.text import tokenize"]
            lines += ['tokens, mask = tokenize(config.text.load_tokenizer(), ["warm pad"], config.text.max_length)']
            given = ", tokens=tokens, token_mask=mask" + (", guidance=3.0" if text.cond_drop_prob > 0 else "")
        lines += [
            "shape = (1, config.length, config.channels)",
            f"sound = model.sample(variables, jax.random.key(0), shape=shape, num_steps=50{given})",
        ]
        prompt = ' --prompt "warm pad"' if text is not None else ""
        return ["import jax", *load, *lines], f"python -m sample generate --model {quoted}{prompt} --out sounds"
    verb = {"upsampler": "upsample", "vocoder": "vocode"}.get(kind, "reconstruct")
    command = f"python -m sample {verb} sound.wav --model {quoted} --out sounds"
    if text is not None:
        return [*load, *lines], command
    lines += [
        "sound = jax.numpy.zeros((1, config.length, config.channels))",
        "again = model.reconstruct(variables, sound)",
    ]
    return ["import jax", *load, *lines], command
