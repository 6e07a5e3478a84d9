"""The web page: its functions, and its use in a real browser."""

import contextlib
import dataclasses
import importlib.util
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from folders import traced_once  # noqa: F401
from nets import AUTOENCODER, TEXT_MODEL, variables_of

import archijax as aj
from archijax.audio import files
from archijax.errors import InputError
from archijax.pipeline import Sounds
from archijax.web import studio
from archijax.web.__main__ import Web
from archijax.web.studio import KEPT, Shelf, load, run, work

RATE = 8000
MAKER = dataclasses.replace(
    TEXT_MODEL,
    channels=1,
    length=2000,
    conditioners=(aj.configs.NumberConfig("bpm", 60, 180), aj.configs.CategoryConfig("key", ("A minor", "C major"))),
    sampling=aj.configs.SampleDefaults(num_steps=3, guidance_scale=2.0),
)
UPSAMPLER = aj.configs.UpsamplerConfig(
    unet=aj.configs.UNetConfig(channels=(8,), factors=(1,), items=(1,), resnet_groups=4, modulation_features=16),
    factor=2, sample_rate=2 * RATE, channels=1, length=1024,
)  # fmt: skip
BIT = 2.0**-23  # the resolution of a 24-bit file


def save(folder, config):
    aj.save_pretrained(folder, config, variables_of(config))
    return str(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return [save(root / "maker", MAKER), save(root / "upsampler", UPSAMPLER)]


@pytest.fixture(scope="module")
def models(folders):
    return load(folders)


@pytest.fixture(scope="module")
def maker(models):
    return next(iter(models[0].values()))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "a clip.wav"
    files.write(path, 0.1 * np.sin(np.arange(3000, dtype=np.float32))[:, None], RATE)
    return path


def finished(make):
    """The sound of a job, and the steps that it reported."""
    *steps, made = run(make)
    assert steps == sorted(steps)
    return made, steps[-1]


SETTINGS = {"num_steps": 2, "seed": 7, "guidance_scale": 3.0, "conditions": {"bpm": "90"}}


@pytest.mark.parametrize(
    ("verb", "numbers"),
    [
        ("generate", {"seconds": 0.2}),
        ("vary", {"strength": 0.6}),
        ("inpaint", {"start": 0.1, "end": 0.2}),
        ("extend", {"seconds": 0.1}),
    ],
)
def test_work_makes_what_the_pipeline_makes_and_tells_each_of_its_steps(maker, clip, verb, numbers):
    made, steps = finished(work(maker, verb, "a drum", clip, **numbers, **SETTINGS))
    assert steps == 2
    start, prompt = ([], {"prompts": "a drum"}) if verb == "generate" else ([clip], {"prompt": "a drum"})
    expected = getattr(maker, verb)(*start, **prompt, **numbers, **SETTINGS)
    assert made.sample_rate == expected.sample_rate
    np.testing.assert_array_equal(made.sounds, expected.sounds)


def test_upsampling_is_the_pipelines_too(models, clip):
    (upsampler,) = models[1].values()
    made, steps = finished(work(upsampler, "upsample", "", clip, num_steps=2, seed=7))
    assert steps > 0
    expected = upsampler.upsample(clip, num_steps=2, seed=7)
    assert made.sample_rate == 2 * RATE
    np.testing.assert_array_equal(made.sounds, expected.sounds)


def test_what_is_stopped_makes_room_for_the_next():
    taken = []

    def make(progress):
        while True:
            progress(1)
            taken.append(1)
            time.sleep(0.01)

    running, waiting = run(make), run(make)
    while not next(running):
        pass
    assert next(waiting) == 0
    waiting.close()
    running.close()
    sounds = Sounds(np.zeros((1, 8, 1), np.float32), RATE)
    assert list(run(lambda progress: sounds))[-1] is sounds
    count = len(taken)
    time.sleep(0.05)
    assert len(taken) == count


@pytest.mark.parametrize(
    ("verb", "options", "sentence"),
    [
        ("vary", {"strength": 0.5}, "There is no sound to start from yet: generate or upload one."),
        ("generate", {"seconds": None}, "seconds must be a number, not empty."),
        ("generate", {"seconds": 1e5}, "The sound must be at most 3750 s long, at 8000 Hz x 1 channels, not 100000 s."),
        ("generate", {"num_steps": 1001}, "num_steps must be at most 1000, not 1001."),
        ("generate", {"prompt": "a" * 1001}, "The prompt must be at most 1000 long, not 1001 letters."),
        ("generate", {"seconds": -1.0}, "seconds must be above 0 and at most 268435, not -1.0."),
        (
            "generate", {"conditions": {"bpm": "fast"}},
            "bpm is 'fast', which is not a number: it must be from 60 to 180.",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_one_sentence(maker, verb, options, sentence):
    options = {"prompt": "", "sound": None, "num_steps": None, **options}
    with pytest.raises(InputError) as error:
        list(run(work(maker, verb, **options)))
    assert str(error.value) == sentence


def test_a_shelf_keeps_sounds_as_files_and_lets_the_oldest_go(tmp_path):
    shelf, sound = Shelf(), np.linspace(-0.9, 1.5, 800, dtype=np.float32)[:, None]
    number = shelf.keep(tmp_path, Sounds(sound[None], RATE), "A soft <flute>, seed 3", "model notes")
    kept = shelf[number]
    assert kept.wav.name == "a-soft-flute-seed-3.wav"
    assert kept.facts == "model notes, length 0.1 s, 8000 Hz, louder than full scale and clipped there"
    for path in (kept.wav, kept.wav.with_suffix(".flac")):
        read, rate = sf.read(path, dtype="float32", always_2d=True)
        assert rate == RATE
        np.testing.assert_allclose(read, np.clip(sound, -1, 1), atol=BIT)
        assert files.info(path).tags["comment"] == kept.facts
    assert kept.wav.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    other = Shelf()
    other.keep(tmp_path, Sounds(sound[None], RATE), "another tab", "")
    shelf |= {n: kept._replace(wav=tmp_path / str(n) / "a.wav") for n in range(2, KEPT + 1)}
    assert shelf.keep(tmp_path, Sounds(sound[None], RATE), "one too many", "") == KEPT + 1
    assert list(shelf) == list(range(2, KEPT + 2))
    assert not kept.wav.exists()
    shelf.remove()
    assert not shelf
    assert [path.name for path in tmp_path.rglob("*.wav")] == ["another-tab.wav"]


def test_uploads_are_checked_like_any_file(tmp_path, clip, monkeypatch):
    shelf, upload = Shelf(), Path(shutil.copy(clip, tmp_path / "a clip.wav"))
    kept = shelf[shelf.upload(tmp_path / "sounds", upload)]
    assert (kept.title, kept.facts) == ("a clip.wav", "uploaded, length 0.375 s, 8000 Hz")
    assert not upload.exists()
    assert kept.source.read_bytes() == clip.read_bytes()
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF" + bytes(100))
    with pytest.raises(InputError):
        shelf.upload(tmp_path / "sounds", broken)
    monkeypatch.setattr(studio, "MOST_SAMPLES", 2 * RATE)
    longer = tmp_path / "longer.wav"
    files.write(longer, np.zeros((3 * RATE, 1), np.float32), RATE)
    with pytest.raises(InputError, match=r"at most 2 s long, at 8000 Hz x 1 channels, not 3 s\."):
        shelf.upload(tmp_path / "sounds", longer)
    assert list(shelf) == [1]


def test_models_that_make_no_sound_are_refused(tmp_path):
    codec = save(tmp_path / "codec", AUTOENCODER)
    with pytest.raises(
        InputError, match="is of kind 'autoencoder': a model that generates or upsamples sound is needed"
    ):
        load([codec])


def test_without_the_extra_the_program_says_what_to_install(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gradio" else find(name))
    with pytest.raises(InputError, match=r"pip install 'archijax\[web\]'"):
        Web().run()


# --- in a browser ---

MISSING = [name for name in ("gradio", "selenium") if importlib.util.find_spec(name) is None]
MISSING += [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
in_a_browser = pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not installed")
WAIT = 180  # seconds, on a busy machine


@pytest.fixture(scope="module")
def address(folders, tmp_path_factory):
    """The address of the page. Ctrl-C ends its program after the tests."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("page") / "log"
    options = [f"--model={folder}" for folder in folders]
    command = [sys.executable, "-m", "archijax.web", f"--port={port}", *options]
    # A script that runs the tests in the background makes them ignore Ctrl-C, and the program would inherit this.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, cwd=Path(__file__).parent.parent)
    signal.signal(signal.SIGINT, handler)
    try:
        while "Open http" not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT) == 130
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()


class Browser:
    """A browser with the page in a tab, with methods for the actions of a user."""

    def __init__(self, address, downloads):
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for name in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1280,1000"):
            options.add_argument(f"--{name}")
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        self.driver, self.address, self.downloads = webdriver.Chrome(options, service), address, downloads
        self.open()

    def open(self):
        self.driver.get(self.address)
        self.until(lambda: self.field("Steps").get_attribute("value") == "3")

    def until(self, true):
        """Waits until a function returns a true value without an error. Returns this value."""
        end = time.monotonic() + WAIT
        while True:
            with contextlib.suppress(Exception):
                if value := true():
                    return value
            assert time.monotonic() < end, f"the page still says {self.status!r}"
            time.sleep(0.2)

    def find(self, path):
        (found,) = [each for each in self.driver.find_elements("xpath", path) if each.is_displayed()]
        return found

    def field(self, label):
        return self.find(f"//label[.//span[normalize-space()='{label}']]//*[self::input or self::textarea]")

    def fill(self, **values):
        for label, value in values.items():
            self.driver.execute_script("arguments[0].select()", self.field(label))
            self.field(label).send_keys(str(value))

    def press(self, name):
        self.find(f"//button[normalize-space()='{name}' and not(@role='tab' or @tabindex)]").click()

    def go_to(self, name):
        self.find(f"//button[normalize-space()='{name}' and @role='tab']").click()
        self.until(lambda: self.find(f"//button[normalize-space()='{name}' and not(@role='tab' or @tabindex)]"))

    @property
    def status(self):
        return self.driver.find_element("css selector", "#status [role=status]").text

    @property
    def history(self):
        return [each.text for each in self.driver.find_elements("css selector", "#history label")]

    def wait_for_sound(self, title):
        """Waits until the sound with this title is shown, drawn and ready to play. Returns its seconds."""
        self.until(lambda: self.find("//h2").text == title)
        self.until(lambda: self.driver.execute_script("return document.querySelector('.sound img').naturalWidth") > 0)
        return self.until(lambda: self.driver.execute_script("return document.querySelector('.sound audio').duration"))

    def download(self, kind):
        """The sound [time, channels] and the sample rate of the file at a link."""
        before = set(self.downloads.iterdir())
        self.find(f"//a[normalize-space()='Download {kind}']").click()
        self.until(lambda: [path for path in set(self.downloads.iterdir()) - before if path.suffix[1:] == kind.lower()])
        (path,) = set(self.downloads.iterdir()) - before
        return sf.read(path, dtype="float32", always_2d=True)


@pytest.fixture(scope="module")
def browser(address, tmp_path_factory):
    browser = Browser(address, tmp_path_factory.mktemp("downloads"))
    yield browser
    browser.driver.quit()


@pytest.fixture
def page(browser):
    browser.open()
    return browser


def same(downloaded, sounds):
    sound, rate = downloaded
    assert rate == sounds.sample_rate
    np.testing.assert_allclose(sound, np.clip(sounds.sounds[0], -1, 1), atol=BIT)


@pytest.mark.slow
@in_a_browser
def test_a_prompt_becomes_a_sound_to_hear_and_download_and_to_go_on_from(page, maker, models, tmp_path):
    page.fill(Prompt="a <drum>", Seed=7)
    page.field("bpm, 60 to 180").send_keys("90")
    page.press("Generate")
    assert page.wait_for_sound("a <drum>, seed 7") == pytest.approx(0.25)
    told = {"seed": 7, "conditions": {"bpm": 90}}
    sounds = maker.generate("a <drum>", **told)
    same(page.download("WAV"), sounds)
    same(page.download("FLAC"), sounds)
    first = tmp_path / "first.wav"
    files.write(first, sounds.sounds[0], RATE)
    page.go_to("Vary")
    page.press("Vary")
    page.wait_for_sound("a <drum>, vary of 1, seed 7")
    same(page.download("WAV"), maker.vary(first, 0.5, "a <drum>", **told))
    assert page.history == ["2: a <drum>, vary of 1, seed 7", "1: a <drum>, seed 7"]
    page.driver.find_elements("css selector", "#history input")[1].click()
    page.wait_for_sound("a <drum>, seed 7")
    page.go_to("Upsample")
    page.fill(**{"Steps of the upsampler": 2})
    page.press("Upsample")
    (name,) = models[1]
    page.wait_for_sound("upsampler, upsample of 1, seed 7")
    same(page.download("WAV"), models[1][name].upsample(first, seed=7, num_steps=2))
    # The page has loaded only its own files.
    loaded = page.driver.execute_script("return performance.getEntriesByType('resource').map(each => each.name)")
    assert len(loaded) > 10
    assert [name for name in loaded if not name.startswith((page.address, "data:", "blob:"))] == []


@pytest.mark.slow
@in_a_browser
def test_a_broken_upload_is_told_in_one_sentence_and_a_whole_one_is_varied(page, maker, clip, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF" + bytes(100))
    with pytest.raises(InputError) as error:
        files.verify(broken)
    upload = page.driver.find_element("css selector", "input[type=file]")
    upload.send_keys(str(broken))
    page.until(lambda: page.status == str(error.value).replace(str(broken), "broken.wav"))
    assert page.history == []
    upload.send_keys(str(clip))
    assert page.wait_for_sound("a clip.wav") == pytest.approx(0.375)
    page.fill(Seed=3)
    page.go_to("Go on")
    page.fill(**{"Seconds of new sound": -1})
    page.press("Go on")
    page.until(lambda: page.status == "seconds must be above 0 and at most 268435, not -1.")


@pytest.mark.slow
@in_a_browser
def test_two_tabs_at_once_have_sounds_of_their_own(page, maker):
    tabs = [page.driver.current_window_handle]
    page.driver.switch_to.new_window("tab")
    tabs.append(page.driver.current_window_handle)
    page.open()
    for seed, tab in enumerate(tabs):
        page.driver.switch_to.window(tab)
        page.fill(Prompt="a bell", Seed=seed)
        page.press("Generate")
    for seed, tab in enumerate(tabs):
        page.driver.switch_to.window(tab)
        page.wait_for_sound(f"a bell, seed {seed}")
        assert page.history == [f"1: a bell, seed {seed}"]
        same(page.download("WAV"), maker.generate("a bell", seed=seed))
    page.driver.close()
    page.driver.switch_to.window(tabs[0])


@pytest.mark.slow
@in_a_browser
def test_what_takes_long_is_stopped(page):
    page.fill(Prompt="a siren", Seed=1, Steps=1000, Seconds=2)
    page.press("Generate")
    page.until(lambda: "of 1000" in page.status)
    # Perhaps a click is lost while the page draws a step: the first one had no effect once, for an unknown reason.
    page.until(lambda: page.press("Stop") or page.status == "Stopped.")
    page.fill(Seed=2, Steps=3, Seconds=0.25)
    page.press("Generate")
    page.wait_for_sound("a siren, seed 2")
    assert page.history == ["1: a siren, seed 2"]


@pytest.mark.slow
@in_a_browser
def test_the_page_is_usable_by_keyboard_and_screen_reader_and_on_a_phone(page):
    from selenium.webdriver import ActionChains, Keys

    page.field("Prompt").send_keys("a bell", Keys.ENTER)
    page.until(lambda: page.find("//h2").text.startswith("a bell, seed "))
    page.driver.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    names = []
    page.find("//h1").click()  # Tab begins here
    for _ in range(40):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        names.append(page.driver.switch_to.active_element.accessible_name)
    wanted = ["Model", "Prompt", "Negative prompt", "bpm, 60 to 180", "key", "Steps", "Sampler", "Guidance"]
    wanted += ["Seed", "Generate", "Seconds", "Generate", "Stop", "Download WAV"]
    places = iter(names)
    assert all(name in places for name in wanted), names
    shown = page.driver.find_elements("css selector", "input, textarea, button, select, audio, img, progress")
    # Buttons with tabindex -1 are copies by which Gradio measures its tabs; screen readers do not see them.
    shown = [each for each in shown if each.is_displayed() and each.get_attribute("tabindex") != "-1"]
    assert [each.get_attribute("outerHTML") for each in shown if not each.accessible_name] == []
    metrics = {"width": 400, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.until(lambda: page.driver.execute_script("return document.documentElement.scrollWidth") <= 400)
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
