"""The instruments of General MIDI with a clear pitch, and their names."""

from dataclasses import dataclass

SEMITONES = 48
NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


@dataclass(frozen=True)
class Instrument:
    """An instrument of General MIDI: the program number from 0, the lowest pitch used (MIDI number), and its names."""

    program: int
    lowest: int
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        """The first of the instrument's names."""
        return self.names[0]

    @property
    def folder(self) -> str:
        """The name of the instrument's folder."""
        return self.name.replace(" ", "_").replace("-", "_")

    @property
    def pitches(self) -> range:
        """The pitches of the instrument's notes, four octaves, as MIDI numbers."""
        return range(self.lowest, self.lowest + SEMITONES)


def note_name(pitch: int) -> str:
    """Returns the name of the pitch with a MIDI number, with the octave: 60 is C4, 69 is A4."""
    return f"{NAMES[pitch % 12]}{pitch // 12 - 1}"


# Left out: percussion and sound effects (112 to 127, except steel drums), leads and pads with several pitches or no
# pitch (86, 96 to 103), the orchestra hit (55), timpani (47), and bagpipes with loud drones (109). Also left out:
# instruments that sound octaves away from the note, or whose pitch is unclear to the judges: drawbar organs (16 to 18),
# guitar harmonics (31), glockenspiel (9).
_LIST = """
0 36 grand piano, piano, acoustic piano
1 36 bright piano, bright acoustic piano
2 36 electric grand piano, electric grand
3 36 honky-tonk piano, saloon piano
4 36 electric piano, Rhodes piano
5 36 FM electric piano, DX electric piano
6 36 harpsichord
7 36 clavinet, clavi
8 48 celesta
10 48 music box
11 48 vibraphone, vibes
12 48 marimba
13 48 xylophone
14 48 tubular bells, tubular bell
15 48 dulcimer, hammered dulcimer
19 36 church organ, pipe organ
20 36 reed organ, harmonium
21 36 accordion
22 48 harmonica
23 36 bandoneon, tango accordion
24 36 nylon guitar, classical guitar, nylon-string guitar
25 36 steel guitar, folk guitar, steel-string guitar
26 36 jazz guitar, electric jazz guitar
27 36 electric guitar, clean electric guitar
28 36 muted guitar, palm-muted electric guitar
29 36 overdriven guitar, overdriven electric guitar
30 36 distorted guitar, distortion guitar, heavy electric guitar
32 24 acoustic bass, double bass played with fingers, upright bass
33 24 electric bass, fingered bass guitar, bass guitar
34 24 picked bass, bass guitar played with a pick
35 24 fretless bass, fretless bass guitar
36 24 slap bass, slapped bass guitar
37 24 popped bass, popped bass guitar
38 24 synth bass, synthesizer bass
39 24 rubber synth bass, rubbery synthesizer bass
40 48 violin
41 48 viola
42 36 cello
43 24 contrabass, bowed double bass
44 36 tremolo strings, trembling strings
45 36 pizzicato strings, plucked strings
46 36 harp, concert harp
48 36 strings, string ensemble, string section
49 36 swelling strings, swelling string ensemble
50 36 synth strings, synthesizer strings
51 36 warm synth strings, warm synthesizer strings
52 36 choir, choir singing aah, voices
53 36 humming choir, choir singing ooh, voice oohs
54 36 synth voice, synthesizer voice
56 48 trumpet
57 36 trombone
58 24 tuba
59 48 muted trumpet, trumpet with a mute
60 36 French horn, horn
61 36 brass section, brass
62 36 synth brass, synthesizer brass
63 36 mellow synth brass, mellow synthesizer brass
64 48 soprano saxophone, soprano sax
65 36 alto saxophone, saxophone, alto sax
66 36 tenor saxophone, tenor sax
67 24 baritone saxophone, baritone sax
68 48 oboe
69 48 English horn, cor anglais
70 24 bassoon
71 48 clarinet
72 48 piccolo, piccolo flute
73 48 flute, concert flute
74 48 recorder
75 48 pan flute, pan pipes
76 48 bottle, blown bottle
77 48 shakuhachi, Japanese flute
78 48 whistle, whistling
79 48 ocarina
80 36 square lead, square wave synthesizer
81 36 saw lead, sawtooth synthesizer
82 48 calliope, steam organ
83 36 chiff lead, breathy synthesizer lead
84 36 charang, distorted synthesizer lead
85 36 voice lead, synthesizer lead like a voice
87 24 bass lead, synthesizer bass and lead
88 36 new age pad, bell pad
89 36 warm pad, warm synthesizer pad
90 36 polysynth pad, polysynth
91 36 choir pad, space choir
92 36 bowed pad, bowed glass pad
93 36 metallic pad, metal pad
94 36 halo pad
95 36 sweep pad, sweeping synthesizer pad
104 36 sitar
105 36 banjo
106 36 shamisen
107 36 koto
108 48 kalimba, thumb piano
110 48 fiddle, folk fiddle
111 48 shanai, shehnai
114 48 steel drum, steel pan
"""


def _parsed(line: str) -> Instrument:
    program, lowest, names = line.split(" ", 2)
    return Instrument(int(program), int(lowest), tuple(names.split(", ")))


INSTRUMENTS = tuple(map(_parsed, _LIST.strip().splitlines()))
