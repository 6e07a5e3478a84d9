"""Serves a web page that makes sounds with models: python -m archijax.web --model NAME_OR_DIR"""

import importlib.util
import os
import signal
import sys
import tempfile
from dataclasses import dataclass
from functools import partial

import tyro

from archijax import cli
from archijax.errors import InputError
from archijax.web import studio


@dataclass(frozen=True)
class Web:
    """Serves a web page that makes sounds with models. Ctrl-C ends the program."""

    model: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A bundled model, a folder or a name on the Hugging Face hub. The option can be repeated. The default is
    "notes"."""
    port: int = 7860
    """The port at which the page is served."""
    host: str = "127.0.0.1"
    """The address at which the page is served. With 0.0.0.0, other machines can open the page too."""

    def run(self) -> None:
        """Serves the page until Ctrl-C. Raises InputError if a model or the port cannot be used."""
        if importlib.util.find_spec("gradio") is None:
            raise InputError("The page needs gradio: pip install 'archijax[web]'.")
        models = studio.load(self.model or ["notes"])
        with tempfile.TemporaryDirectory(prefix="archijax-web-") as folder:
            # Gradio reads these variables at its import. They set the folder of uploads, and switch statistics off.
            os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
            from archijax.web.page import Page

            try:
                Page(*models, folder).serve(self.host, self.port)
            except OSError as error:
                raise InputError(
                    f"Port {self.port} of {self.host} cannot be used: choose another by --port."
                ) from error
            cli.say(f"Open http://{self.host}:{self.port} in a browser; Ctrl-C ends the page.")
            signal.pause()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    web = partial(cli.parse, Web, sys.argv[1:], prog="python -m archijax.web")
    sys.exit(cli.run(lambda: web().run(), interrupted="The page is closed."))
