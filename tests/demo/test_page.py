"""The page in headless Chromium: a photograph is uploaded, and looked at from all sides."""

import contextlib
import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

pytest.importorskip("starlette", reason="needs starlette: pip install 'vit_jax[demo]'")
pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'vit_jax[demo]'")

from tests.data import pictures
from tests.demo.models import opened
from tests.demo.serving import served
from tests.golden import shared
from vit_jax.demo import site as module
from vit_jax.demo.site import make_site
from vit_jax.demo.viewing import Viewer
from vit_jax.main import main
from vit_jax.predict import open_classifier

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 60_000  # milliseconds, on a machine that does other things too

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None, reason="needs pip install playwright"
    ),
]

# What a person drags or copies, and the event that brings it to the page.
CARRIED = """([name, bytes]) => {
  const carried = new DataTransfer();
  carried.items.add(new File([Uint8Array.from(bytes)], name, { type: "image/png" }));
  return carried;
}"""
HAPPENS = """([event, place, carried]) => {
  const kinds = { drop: [DragEvent, "dataTransfer"], paste: [ClipboardEvent, "clipboardData"] };
  const [Kind, field] = kinds[event];
  const options = { bubbles: true, cancelable: true, [field]: carried };
  document.querySelector(place).dispatchEvent(new Kind(event, options));
}"""


class Opened(NamedTuple):
    """A page, what it has asked for, and what was wrong in its console."""

    page: Any
    asked: list[str]
    wrong: list[str]

    def upload(self, file: Any) -> None:
        """Chooses a file, and waits for what comes of it."""
        self.page.set_input_files("#file", file)
        name = file["name"] if isinstance(file, dict) else file.name
        self.page.get_by_role("status").filter(has_text=name).wait_for(state="attached")
        self.page.locator("#status:text-is('" + name + "')").wait_for()

    def refused(self, name: str, content: bytes) -> str:
        """Chooses a file that is refused; returns how."""
        file = {"name": name, "mimeType": "image/png", "buffer": content}
        self.page.set_input_files("#file", file)
        self.page.get_by_role("alert").wait_for()
        return self.page.get_by_role("alert").inner_text()

    def choose(self, label: str, number: str, caption: str) -> bytes:
        """Chooses a layer or a head; returns the picture that this leads to."""
        self.page.get_by_label(label).select_option(number)
        return self.overlay(caption)

    def overlay(self, caption: str) -> bytes:
        """Waits for the overlay of this caption, and returns what is seen of it."""
        self.page.get_by_text(f"Where it looks: {caption}", exact=True).wait_for()
        drawn = self.page.locator("#overlay")
        drawn.evaluate("image => image.decode()")
        return drawn.screenshot()

    @property
    def classes(self) -> list[list[str]]:
        """Names and shares, as they are shown."""
        return [line.inner_text().split("\n") for line in self.page.locator("#classes li").all()]


@pytest.fixture(scope="module")
def browser():
    playwright = importlib.import_module("playwright.sync_api")
    with playwright.sync_playwright() as running:
        # No name is found and nothing leads out; root, as in a container, has no sandbox.
        flags = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--no-sandbox"]
        found = running.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield found
        found.close()


@pytest.fixture
def visit(browser) -> Iterator[Callable[..., Opened]]:
    """Opens pages, and looks after them that none asked anybody but its own site."""
    with contextlib.ExitStack() as stack:
        sites: list[str] = []
        pages: list[Opened] = []

        def one(viewer: Viewer, url: str | None = None, **how: Any) -> Opened:
            url = url or stack.enter_context(served(make_site(viewer))).url
            context = browser.new_context(**how)
            stack.callback(context.close)
            page, asked, wrong = context.new_page(), [], []
            page.set_default_timeout(PATIENCE)
            page.on("request", lambda request: asked.append(request.url))
            page.on("console", lambda said: said.type == "error" and wrong.append(said.text))
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.goto(url)
            page.get_by_text("From weights", exact=False).wait_for()
            sites.append(url)
            pages.append(Opened(page, asked, wrong))
            return pages[-1]

        yield one
        for url, opened_page in zip(sites, pages, strict=True):
            assert opened_page.asked
            for asked in opened_page.asked:
                assert asked.startswith((url + "/", f"blob:{url}/", "data:")), asked


@pytest.fixture(scope="module")
def viewer():
    return Viewer(opened(), "weights.npz")


def test_a_photograph_shows_what_predict_says_and_any_head_without_the_model(
    visit, capsys, monkeypatch
):
    weights = shared("pretrained", "deit_tiny")
    photo = sorted(shared("data", "cats_dogs", "test", "cats").glob("*.jpg"))[0]
    viewer, calls = Viewer(open_classifier(weights), "weights.npz"), []
    answer, look = viewer._answer, viewer._look
    monkeypatch.setattr(
        viewer, "_answer", lambda *given: (calls.append("answer"), answer(*given))[1]
    )
    monkeypatch.setattr(viewer, "_look", lambda *given: (calls.append("look"), look(*given))[1])
    one = visit(viewer)
    assert one.page.title() == "ViT-Ti_16 · vit_jax demo"
    assert one.page.get_by_role("heading", level=1).inner_text() == "ViT-Ti_16"
    one.upload(photo)
    assert main(["predict", f"--checkpoint={weights}", str(photo)]) == 0
    lines = [line.split("%") for line in capsys.readouterr().out.splitlines()[1:]]
    assert one.classes == [[name.strip(), f"{share.strip()} %"] for share, name in lines]
    assert len(one.classes) == 5
    seen = {
        one.overlay("rollout"),
        one.choose("Layer", "12", "layer 12, mean of the heads"),
        one.choose("Head", "2", "layer 12, head 2"),
        one.choose("Head", "3", "layer 12, head 3"),
        one.choose("Layer", "4", "layer 4, head 3"),
    }
    assert len(seen) == 5
    assert one.choose("Layer", "", "rollout") in seen
    assert one.page.get_by_label("Head").is_disabled()
    assert calls == ["answer", "look"]
    assert one.wrong == []


def test_what_cannot_be_taken_is_refused_in_words_and_the_last_one_stays(
    visit, viewer, monkeypatch
):
    monkeypatch.setattr(module, "MOST_BYTES", 2**20)
    one = visit(viewer)
    assert one.page.get_by_text("Up to 1 MB").is_visible()
    one.upload(_file("<b>odd.png", pictures.noise(30, 40)))
    before = one.classes
    large = one.refused("large.png", bytes(2**20 + 1))
    assert large == "This file is larger than 1 MB: make it smaller"
    assert not [asked for asked in one.asked[5:] if asked.endswith("/image")][1:]
    assert one.wrong == []
    one.upload(_file("next.png", pictures.noise(30, 40, seed=1)))
    assert not one.page.get_by_role("alert").is_visible()
    assert one.classes != before
    text = one.refused("notes.png", b"just a text")
    assert text.startswith("notes.png: not an image of a known format")
    assert one.page.get_by_role("status").inner_text() == "next.png"
    # What a browser notes of any answer that is not 200.
    assert [note for note in one.wrong if "422" not in note] == []


def test_two_pages_keep_each_its_own(visit, viewer):
    one = visit(viewer)
    other = visit(viewer, url=one.page.url.rstrip("/"))
    for page, seed in ((one, 1), (other, 2)):
        page.upload(_file(f"{seed}.png", pictures.noise(32, 32, seed)))
    seen = [page.choose("Layer", "1", "layer 1, mean of the heads") for page in (one, other)]
    assert seen[0] != seen[1]
    again = one.choose("Layer", "2", "layer 2, mean of the heads")
    assert one.choose("Layer", "1", "layer 1, mean of the heads") == seen[0] != again


def test_a_photograph_is_dropped_anywhere_or_pasted(visit, viewer):
    one = visit(viewer)
    for event, place in (("drop", "footer"), ("paste", "body")):
        content = list(pictures.encoded(pictures.noise(30, 40)))
        carried = one.page.evaluate_handle(CARRIED, [f"{event}.png", content])
        one.page.evaluate(HAPPENS, [event, place, carried])
        one.page.locator(f"#status:text-is('{event}.png')").wait_for()
        assert len(one.classes) == 5
    assert one.wrong == []


def test_the_keyboard_reaches_everything(visit, viewer):
    one = visit(viewer)
    one.upload(_file("it.png", pictures.noise(32, 32)))
    reached = []
    for _ in range(2):
        one.page.keyboard.press("Tab")
        reached.append(one.page.locator("*:focus").get_attribute("id"))
    assert reached == ["file", "layer"]
    one.page.keyboard.press("ArrowDown")
    one.overlay("layer 1, mean of the heads")
    one.page.keyboard.press("Tab")
    one.page.keyboard.press("ArrowDown")
    one.overlay("layer 1, head 1")
    assert one.page.get_by_label("Choose another photograph").count() == 1


@pytest.mark.parametrize("width", [320, 420, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_any_width_in_the_colours_of_the_system(width, scheme, visit, viewer):
    one = visit(viewer, viewport={"width": width, "height": 800}, color_scheme=scheme)
    one.upload(_file(f"{'long_' * 40}.png", pictures.noise(32, 32)))
    assert one.page.evaluate("document.documentElement.scrollWidth") <= width
    paper = one.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(json.loads(f"[{paper[4:-1]}]")) < 100) == (scheme == "dark")


def test_a_mixer_shows_classes_and_why_there_is_no_attention(visit):
    one = visit(Viewer(opened("Mixer-B_32"), "weights.npz"))
    one.upload(_file("it.png", pictures.noise(32, 32)))
    assert len(one.classes) == 5
    said = "No attention is drawn: a MlpMixer has no attention."
    assert one.page.get_by_text(said).is_visible()
    for hidden in ("#overlay", "#layer", "#head"):
        assert not one.page.locator(hidden).is_visible()
    assert one.wrong == []


def _file(name: str, pixels: Any) -> dict[str, Any]:
    return {"name": name, "mimeType": "image/png", "buffer": pictures.encoded(pixels)}
