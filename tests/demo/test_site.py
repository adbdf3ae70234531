"""The page's site over HTTP: what it answers, and what it refuses."""

import io
import re
import socket
import threading
from importlib import resources

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="needs starlette: pip install 'vit_jax[demo]'")
pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'vit_jax[demo]'")

from tests.data import pictures
from tests.demo.models import opened
from tests.demo.serving import served
from vit_jax.demo import site as module
from vit_jax.demo.site import make_site
from vit_jax.demo.viewing import Viewer, overlay

ONE, OTHER = (pictures.noise(40, 50, seed) for seed in (1, 2))


@pytest.fixture(scope="module")
def viewer():
    return Viewer(opened(), "weights.npz")


@pytest.fixture(scope="module")
def site(viewer):
    with served(make_site(viewer)) as found:
        yield found


def picture(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


def test_the_page_and_all_it_asks_for_come_from_here():
    """No font, script or picture of another address: none is named."""
    for path in ("page.html", "page.css", "page.js"):
        text = resources.files("vit_jax.demo").joinpath(path).read_text("utf-8")
        assert set(re.findall(r"https?://[\w./-]+|url\(|@import", text)) <= {
            "http://www.w3.org/2000/svg"
        }
        assert "innerHTML" not in text
        assert len(text.splitlines()) <= 300


@pytest.mark.parametrize("path", ["/", "/page.css", "/page.js", "/facts", "/overlay", "/missing"])
def test_every_answer_forbids_the_browser_to_ask_anybody_else(path, site):
    headers = {name.lower(): text for name, text in site.ask(path).headers.items()}
    rules = headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in rules
    assert {word for rule in rules for word in rule.split()[1:]} == {
        *("'none'", "'self'", "data:", "blob:"),
    }
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers


def test_facts_are_the_models(site, viewer):
    facts = site.ask("/facts").said
    assert facts["heads"] == [2, 2]
    assert facts["name"] == viewer.facts.name
    assert facts["most_bytes"] == 2**26


def test_an_image_gets_its_classes_and_any_overlay(site, viewer):
    view = viewer.view("it.png", ONE)
    answer = site.send("it.png", pictures.encoded(ONE))
    assert answer.status == 200
    assert [tuple(one) for one in answer.said["classes"]] == list(view.classes)
    assert answer.said["image"].startswith("data:image/png;base64,")
    for layer, head in ((None, None), (1, None), (2, 1)):
        asked = f"layer={layer or ''}&head={head or ''}"
        drawn = site.ask(f"/overlay?visit={answer.said['visit']}&{asked}")
        assert drawn.headers["content-type"] == "image/png"
        assert (picture(drawn.content) == overlay(view, layer, head)).all()


def test_two_visitors_see_each_their_own(site, viewer):
    visits = [site.send("it.png", pictures.encoded(one)).said["visit"] for one in (ONE, OTHER)]
    for visit, one in zip(visits, (ONE, OTHER), strict=True):
        drawn = picture(site.ask(f"/overlay?visit={visit}&layer=1").content)
        assert (drawn == overlay(viewer.view("it.png", one), 1)).all()


def test_the_next_image_of_a_visitor_replaces_the_last(site):
    first = site.send("it.png", pictures.encoded(ONE)).said["visit"]
    second = site.send("it.png", pictures.encoded(OTHER), x_visit=first).said["visit"]
    assert site.ask(f"/overlay?visit={second}").status == 200
    gone = site.ask(f"/overlay?visit={first}")
    assert (gone.status, "choose it again" in gone.said["error"]) == (422, True)


def test_another_layer_does_not_run_the_model(site, viewer, monkeypatch):
    visit = site.send("it.png", pictures.encoded(ONE)).said["visit"]

    def run(*_):
        raise AssertionError("the model ran")

    monkeypatch.setattr(viewer, "_answer", run)
    monkeypatch.setattr(viewer, "_look", run)
    shown = {site.ask(f"/overlay?visit={visit}&layer={i}&head=1").content for i in (1, 2)}
    assert len(shown) == 2


def test_visitors_at_once_do_not_mix(site, viewer):
    images = [pictures.noise(30, 30, seed) for seed in range(8)]
    found = {}

    def visit(number):
        said = site.send(f"{number}.png", pictures.encoded(images[number])).said
        found[number] = said["classes"], site.ask(f"/overlay?visit={said['visit']}").content

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, (classes, drawn) in found.items():
        view = viewer.view("it.png", images[number])
        assert [tuple(one) for one in classes] == list(view.classes)
        assert (picture(drawn) == overlay(view)).all()
    assert len(found) == 8


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("notes.txt", b"just a text", "notes.txt: not an image of a known format"),
        ("ďábel.png", b"\x89PNG", "ďábel.png: not an image of a known format"),
        ("../../etc/x\n.png", b"text", "x.png: not an image of a known format"),
        ("", b"text", "the image: not an image of a known format"),
        ("cut.png", pictures.encoded(ONE)[:500], "cut.png: not a readable image"),
    ],
)
def test_what_is_no_image_is_told_in_one_sentence(name, content, says, site):
    answer = site.send(name, content)
    assert answer.status == 422
    assert answer.said["error"].startswith(says)
    assert "\n" not in answer.said["error"]


def test_too_many_bytes_are_refused_whether_announced_or_not(site, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 2**20)
    content = bytes(2**20 + 1)
    for sent in (content, iter([content[: 2**19], content[2**19 :]])):
        answer = site.send("large.png", sent)
        assert answer.said["error"] == "This file is larger than 1 MB: make it smaller"
    assert site.send("it.png", pictures.encoded(ONE)).status == 200


def test_a_page_that_is_closed_during_its_upload_is_nothing_to_speak_of(site, caplog):
    with socket.create_connection(("127.0.0.1", site.port)) as connection:
        head = "POST /image HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
        head += "Content-Type: application/octet-stream\r\n\r\n"
        connection.sendall(head.encode() + b"half of it")
    assert site.send("it.png", pictures.encoded(ONE)).status == 200
    assert caplog.text == ""


def test_other_sites_in_the_browser_can_neither_send_nor_pretend(site):
    form = site.send("it.png", pictures.encoded(ONE), content_type="text/plain")
    assert form.status == 422  # what a page of another site may send without being asked
    preflight = site.send("it.png", b"", origin="http://elsewhere.example")
    assert "Access-Control-Allow-Origin" not in preflight.headers
    for host in ("elsewhere.example", "127.0.0.1.elsewhere.example", "localhost.example"):
        assert site.ask("/facts", host=host).status == 400
    for host in ("localhost", f"localhost:{site.port}", f"127.0.0.1:{site.port}"):
        assert site.ask("/facts", host=host).status == 200


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("layer=9", "layer=9: the model has layers 1 to 2"),
        ("layer=x", "layer='x': must be a number"),
        ("layer=-1", "layer='-1': must be a number"),
        ("layer=1&head=" + "9" * 5000, "head='99999999999999999999': must be a number"),
        ("head=1", "name a layer"),
    ],
)
def test_layers_that_are_none_are_refused(query, says, site):
    visit = site.send("it.png", pictures.encoded(ONE)).said["visit"]
    answer = site.ask(f"/overlay?visit={visit}&{query}")
    assert (answer.status, says in answer.said["error"]) == (422, True), answer.content


def test_nothing_else_is_there(site):
    for path in ("/../pyproject.toml", "/site.py", "/page.js/../site.py", "/docs"):
        assert site.ask(path).status == 404
    assert site.ask("/image").status == 405
