"""The timed cases: nets and work as plain data, from which a JAX process and a PyTorch process build the same case."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

README = {
    "channels": (8, 32, 64, 128, 256, 512, 512, 1024, 1024),
    "factors": (1, 4, 4, 4, 2, 2, 2, 2, 2),
    "items": (1, 2, 2, 2, 2, 2, 2, 4, 4),
    "attentions": (0, 0, 0, 0, 0, 1, 1, 1, 1),
    "attention_heads": 8,
    "attention_features": 64,
}
WITHOUT_ATTENTION = {name: value for name, value in README.items() if "attention" not in name}
TEXT = {"embedding_features": 768, "embedding_max_length": 64, "use_embedding_cfg": True}
THESIS = {
    "channels": (256, 512, 512, 512, 1024, 1024, 1024),
    "factors": (1, 2, 2, 2, 2, 2, 2),
    "items": (1, 2, 2, 2, 2, 2, 2),
    "attentions": (0, 0, 0, 0, 0, 1, 1),
    "attention_heads": 8,
    "attention_features": 64,
}
CRISP = {
    "channels": (256, 256, 512, 512, 1024, 1024),
    "factors": (1, 2, 2, 2, 2, 2),
    "items": (2, 2, 2, 2, 4, 4),
    "attentions": (0, 0, 0, 0, 1, 1),
    "cross_attentions": (1, 1, 1, 1, 1, 1),
    "attention_heads": 12,
    "attention_features": 64,
    **TEXT,
}
LONG = {
    "channels": (128, 256, 512, 512, 1024, 1024),
    "factors": (1, 2, 2, 2, 2, 2),
    "items": (2, 2, 2, 4, 8, 8),
    "attentions": (0, 0, 1, 1, 1, 1),
    "cross_attentions": (1, 1, 1, 1, 1, 1),
    "attention_heads": 12,
    "attention_features": 64,
    **TEXT,
}
# The transformer of Stable Audio Open with 4 of its 24 layers, with the argument names of diffusers.
TRANSFORMER = {
    "sample_size": 1024,
    "in_channels": 64,
    "out_channels": 64,
    "num_layers": 4,
    "attention_head_dim": 64,
    "num_attention_heads": 24,
    "num_key_value_attention_heads": 12,
    "cross_attention_dim": 768,
    "cross_attention_input_dim": 768,
    "global_states_input_dim": 1536,
    "time_proj_dim": 256,
}
OOBLECK = {
    "encoder_hidden_size": 128,
    "downsampling_ratios": (2, 4, 4, 8, 8),
    "channel_multiples": (1, 2, 4, 8, 16),
    "decoder_channels": 128,
    "decoder_input_channels": 64,
    "audio_channels": 2,
}
TRANSFORM = {"num_filters": 128, "window_length": 128, "stride": 64}


@dataclass(frozen=True)
class Case:
    """One kind of work on one net.

    Fields:
        name: the name on the command line and in the results.
        what: a description of the case.
        kind: "net", "upsampler", "vocoder", "encoder" or "t5"; "transformer" or "oobleck", which decodes.
        work: "forward", "training" (loss, gradient and update) or "sampling".
        net: the arguments of the original's constructor.
        transform: the settings of the learned transform around the net; None: no transform.
        batch, length, channels: the shape of the sound or of the latent; for "t5", length is the number of tokens.
        steps, guidance: the settings of sampling.
        settings: further settings, which depend on `kind`.
        sample_rate: the number of positions counted by `length` per second of sound.
        quick: whether --quick runs this case.
        fresh: whether to measure also the time from the start of a process to the end of its first run.
    """

    name: str
    what: str
    kind: Literal["net", "upsampler", "vocoder", "encoder", "t5", "transformer", "oobleck"]
    work: Literal["forward", "training", "sampling"]
    net: dict[str, Any]
    length: int
    channels: int = 2
    batch: int = 1
    transform: dict[str, int] | None = None
    steps: int = 0
    guidance: float = 1.0
    settings: dict[str, Any] = field(default_factory=dict)
    sample_rate: float = 48_000
    quick: bool = False
    fresh: bool = False

    @property
    def text(self) -> bool:
        """Whether the net is conditioned on a text embedding."""
        return "embedding_features" in self.net

    @property
    def seconds(self) -> float:
        """How many seconds of sound the case makes or reads."""
        return self.batch * self.length / self.sample_rate


CPU = (
    Case("readme", "README net, forward", "net", "forward", README, 2**18, quick=True),
    Case("readme_training", "README net, training step", "net", "training", README, 2**18, fresh=True),
    Case(
        "readme_sampling", "README net with text, 10 guided steps", "net", "sampling",
        {**README, **TEXT, "cross_attentions": (0, 0, 0, 0, 0, 1, 1, 1, 1)}, 2**18, steps=10, guidance=5.0,
    ),
    Case("transform", "net under the learned transform, forward", "net", "forward", THESIS, 2**17,
         transform=TRANSFORM, quick=True),
    Case("transform_training", "net under the learned transform, training step", "net", "training", THESIS, 2**17,
         transform=TRANSFORM),
    Case("upsampler", "upsampler, 3 to 48 kHz, 4 steps", "upsampler", "sampling",
         {**README, "attention_heads": 12}, 2**18, steps=4, settings={"factor": 16}),
    Case("vocoder", "vocoder, 80 mels, 4 steps", "vocoder", "sampling", WITHOUT_ATTENTION, 2**17, steps=4,
         settings={"mel_channels": 80, "n_fft": 1024, "hop_length": 256}),
    Case(
        "encoder", "magnitude encoder (ME1d)", "encoder", "forward",
        {"channels": 512, "multipliers": (1, 1), "factors": (4,), "num_blocks": (12,), "out_channels": 32}, 2**18,
        settings={"n_fft": 1023, "hop_length": 256}, quick=True,
    ),
    Case(
        "t5", "T5-base encoder, 8 prompts of 64 tokens", "t5", "forward",
        {"vocab_size": 32128, "d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12}, 64,
        batch=8, quick=True,
    ),
    Case("latent", "latent net (562M), 2048 frames, forward", "net", "forward", LONG, 2048, channels=32,
         sample_rate=48_000 / 1024),
    Case("transformer", "Stable Audio's transformer, 4 layers, 256 frames", "transformer", "forward", TRANSFORMER, 256,
         channels=64, sample_rate=44_100 / 2048, settings={"tokens": 130}),
    Case("oobleck", "Stable Audio's decoder, 32 frames", "oobleck", "forward", OOBLECK, 32, channels=64,
         sample_rate=44_100 / 2048),
)  # fmt: skip

_LATENT = Case(
    "latent_training", "latent net (562M), 2048 frames, training step", "net", "training", LONG, 2048, channels=32,
    batch=32, sample_rate=48_000 / 1024, quick=True,
)  # fmt: skip
GPU = (
    *CPU,
    Case("crisp_training", "crisp (300M), crops of 2^21, training step", "net", "training", CRISP, 2**21,
         transform=TRANSFORM, batch=16, quick=True),
    _LATENT,
    *(replace(_LATENT, name=f"latent_training_{batch}", batch=batch, quick=False) for batch in (1, 4, 8, 64)),
    Case("crisp_sampling", "crisp, 44 s, 50 guided steps", "net", "sampling", CRISP, 2**21, transform=TRANSFORM,
         steps=50, guidance=5.0, quick=True),
    Case("latent_sampling", "latents of 120 s, 50 guided steps", "net", "sampling", LONG, 5632, channels=32, steps=50,
         guidance=5.0, sample_rate=48_000 / 1024, quick=True),
    Case("decoder_sampling", "decoder's net, 120 s, 20 steps", "net", "sampling",
         {**THESIS, "attentions": (0,) * 7}, 5632 * 1024, transform=TRANSFORM, steps=20, quick=True),
)  # fmt: skip
CASES = {case.name: case for case in GPU}
