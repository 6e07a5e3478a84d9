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

`small` is the same design for the latents and the data of configs/long.py:small, with 2.4M parameters. It was trained
for 2,500 steps, 23 minutes beside other work, with the tempo as a further number. Of 96 held-out notes (`python -m
benchmarks.notes RUN NOTES --num-steps 20 --sampler dpm++ --guidance-scale 2`), and of 48 held-out phrases (`python -m
benchmarks.phrases`), beside the U-Net of configs/long.py:small:

                           pitch     instrument    notes in the key    tempo within 4 %
    trained                15.6 %    21.9 %        84.4 %               8.3 %
    prompts shuffled        2.1 %     6.2 %        66.8 %               2.1 %
    untrained net           0.0 %     2.1 %        61.7 %              10.4 %
    U-Net, 3,000 steps     67.7 %    34.4 %        95.1 %              10.4 %

So at this size and time, the U-Net is the better choice. The transformer follows prompts, but is far from done.
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
