"""Defines the fields and buttons of the web page, and the functions that the buttons call."""

import secrets
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from archijax.errors import InputError, require
from archijax.pipeline import Pipeline, SampleSettings
from archijax.sampling import SAMPLERS
from archijax.web.studio import Kept, Shelf, run, work

VERBS = {
    "generate": ("Generate", {"seconds": ("Seconds", None)}),
    "vary": ("Vary", {"strength": ("Strength: near 0 the same sound, 1 another", 0.5)}),
    "inpaint": ("Make a part anew", {"start": ("From second", 0.0), "end": ("To second", 1.0)}),
    "extend": ("Go on", {"seconds": ("Seconds of new sound", 2.0)}),
    "upsample": ("Upsample", {"num_steps": ("Steps of the upsampler", 50)}),
}
CSS = """
#status { min-height: 4em } progress, audio, .sound img { width: 100% } .sound a { margin-right: 1.5em }
.wrong { color: #b00020 } .dark .wrong { color: #ff8a80 } #history fieldset { max-height: 20em; overflow-y: auto }
"""
QUIET = {"api_visibility": "private"}


class Page:
    """Builds the web page for the given models. :meth:`serve` serves the page.

    Args:
        makers: a dict from names to models that generate sound, as :func:`archijax.web.studio.load` returns.
        upsamplers: a dict from names to models that upsample sound.
        folder: the folder for the sounds that the page makes.
    """

    def __init__(self, makers: dict[str, Pipeline], upsamplers: dict[str, Pipeline], folder: str):
        self.models, self.root, self.makers = {**makers, **upsamplers}, Path(folder, "sounds"), list(makers)
        self.buttons, self.numbers, self.groups, self.conditions = {}, {}, {}, {}
        with gr.Blocks(title="archijax", analytics_enabled=False) as self.blocks:
            gr.Markdown("# archijax")
            self.shelf = gr.State(Shelf(), delete_callback=Shelf.remove)
            with gr.Row():
                with gr.Column():
                    with gr.Column(visible=bool(makers)):
                        self._settings()
                    self.seed = gr.Textbox(label="Seed", placeholder="a new one each time")
                    with gr.Tabs():
                        for verb in VERBS:
                            self._tab(verb, list(upsamplers) if verb == "upsample" else self.makers)
                with gr.Column():
                    self.status = gr.HTML(
                        "Ready.", js_on_load="element.setAttribute('role', 'status')", elem_id="status"
                    )
                    self.stop, self.card = gr.Button("Stop", variant="stop"), gr.HTML()
                    self.history = gr.Radio(label="Sounds of this tab: the chosen one is worked on", elem_id="history")
                    self.upload = gr.UploadButton("Upload a sound")
            self._events()

    def _settings(self) -> None:
        self.model = _choice(self.makers, "Model")
        self.prompt, self.negative = gr.Textbox(label="Prompt"), gr.Textbox(label="Negative prompt")
        for name in self.makers:
            with gr.Row(visible=False) as self.groups[name]:
                conditioners = self.models[name].config.conditioners
                self.conditions[name] = {one.name: _condition(one) for one in conditioners}
        with gr.Row():
            self.steps = gr.Number(label="Steps", precision=0, min_width=120)
            self.sampler = gr.Dropdown(list(SAMPLERS), label="Sampler", min_width=120)
            self.guidance = gr.Number(label="Guidance", min_width=120)

    def _tab(self, verb: str, names: list[str]) -> None:
        title, numbers = VERBS[verb]
        with gr.Tab(title, visible=bool(names)):
            if verb == "upsample":
                self.upsampler = _choice(names, "Upsampler")
            with gr.Row():
                self.numbers[verb] = {name: gr.Number(value, label=label) for name, (label, value) in numbers.items()}
            self.buttons[verb] = gr.Button(title, variant="primary")

    def _events(self) -> None:
        queued = {"concurrency_id": "work", "show_progress": "minimal", "show_progress_on": self.status, **QUIET}
        shown, chosen, running = [self.status, self.card, self.history], [self.shelf, self.history], []
        settings = [self.prompt, self.negative, self.steps, self.sampler, self.guidance]
        fields = [field for fields in (*self.conditions.values(), *self.numbers.values()) for field in fields.values()]
        inputs = {self.model, self.upsampler, self.seed, *chosen, *settings, *fields}
        for verb, button in self.buttons.items():
            presses = [button.click] + [self.prompt.submit] * (verb == "generate")
            running.append(gr.on(presses, partial(self._work, verb), inputs, shown, **queued))
        self.stop.click(lambda: "Stopped.", None, self.status, cancels=running, queue=False, **QUIET)
        self.upload.upload(self._upload, [self.upload, self.shelf], shown, show_progress_on=self.status, **QUIET)
        self.history.input(lambda shelf, number: card(shelf[number]), chosen, self.card, queue=False, **QUIET)
        if self.makers:
            changed = [*settings, self.numbers["generate"]["seconds"], *self.groups.values()]
            for field, update in zip(changed, self._defaults(self.makers[0]), strict=True):
                vars(field).update(update)
            self.model.change(self._defaults, self.model, changed, queue=False, **QUIET)

    def _defaults(self, name: str) -> list[Any]:
        """Returns updates of the fields: they get the defaults of a model, and fields that the model does not use are
        hidden."""
        pipeline = self.models[name]
        settings, reads, guided = pipeline.resolved(SampleSettings()), bool(pipeline.config.text), pipeline.guidable
        values = [settings.num_steps, settings.sampler, settings.scale(guided), round(pipeline.seconds, 6)]
        steps, sampler, scale, seconds = (gr.update(value=value) for value in values)
        seen = [reads, reads and guided, guided, *(other == name for other in self.groups)]
        prompt, negative, guidance, *groups = (gr.update(visible=each) for each in seen)
        return [prompt, negative, steps, sampler, scale | guidance, seconds, *groups]

    def _work(self, verb: str, values: dict[Any, Any]) -> Iterator[dict[Any, Any]]:
        """Makes a sound, and yields updates that show the progress. Gradio closes the generator when the user presses
        Stop or closes the tab."""
        began, shelf, number = time.perf_counter(), values[self.shelf], values[self.history]
        name = values[self.upsampler if verb == "upsample" else self.model]
        pipeline, start = self.models[name], None if verb == "generate" else shelf.get(number)
        seed = values[self.seed].strip() or str(secrets.randbelow(2**32))
        options, conditions, prompt = {}, {}, values[self.prompt].strip() if pipeline.config.text else ""
        if verb != "upsample":
            options |= {"num_steps": values[self.steps], "sampler": values[self.sampler]}
            conditions = {key: values[field] for key, field in self.conditions[name].items() if values[field]}
            if pipeline.guidable:
                options |= {"guidance_scale": values[self.guidance], "negative_prompt": values[self.negative] or None}
        options |= {key: values[field] for key, field in self.numbers[verb].items()}
        try:
            require(seed.isdecimal(), "The seed", seed, "a whole number from 0")
            options["seed"] = int(seed)
            steps = pipeline.resolved(SampleSettings(num_steps=options["num_steps"])).num_steps
            more = {"conditions": conditions} if conditions else {}
            with closing(run(work(pipeline, verb, prompt, start and start.source, **options, **more))) as news:
                for made in news:
                    if isinstance(made, int):
                        yield {self.status: bar(made, steps)}
            title = (
                f"{prompt or Path(name).name}{f', {VERBS[verb][0].lower()} of {number}' if start else ''}, seed {seed}"
            )
            known = {"model": name, **options, **conditions}
            facts = ", ".join(f"{key} {value}" for key, value in known.items() if value is not None)
            number = shelf.keep(self.root, made, title, facts)
            yield self._shown(shelf, number, f"Made in {time.perf_counter() - began:.1f} s.")
        except (InputError, OSError) as error:
            yield {self.status: wrong(error, start and start.source)}

    def _upload(self, path: str, shelf: Shelf) -> dict[Any, Any]:
        try:
            return self._shown(shelf, shelf.upload(self.root, Path(path)), "Uploaded.")
        except (InputError, OSError) as error:
            return {self.status: wrong(error, Path(path))}

    def _shown(self, shelf: Shelf, number: int, sentence: str) -> dict[Any, Any]:
        choices = [(f"{other}: {kept.title}", other) for other, kept in reversed(shelf.items())]
        history = gr.Radio(choices=choices, value=number)
        return {self.status: sentence, self.card: card(shelf[number]), self.history: history}

    def serve(self, host: str, port: int) -> None:
        """Starts to serve the page in the background. Raises OSError if the port cannot be used."""
        fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["monospace"]}  # the default fonts need the internet
        self.blocks.queue(max_size=32).launch(
            server_name=host, server_port=port, share=False, prevent_thread_lock=True, quiet=True, css=CSS,
            theme=gr.themes.Default(**fonts), allowed_paths=[str(self.root)], max_file_size="50mb", footer_links=[],
            run_history=False, enable_monitoring=False, ssr_mode=False, mcp_server=False,
        )  # fmt: skip


def _choice(names: list[str], label: str) -> gr.Dropdown:
    return gr.Dropdown(names, value=names[0] if names else None, label=label)


def _condition(one: Any) -> gr.Dropdown | gr.Textbox:
    """Returns the input field for a conditioner: a menu or a text box. An empty field sets no condition."""
    if words := getattr(one, "values", None):
        return gr.Dropdown(["", *words], value="", label=one.name)
    return gr.Textbox(label=f"{one.name}, {one.low:g} to {one.high:g}")


def bar(done: int, steps: int) -> str:
    """Returns the HTML of a progress bar. The text shows only ``done`` if ``done`` is at least ``steps``, as during
    decoding."""
    known = f"value='{done}' max='{steps}'" if 0 < done < steps else ""
    text = f"Step {done} of {steps}" if known else f"Step {done}" if done else "Preparing: a new length takes a while."
    return f"<progress aria-label='Steps' {known}></progress>{text}"


def card(kept: Kept) -> str:
    """Returns HTML that shows a sound: the player, the picture and the download links."""
    wav, flac, png = (f"gradio_api/file={quote(str(kept.wav.with_suffix(end)))}" for end in (".wav", ".flac", ".png"))
    title = escape(kept.title)
    return (
        f"<div class='sound'><h2>{title}</h2><audio controls src='{wav}' aria-label='Player of {title}'></audio>"
        f"<img src='{png}' alt='Waveform and spectrogram of {title}'><p>{escape(kept.facts)}</p>"
        f"<a href='{wav}' download>Download WAV</a><a href='{flac}' download>Download FLAC</a></div>"
    )


def wrong(error: Exception, path: Path | None) -> str:
    """Returns HTML that shows the message of an error. The message contains only the file name of ``path``, not the
    path."""
    sentence = getattr(error, "strerror", None) or str(error)
    return f"<p class='wrong'>{escape(sentence if path is None else sentence.replace(str(path), path.name))}</p>"
