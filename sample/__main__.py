"""Runs the program of a verb: python -m sample VERB --model DIR ..."""

import sys

from archijax import cli
from archijax.errors import InputError, suggestion
from sample.edit import Extend, Inpaint, Vary
from sample.encode import Decode, Encode
from sample.export import Export
from sample.generate import Generate
from sample.reconstruct import Reconstruct
from sample.save import Save
from sample.upsample import Upsample
from sample.vocode import Vocode

USAGE = """\
usage: python -m sample VERB --model DIR [options]

DIR is the folder of a training run, a model folder, or the name of a model on the Hugging Face hub. The verbs:

    generate    make new sounds, with prompts if the model reads text
    inpaint     make a new part of a sound
    vary        make variations of a sound
    extend      continue a sound
    upsample    make sounds with a higher sample rate
    vocode      make sounds from mel spectrograms
    encode      write the latents or the mel spectrograms of sounds
    decode      make sounds from latents
    reconstruct encode and decode sounds by an autoencoder, upsampler or vocoder
    save        write the model as a folder to share
    export      write the model as one program that needs JAX alone

python -m sample VERB --help lists the options of a verb.

exit status: 0 finished, 2 wrong input or unwritable output, 130 stopped by Ctrl-C."""

VERBS = {
    "generate": Generate, "inpaint": Inpaint, "vary": Vary, "extend": Extend, "upsample": Upsample, "vocode": Vocode,
    "encode": Encode, "decode": Decode, "reconstruct": Reconstruct, "save": Save, "export": Export,
}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Runs the program with the given arguments (without the program's name) and returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments

    def program() -> int:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(USAGE)
            return 0 if arguments else 2
        verb, *options = arguments
        if verb not in VERBS:
            raise InputError(f"There is no verb {verb!r}: {suggestion(verb, VERBS, cli.LISTED)}")
        cli.parse(VERBS[verb], options, prog=f"python -m sample {verb}").run()
        return 0

    return cli.run(program)


if __name__ == "__main__":
    sys.exit(main())
