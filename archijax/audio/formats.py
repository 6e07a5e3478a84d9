"""Lists the allowed sample rates, and the suffixes (in lower case) of the files that each decoder reads."""

_LIBSNDFILE = ".wav .wave .rf64 .w64 .flac .ogg .oga .opus .mp3 .mp2 .aif .aiff .aifc .caf .au .snd .voc .sph"
_FFMPEG = ".m4a .m4b .mp4 .aac .wma .webm .mka .g722 .ac3 .eac3 .dts .amr .3gp .ape .wv .tta .mpc .spx .ra .dsf"

LIBSNDFILE = frozenset(_LIBSNDFILE.split())
"""The suffixes of files that libsndfile decodes, such as ".wav" and ".mp3"."""

FFMPEG = frozenset(_FFMPEG.split())
"""The suffixes of files that the program ``ffmpeg`` decodes, if it is installed."""

SUFFIXES = LIBSNDFILE | FFMPEG
"""The suffixes of all files that can be decoded."""

RATES = range(1_000, 768_001)
"""The allowed sample rates of a file, in Hz."""
