"""README, site and notebook: their statements are true, and their code runs."""

import json
import re
import shlex

import pytest
from fences import (
    LANGUAGES,
    NEEDS,
    PAGES,
    ROOT,
    check,
    commands,
    fences,
    known_options,
    named_options,
    program,
    run_python,
    write_files,
)

from archijax import InputError

DOCS = ROOT / "docs"
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_fence_is_known(page):
    for fence in fences(page):
        assert fence.language in LANGUAGES, f"{page}: no test knows the language {fence.language!r}"
        assert fence.needs <= NEEDS, f"{page}: {fence.needs}"
    # The functions find every fence and every mark.
    text = page.read_text()
    assert len(re.findall(r"^```", text, re.MULTILINE)) == 2 * len(fences(page))
    assert text.count("<!--") == sum(bool(fence.needs or fence.file) for fence in fences(page))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_exists_with_its_options(page, tmp_path):
    write_files(page, tmp_path)
    for fence in fences(page):
        if fence.language == "sh":
            for words in commands(fence):
                try:
                    check(words, tmp_path)
                except Exception as error:
                    raise AssertionError(f"{page}: {shlex.join(words)}: {error}") from error


def test_every_option_that_a_page_names_exists():
    known = known_options()
    # These pages name options of other programs.
    pages = [page for page in PAGES if page.name not in ("pytorch.md", "web.md")]
    unknown = {(page.name, option) for page in pages for option in named_options(page) - known}
    assert not unknown


@pytest.mark.parametrize(
    "words",
    [
        ["python", "-m", "train", "configs/quickstart.py", "--data", "a", "--out", "b", "--stepz", "3"],
        ["python", "-m", "sample", "generate", "--model", "a", "--out", "b", "--sampler", "none"],
        ["python", "-m", "benchmarks.notes", "notes", "--no-such-option"],
        ["make", "nothing"],
        ["pip", "install", ".[nothing]"],
    ],
)
def test_a_wrong_command_is_noticed(words, tmp_path):
    with pytest.raises((InputError, AssertionError)):
        check(words, tmp_path)


def test_the_readme_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    links = re.findall(r"\]\(([^)#]+)", text)
    assert links
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing


def test_what_the_site_embeds_is_there_and_small():
    for page in PAGES:
        for name in re.findall(r'--8<-- "(.+)"', page.read_text()):
            for source in re.findall(r'src="(.+?)"', (DOCS / name).read_text()):
                assert (DOCS / source).is_file(), source
    media = [path for folder in ("media", "pictures") for path in (DOCS / folder).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in media) < 2.2e6


@pytest.mark.slow
def test_the_python_of_every_page_runs(tmp_path):
    """Each page is a program with variables of its own. All of them run in one process."""
    programs = {str(page.relative_to(ROOT)): code for page in PAGES if (code := program(page))}
    programs = {name: code.replace("num_steps=10", "num_steps=2") for name, code in programs.items()}
    assert len(programs) > 5
    code = [f"exec(compile({code!r}, {name!r}, 'exec'), {{'__name__': '__main__'}})" for name, code in programs.items()]
    run_python("\n".join(code), tmp_path)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    cells = json.loads((DOCS / "notebook.ipynb").read_text())["cells"]
    assert all(not cell.get("outputs") for cell in cells)
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    # Fewer steps are enough.
    fewer = {"range(300)": "range(100)", "num_steps=10,": "num_steps=2,", "num_steps=20,": "num_steps=2,"}
    for long, short in fewer.items():
        assert code.count(long) == 1
        code = code.replace(long, short)
    said = run_python("import matplotlib\nmatplotlib.use('agg')\n" + code, tmp_path)
    first, last = map(float, re.search(r"loss (\S+) -> (\S+)", said).groups())
    assert last < 0.8 * first
