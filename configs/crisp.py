"""Text to 44 seconds of 48 kHz stereo with a learned transform; small: two seconds at 16 kHz.

    python -m train configs/crisp.py --data DIR --out runs/crisp
    make set-notes                                    # DIR: runs/sets/notes/train
    python -m train configs/crisp.py:small --data DIR --out runs/crisp
    python -m benchmarks.notes runs/crisp runs/sets/notes

`config` follows the thesis: 300.4M parameters and T5-base (whose files are needed), crops of 2^21, batch 32, a million
steps on many GPUs. It was never trained here. `small` has 6.1M parameters: the net of configs/notes.py, on a learned
transform of the sound in place of a codec's latents. A step takes about half a second on two CPU cores. After 900 of
its 3,000 steps on 3,600 notes of 28 instruments, it makes coloured noise: of 48 held-out notes, none has the right
pitch, and 2.1 % the right instrument (untrained net: the same). The model of latents in configs/long.py has 67.7 %
after 3,000 steps, and configs/unconditional.py compares both at equal training time.
"""

from dataclasses import replace

import archijax as aj
from configs import notes
from train.config import TrainConfig
from train.dataset import DataConfig

LENGTH = 32_768  # samples: 2 s

config = TrainConfig(
    model=aj.configs.DiffusionConfig(
        unet=aj.configs.UNetConfig(
            channels=(256, 256, 512, 512, 1024, 1024),
            factors=(1, 2, 2, 2, 2, 2),
            items=(2, 2, 2, 2, 4, 4),
            attentions=(0, 0, 0, 0, 1, 1),
            cross_attentions=(1, 1, 1, 1, 1, 1),
            attention_heads=12,
        ),
        transform=aj.configs.LearnedTransformConfig(num_filters=128, window_length=128, stride=64),
        text=aj.configs.TextConfig(tokenizer="t5-base"),
        length=2**21,
        dtype="bfloat16",
        remat=True,
    ),
    data=DataConfig(length=2**21, crop="fixed"),
)

# The net, the text encoder and the training of configs/notes.py, on sound in place of a codec's latents.
small = replace(
    notes.config,
    model=aj.configs.DiffusionConfig(
        unet=notes.config.model.unet,
        transform=aj.configs.LearnedTransformConfig(num_filters=256, window_length=512, stride=256),
        text=notes.config.model.text,
        sample_rate=16_000,
        channels=1,
        length=LENGTH,
        stratified=True,
        # The noise levels are shifted to the loudness of these sounds.
        schedule_shift=0.2,
        sampling=aj.configs.SampleDefaults(num_steps=20, sampler="dpm++", guidance_scale=2.0),
    ),
    # Half of a clip can be silence, which a caption does not tell.
    data=replace(notes.config.data, length=LENGTH, skip_below=-50.0),
    steps=3_000,
    sample_guidance_scale=2.0,
)
