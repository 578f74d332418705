"""The live explorer: what it answers is what the library computes, and nothing that is sent to it ends it."""

from __future__ import annotations

import base64
import io
import re
import socket
import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.unit.turnover.auditing.conftest import Audited
from tests.unit.turnover.auditing.examples import CLASSES, drawing
from tests.unit.turnover.serving.running import Server, running
from turnover import influence, read
from turnover.auditing.networks import load_network
from turnover.serving.answers import TOP
from turnover.serving.server import LARGEST, is_loopback


def png(pixels: np.ndarray) -> bytes:
    kept = io.BytesIO()
    Image.fromarray(pixels).save(kept, "PNG")
    return kept.getvalue()


NEW = drawing("box", np.random.default_rng(77))


def training(audited: Audited) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Images, labels and names as they lie on the disk, without the audit's own readers."""
    names = sorted(path.relative_to(audited.root).as_posix() for path in audited.root.rglob("*.png"))
    images = np.stack([np.asarray(Image.open(audited.root / name)) for name in names])[:, None]
    labels = [CLASSES.index(name.split("/")[0]) for name in names]
    return torch.from_numpy(images), torch.tensor(labels), names


@pytest.mark.parametrize("label", [None, 0])
def test_a_new_image_s_neighbours_are_those_of_the_library(audited: Audited, server: Server, label: int | None) -> None:
    status, found = server.ask(png(NEW), "" if label is None else f"?label={label}")
    assert status == 200
    network, _ = load_network(audited.folder)
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as the server has
    try:
        x, y, names = training(audited)
        new = torch.from_numpy(NEW)[None, None]
        with torch.no_grad():
            likely = network(new).softmax(1)[0]
        of = int(likely.argmax()) if label is None else label
        scores = influence(network, read(network, x, y, torch.arange(len(y))), new, torch.tensor([of]))[:, 0]
    finally:
        torch.set_num_threads(before)
    assert (found["predicted"], found["label"]) == (int(likely.argmax()), of)
    assert found["probabilities"] == pytest.approx(likely.tolist(), abs=1e-6)
    for kind, sign in (("helpful", 1), ("harmful", -1)):
        order = (sign * scores).argsort(descending=True)[:TOP].tolist()
        expected = [(str(place), names[place], scores[place].item()) for place in order if sign * scores[place] > 0]
        assert [(row["id"], row["name"], row["influence"]) for row in found[kind]] == expected, "the very bits"
    picture = Image.open(io.BytesIO(base64.b64decode(found["picture"].partition(",")[2])))
    np.testing.assert_array_equal(np.asarray(picture), NEW)


def test_images_of_other_kinds_are_brought_to_the_networks_own(server: Server) -> None:
    large = Image.fromarray(NEW).resize((64, 48)).convert("RGBA")
    for kind in ("PNG", "TIFF", "WEBP"):
        kept = io.BytesIO()
        large.save(kept, kind)
        status, found = server.ask(kept.getvalue())
        assert status == 200
        assert found["done"] == ["it was brought from 64 x 48 to 16 x 16 pixels", "its colours became grey"]
    kept = io.BytesIO()
    Image.fromarray(NEW).save(kept, "GIF", save_all=True, append_images=[Image.fromarray(NEW[::-1])])
    assert server.ask(kept.getvalue())[1]["done"][0] == "the first of its frames was taken"


def bomb(width: int, height: int) -> bytes:
    """A png of few bytes that says it has so many pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def bad_uploads() -> Iterator[bytes]:
    """What is no image, or one that is damaged or far too large: 100 of them."""
    rng = np.random.default_rng(0)
    good = {}
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        kept = io.BytesIO()
        Image.fromarray(NEW).save(kept, kind)
        good[kind] = kept.getvalue()
    yield b""
    yield b"\0" * 10_000
    yield b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    yield b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(ls) run\n"
    yield b"%PDF-1.7\n"
    yield b"PK\x03\x04" + bytes(100)
    yield b"<html></html>"
    yield Path(__file__).read_bytes()
    yield bomb(100_000, 100_000)
    yield bomb(2**31 - 1, 1)
    yield bomb(0, 0)
    yield bomb(8000, 8000)
    for kind in good:
        for share in (0.1, 0.3, 0.5):
            yield good[kind][: int(share * len(good[kind]))]
    for _ in range(30):
        yield rng.bytes(int(rng.integers(1, 3000)))
    while True:  # a header, and then anything
        of = good[list(good)[int(rng.integers(len(good)))]]
        yield of[: int(rng.integers(4, 30))] + rng.bytes(int(rng.integers(0, 500)))


def test_a_hundred_bad_uploads_are_refused_and_end_nothing(server: Server) -> None:
    before = server.ask(png(NEW))
    for number, content in enumerate(islice(bad_uploads(), 100)):
        status, found = server.ask(content)
        if status == 200:  # what Pillow can still read, such as a gif with another picture in it
            continue
        assert status == 400, f"{number}: {found}"
        assert re.fullmatch(r"this (is no image|image) [^\n]{5,}", found["error"]), number
        assert "/tmp" not in found["error"] and "Traceback" not in found["error"]
    assert server.process.poll() is None
    assert server.ask(png(NEW)) == before


def test_sizes_types_and_labels_are_checked(server: Server) -> None:
    status, found = server.ask(bytes(LARGEST + 1))
    assert (status, found) == (413, {"error": "this file is larger than 20 MB"})
    status, body, _ = server.request("POST", "/ask", png(NEW), {"Content-Type": "image/png"})
    assert status == 415 and b"application/octet-stream" in body
    for label in ("3", "-1", "box", "1e1", "99999999999", "%00", "\u0663".encode().hex()):
        status, found = server.ask(png(NEW), f"?label={label}")
        assert status == 400 and "class" in found["error"], label
    for path in ("/ask", "/audit.json", "/model.safetensors", "/..%2faudit.json", "/%2e%2e/x", "//etc/passwd", "/docs"):
        assert server.request("GET", path)[0] == 404, path


def test_broken_requests_end_nothing(server: Server) -> None:
    start = b"POST /ask HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
    for sent in (
        start + b"Content-Length: 100\r\n\r\nshort",
        start + b"Content-Length: -5\r\n\r\n",
        start + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01" + bytes(50),
        b"GET / HTTP/9.9\r\n\r\n",
        b"",
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as line:
            line.sendall(sent)
    assert server.ask(png(NEW))[0] == 200


def test_the_page_is_the_explorer_s_and_may_ask_its_own_server_alone(audited: Audited, server: Server) -> None:
    status, body, headers = server.request("GET", "/")
    text = body.decode()
    assert status == 200 and headers["x-content-type-options"] == "nosniff"
    written = (audited.folder / "explorer.html").read_text(encoding="utf-8")
    data = '<script type="application/json" id="data">'
    assert text.partition(data)[2].partition("</script>")[0] == written.partition(data)[2].partition("</script>")[0]
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy and policy[1].startswith("default-src 'none'") and policy[1].endswith("; connect-src 'self'")
    assert server.request("GET", "/report.html")[1] == (audited.folder / "report.html").read_bytes()


def test_another_name_for_this_machine_is_refused(server: Server) -> None:
    for name, status in (("localhost", 200), ("127.0.0.1", 200), ("somewhere.example", 400)):
        assert server.request("GET", "/", headers={"Host": name})[0] == status, name
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "192.168.0.4", "::", "example.org")))


def test_it_listens_where_it_is_told_and_says_who_can_reach_it(audited: Audited, tmp_path: Path) -> None:
    with running(audited.folder, "--host=0.0.0.0", f"--data={audited.root}") as found:
        assert found.request("GET", "/", headers={"Host": "somewhere.example"})[0] == 200


def test_the_strongest_have_both_signs() -> None:
    from turnover.serving.answers import strongest

    assert strongest(torch.tensor([0.5, -1.0, 0.0, 2.0, -3.0]), 2) == ([3, 0], [4, 1])
    assert strongest(torch.tensor([-0.5, -1.0]), 5) == ([], [1, 0])


def test_several_networks_say_how_sure_they_are() -> None:
    from turnover.serving.answers import answer
    from turnover.serving.trained import Trained

    class Constant(torch.nn.Module):
        def __init__(self, logits: list[float]) -> None:
            super().__init__()
            self.logits = torch.nn.Parameter(torch.tensor([logits]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.logits.expand(len(x), -1)

    networks = [Constant([0.0, 1.0]), Constant([0.0, 3.0])]
    scores = torch.tensor([[1.0, -2.0, 0.5], [3.0, 1.0, 0.5]])
    table = pd.DataFrame({"id": [4, 5, 6], "given": [0, 1, 1], "original": [0, 0, -1]})
    images = np.zeros((3, 1, 4, 4), np.uint8)
    found = answer(Trained(networks, ["a", "b"], table, images, lambda x, y: scores[:, :, None]), images[0])
    assert found["predicted"] == found["label"] == 1
    likely = torch.stack([network.logits[0].softmax(0) for network in networks]).mean(0)
    assert found["probabilities"] == pytest.approx(likely.tolist(), abs=1e-6)
    helpful = [(row["id"], row["influence"], row["influence_se"], row["agree"]) for row in found["helpful"]]
    assert helpful == [("4", 2.0, pytest.approx(1.0), 2), ("6", 0.5, 0.0, 2)]
    assert [(row["id"], row["influence"], row["influence_se"], row["agree"]) for row in found["harmful"]] == [
        ("5", -0.5, pytest.approx(1.5), 1)
    ]
