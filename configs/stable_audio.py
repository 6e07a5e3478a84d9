"""The model of Stable Audio Open: a diffusion transformer of latents at 21.5 Hz, with text and timing as conditioning.

    MODEL=stabilityai/stable-audio-open-1.0
    python -m train.encode configs/stable_audio.py --init-from $MODEL --data DIR --out LATENTS
    python -m train configs/stable_audio.py --init-from $MODEL --data LATENTS --out runs/open --fsdp 8
    python -m train configs/stable_audio.py:small --autoencoder AUTOENCODER --data LATENTS --out runs/transformer

`config` is the published model: 1,057M parameters, with T5-base and the autoencoder Oobleck (156M) in addition. It
makes 47.6 s of 44.1 kHz stereo. It trains in bfloat16, with gradient checkpointing of the layers, and with the state
sharded over the devices of a mesh. With --model.text.tokenizer $MODEL, the T5 comes from the model's folder, else from
t5-base on the hub. The published weights have their own licence, Stability AI Community. They were not tested here,
because there was no network. Parity with diffusers was tested with random weights.

`small` is the same design for the latents and the data of configs/long.py:small. It has 2.4M parameters, and was not
trained yet. On the latents of configs/notes.py, a net of this design in the same size was compared with the U-Net of
that file, which does about as many operations. After 500 steps of 16 notes, the loss on held-out notes was 0.638, and
0.582 with the U-Net (0.687 and 0.654 after 300 steps; one seed). A step took 1.6 times as long. So at this size, the
U-Net is the better choice.
"""

from dataclasses import replace

import archijax as aj
from archijax.configs import seconds
from configs import long
from train.config import OptimizerConfig, TrainConfig
from train.dataset import DataConfig

config = TrainConfig(
    model=aj.configs.StableAudioConfig(dtype="bfloat16", remat=True),
    data=DataConfig(sample_rate=44_100, length=2**21, crop="fixed"),
    # The authors' settings for fine-tuning.
    optimizer=OptimizerConfig(learning_rate=5e-5, warmup_steps=1_000),
    parallel="mesh",
    batch_size=8,
    steps=100_000,
)

# The data and the training of configs/long.py, on the same latents.
_unet = long.small.model
small = replace(
    long.small,
    model=aj.configs.StableAudioConfig(
        transformer=aj.configs.TransformerConfig(
            num_layers=4, num_heads=4, head_features=32, embedding_width=128, time_features=64
        ),
        text=_unet.text,
        conditioning_features=_unet.text.features,
        numbers=seconds(32.0, _unet.length / _unet.sample_rate),
        sample_rate=_unet.sample_rate,
        channels=_unet.channels,
        length=_unet.length,
        autoencoder=_unet.autoencoder,
    ),
)
