"""The suffixes of sound files, in lower case, by the decoder that reads them."""

_LIBSNDFILE = ".wav .wave .rf64 .w64 .flac .ogg .oga .opus .mp3 .mp2 .aif .aiff .aifc .caf .au .snd .voc .sph"
_FFMPEG = ".m4a .m4b .mp4 .aac .wma .webm .mka .g722 .ac3 .eac3 .dts .amr .3gp .ape .wv .tta .mpc .spx .ra .dsf"

LIBSNDFILE = frozenset(_LIBSNDFILE.split())
"""Suffixes of files that libsndfile decodes."""

FFMPEG = frozenset(_FFMPEG.split())
"""Suffixes of files that the program ``ffmpeg`` decodes, if it is installed."""

SUFFIXES = LIBSNDFILE | FFMPEG
"""Suffixes of all files that can be decoded."""

RATES = range(1_000, 768_001)
"""The allowed sample rates of a file, in Hz."""
