"""The pages in a real browser: Chromium, driven by Playwright."""

from __future__ import annotations

import csv
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import uvicorn
from PIL import Image

from hemascope import audit
from hemascope.audit import read_decisions
from hemascope.data import Images
from hemascope.runtime import Answers, load_model
from hemascope.serve.api import make_app
from hemascope.serve.desk import Desk, SpotDesk, items_of, rows_to_check
from hemascope.serve.limits import Limits
from hemascope.serve.review import make_review
from hemascope.serve.running import address_of, listening
from hemascope.synthetic import draw_cells

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The address at which an application answers, in a thread."""
    listener: socket.socket = listening("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield address_of(listener)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty drawn cells, noise that nobody should trust, and a file that is no picture."""
    out = tmp_path_factory.mktemp("pictures")
    for row, pixels in enumerate(np.asarray(draw_cells(20, seed=3).images)):
        Image.fromarray(pixels).save(out / f"cell {row:02}.png")
    noise = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    Image.fromarray(noise).save(out / "=noise.png")
    (out / "broken.png").write_bytes(b"no picture")
    return out


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    model = load_model("small")
    inner = model.answers

    def explained(images: Images, heatmap: bool = False) -> Answers:
        found = inner(images)
        # What is noise has a flat mean, and must be doubted whatever the model thinks.
        noise = images.std(axis=(1, 2, 3)) > 70
        probabilities = found.probabilities.copy()
        probabilities[noise] = 1 / probabilities.shape[1]
        maps = np.ones((len(images), 6, 6), np.float32) if heatmap else None
        return found._replace(probabilities=probabilities, heatmap=maps)

    model.answers = explained  # type: ignore[method-assign]
    model.explains = True
    with served(make_app(model, name="small", limits=Limits(files=8, queue=8))) as address:
        yield address


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 375, "height": 800}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(20_000)
    wrong: list[str] = []
    outside: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
    page.on("request", lambda asked: outside.append(asked.url) if "127.0.0.1" not in asked.url else None)
    yield page
    assert wrong == []
    assert [url for url in outside if not url.startswith(("blob:", "data:"))] == []
    context.close()


def drop(page: Page, folder: Path) -> None:
    """Drop the files of a folder on the page, as a person would."""
    import base64

    files = [(path.name, base64.b64encode(path.read_bytes()).decode()) for path in sorted(folder.iterdir())]
    page.evaluate(
        """files => {
            const transfer = new DataTransfer();
            for (const [name, content] of files) {
                const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
                transfer.items.add(new File([bytes], name, {type: name.endsWith(".png") ? "image/png" : "text/plain"}));
            }
            document.getElementById("drop").dispatchEvent(
                new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
        }""",
        files,
    )


def answered(page: Page, count: int) -> None:
    page.locator("#progress-words", has_text=f"{count} of {count} answered").wait_for()


def test_dropped_pictures_are_answered_doubted_sorted_and_taken_away(page: Page, address: str, folder: Path) -> None:
    page.goto(address)
    page.get_by_text("tells 8 cells apart").wait_for()
    assert page.get_by_text("Research only, not a medical device", exact=True).is_visible()
    # A queue of eight and chunks of eight, two at a time: some are refused and sent again.
    drop(page, folder)
    answered(page, 22)
    cards = page.locator("#cards > li")
    assert cards.count() == 22
    noise, broken = cards.filter(has_text="=noise.png"), cards.filter(has_text="broken.png")
    assert "Do not trust this answer" in noise.inner_text()
    assert "Unlike the training pictures" in noise.inner_text()
    assert "not a picture of a known format" in broken.inner_text()
    assert cards.filter(has_text="cell 07.png").locator(".bars dt").count() == 8
    assert page.evaluate("document.documentElement.scrollWidth") <= 375  # fits a phone

    page.get_by_label("Show").select_option("doubted")
    assert cards.filter(has_text="=noise.png").count() == 1
    assert cards.filter(has_text="broken.png").count() == 0
    page.get_by_label("Show").select_option("all")
    page.get_by_label("Sort by").select_option("confidence")
    assert "=noise.png" in cards.first.inner_text()
    page.get_by_label("Name holds").fill("cell 1")
    assert cards.count() == 10
    page.get_by_label("Name holds").fill("")

    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download CSV").click()
    rows = table_of(Path(waiting.value.path()))
    assert len(rows) == 22
    by_name = {row["id"]: row for row in rows}
    assert by_name["'=noise.png"]["trust"] == "false"  # no spreadsheet takes it for a formula
    assert by_name["broken.png"]["error"]
    shares = [float(by_name["cell 03.png"][name]) for name in load_model("small").class_names]
    assert sum(shares) == pytest.approx(1, abs=1e-4)

    page.get_by_role("button", name="Clear").click()
    assert not page.locator("#results").is_visible()


def test_the_switch_brings_heat_maps_and_hides_them(page: Page, address: str, folder: Path) -> None:
    page.goto(address)
    page.get_by_text("tells 8 cells apart").wait_for()
    page.locator("#files").set_input_files([folder / f"cell {row:02}.png" for row in range(3)])
    answered(page, 3)
    assert page.locator(".heat").count() == 0
    page.get_by_role("switch", name="Heat map").check()
    page.locator(".heat").nth(2).wait_for()
    assert page.locator(".heat").first.is_visible()
    page.get_by_role("switch", name="Heat map").uncheck()
    assert not page.locator(".heat").first.is_visible()


def test_the_page_is_used_by_keyboard(page: Page, address: str, folder: Path) -> None:
    page.goto(address)
    page.get_by_text("tells 8 cells apart").wait_for()
    names = []
    for _ in range(4):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.innerText || document.activeElement.ariaLabel"))
    assert [name.strip() for name in names] == [
        "Skip to the content", "hemascope", "Choose pictures", "Choose a folder"
    ]  # fmt: skip
    page.locator("#files").set_input_files([folder / f"cell {row:02}.png" for row in range(6)])
    answered(page, 6)
    first = page.locator("#summary button").filter(has_not_text="0").first
    first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#summary button[aria-pressed=true]").count() == 1
    assert page.evaluate("document.activeElement.ariaPressed") == "true"  # the focus stays where it was
    for element in page.locator("button, input:not([hidden]), select").all():
        assert element.evaluate("e => (e.labels?.[0]?.textContent || e.ariaLabel || e.textContent).trim()")


def test_hundreds_of_pictures_do_not_freeze_the_page(page: Page, address: str, folder: Path) -> None:
    page.goto(address)
    page.get_by_text("tells 8 cells apart").wait_for()
    page.evaluate(
        """() => {
            window.longest = 0;
            let last = performance.now();
            const tick = now => { window.longest = Math.max(window.longest, now - last); last = now;
                requestAnimationFrame(tick); };
            requestAnimationFrame(tick);
        }"""
    )
    page.locator("#files").set_input_files([folder / f"cell {row % 20:02}.png" for row in range(200)])
    answered(page, 200)
    assert page.locator("#cards > li").count() == 200
    assert page.evaluate("window.longest") < 2000


def test_a_token_is_asked_for(page: Page, folder: Path) -> None:
    with served(make_app(load_model("small"), token="secret")) as address:
        page.goto(address)
        page.get_by_label("This service asks for a token.").fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_label("This service asks for a token.").fill("secret")
        page.keyboard.press("Enter")
        page.get_by_text("tells 8 cells apart").wait_for()
        page.locator("#files").set_input_files([folder / "cell 00.png"])
        answered(page, 1)


def test_findings_and_a_spot_check_are_decided_by_keys(page: Page, tmp_path: Path) -> None:
    cells = draw_cells(160, seed=6, size=32, dirty=True)
    items = items_of(cells, audit(cells).findings)
    rows = rows_to_check(cells, 5, seed=0)
    labels = [cells.class_names[label] for label in cells.labels[rows]]
    desk = Desk(tmp_path / "decisions.csv", cells.class_names)
    spot = SpotDesk(tmp_path / "spot.csv", cells, rows, labels)
    with served(make_review(cells, items, desk, spot)) as address:
        page.goto(address)
        page.locator("#place", has_text="0 of").wait_for()
        assert page.evaluate("document.querySelector('#sides img').decode().then(() => true)")
        keys = [item.pictures[0].key for item in items]
        page.keyboard.press("d")
        page.locator("#place", has_text="2 of").wait_for()
        page.keyboard.press("6")
        wait_until(lambda: len(desk.decided) == 2)
        table = read_decisions(desk.path)
        assert table["decision"].tolist() == ["drop", "relabel"]
        assert table["pixel_hash"].astype(str).tolist() == keys[:2]
        assert table["label"].tolist() == ["", cells.class_names[5]]
        page.keyboard.press("u")
        wait_until(lambda: len(read_decisions(desk.path)) == 1)
        assert page.locator(".side[aria-current=true]").count() == 1

        page.get_by_role("tab", name="Spot check").click()
        for label in labels[:4]:
            page.keyboard.press(str(cells.class_names.index(label) + 1))
        page.keyboard.press(str(1 + (cells.class_names.index(labels[4]) + 1) % 8))
        page.get_by_text("4 of 5 (95% interval 28.4% to 99.5%, exact)").wait_for()
        page.get_by_text("Where you disagree").wait_for()
        assert len(table_of(spot.path)) == 5
        assert page.evaluate("document.documentElement.scrollWidth") <= 375


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def wait_until(true: Any, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)
