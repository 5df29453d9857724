"""The report: what stands on the page, and how it works in a browser."""

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import Page, is_gray, make_cube, picture
from PIL import Image

from sunpy.map import Map

from esis_ndcube import Flight, fit_vignetting
from esis_ndcube.cli import main
from esis_ndcube.level3 import ESISLevel3Cube
from esis_ndcube.quality import correlation_table, summary
from esis_ndcube.report import _sections, write_report
from esis_ndcube.report._pictures import figure_picture, image_pictures
from esis_ndcube.report.page import _pair
from esis_ndcube.simulate import simulate_flight, true_cube
from esis_ndcube.utils.provenance import ProcessingStep
from esis_ndcube.visualization import plot_channels
from esis_ndcube.visualization.web import encode

SECOND = Path(__file__).parents[1] / "data" / "second_flight.toml"


def exposures(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


def medians(page):
    """The first table of medians, which is that of the correlations."""
    return next(rows[2:] for rows in page.tables if rows[0] == "Median over the exposures")


@pytest.fixture(scope="module")
def cube():
    return true_cube(simulate_flight(size=4, n_exposures=3, seed=1, other_lines=False))


@pytest.fixture(scope="module")
def reference(cube):
    return Map(cube.min_images().data[1].astype(float), cube[1, 0].wcs.to_header())


@pytest.fixture(scope="module")
def path(cube, reference, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        # Coarse figures are the same ones; the example of write_report draws those in dark colors.
        patch.setattr("esis_ndcube.report._pictures._DPI", 40)
        light, blank = _sections.figure_picture, (encode(np.zeros((1, 1)), "gray"), 1, 1)
        patch.setattr(_sections, "figure_picture", lambda draw, dark, **kw: blank if dark else light(draw, dark, **kw))
        return write_report(cube.normalize_intensities(), path, reference=reference, source="l3 <1>.fits")


@pytest.fixture
def sketches(monkeypatch):
    """Figures are made in light colors, but not drawn: ``path`` and tests/visualization draw them."""
    sketch_figures(monkeypatch)


def sketch_figures(monkeypatch):
    def sketch(draw, dark, *, lossless):
        assert dark or draw().get_figure().axes
        return encode(np.zeros((1, 1)), "gray"), 1, 1

    monkeypatch.setattr(_sections, "figure_picture", sketch)


@pytest.mark.slow
def test_masked_images_are_not_compared(cube):
    seen = np.ones(4, bool)
    assert (_pair(cube, seen), _pair(cube, cube.channel != 2)) == ((2, 3), (1, 3))
    assert _pair(cube, cube.channel == 2) is None


def weaken(cube, index):
    """Give an image an alignment that is weak."""
    alignment = cube.alignment[index]
    size = alignment.transform.coefficients.size
    known = {"covariance": np.eye(size) / 4, "reference_covariance": np.eye(size) / 4, "score": 0.3}
    cube.meta["alignment_final"][index] = replace(alignment, **known)


@pytest.mark.parametrize("spoil", ["missing", "weak"])
@pytest.mark.slow
@pytest.mark.usefixtures("sketches")
def test_the_exposure_to_show_is_complete(cube, reference, tmp_path, spoil):
    """The exposure in the middle, nearest to the reference, lacks a channel."""
    bad = np.zeros(cube.shape, bool)
    bad[1, 2] = spoil == "missing"
    odd = cube.mask_pixels(bad)
    if spoil == "weak":
        odd.meta["alignment_final"] = odd.meta["alignment_final"].copy()
        weaken(odd, (1, 2))
    found = {}
    for compared in (None, reference):
        path = write_report(odd, tmp_path / "odd.html", reference=compared, overwrite=True)
        page = Page(path.read_text(encoding="utf-8"))
        (slider,) = re.findall(r'<input type="range"[^>]*value="(\d)"', path.read_text(encoding="utf-8"))
        found[compared is None] = int(slider)
    assert found == {True: 2, False: 0}
    assert {row[0] for row in page.table("Offset from the reference, all values")} == {str(cube.frame_number[0])}
    shots = exposures(path.read_text(encoding="utf-8"))
    assert ("no data of channel 3" in shots[1]["note"]) == (spoil == "missing")
    empty = [[source == "" for source in shot["pictures"]] for shot in shots]
    # The last picture is the difference of channels 2 and 3.
    assert empty == [[False] * 5, [spoil == "missing" and place in (2, 4) for place in range(5)], [False] * 5]
    assert ("The figures leave out" in page.text) == (spoil == "weak")


@pytest.mark.slow
def test_page_needs_nothing_else(path):
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.links
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert "http" not in re.sub(r"base64,[\w+/=]+|http-equiv", "", text).lower()
    for image in page.images:
        assert image["alt"].strip()
        assert int(image["width"]) > 0
        assert picture(image["src"]).size
    assert "l3 <1>.fits" in page.text
    assert not [name for name in path.parent.iterdir() if name != path]


HOSTILE = [
    "<script>document.title = 'taken'</script>",
    "</script><script>document.title = 'taken'</script>",
    "</style><script>document.title = 'taken'</script>",
    """\"><img src=x onerror="document.title = 'taken'">""",
    "' onmouseover='document.title = 1' x='",
    "<a href=\"javascript:document.title = 'taken'\">javascript:document.title = 'taken'</a>",
    "{{ 7 * 7 }}{% raw %}",
    "<!--",
    "\u2028\u2029\x00&lt;script&gt;",
]


@pytest.fixture(scope="module")
def hostile(cube, tmp_path_factory):
    """The page of a cube whose every name is code, as headers and flight files of strangers may have it."""
    toml = cube.flight.toml
    for key in ("title", "instrument"):
        toml = re.sub(
            rf"^{key} = .*$", lambda _, key=key: f"{key} = {json.dumps(' '.join(HOSTILE[:8]))}", toml, flags=re.M
        )
    code = dict(zip(HOSTILE, HOSTILE, strict=True))
    meta = dict(cube.meta) | {"flight": Flight.from_toml(toml), "reference": " ".join(HOSTILE)}
    meta["history"] = (ProcessingStep(HOSTILE[0], code, HOSTILE[1]), ProcessingStep(HOSTILE[3], {"list": HOSTILE}))
    taken = ESISLevel3Cube(
        cube.data,
        wcs=cube.wcs,
        uncertainty=cube.uncertainty,
        mask=cube.mask,
        meta=meta,
        unit=cube.unit,
        flags=cube.flags,
    )
    folder = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        # A title of a figure is no code.
        sketch_figures(patch)
        patch.setattr("esis_ndcube.report.page._pictures", lambda *_: [])
        return write_report(taken, folder / "report.html", source=" ".join(HOSTILE))


class Code(Page):
    """The parts of a page that may run, and its policy."""

    def __init__(self, text):
        self.code, self.policy, self.attributes, self._runs = [], None, [], False
        super().__init__(text)

    def handle_starttag(self, tag, attrs):
        super().handle_starttag(tag, attrs)
        self.attributes += [name for name, _ in attrs]
        attrs = dict(attrs)
        self._runs = tag in ("script", "style") and attrs.get("type") != "application/json"
        if self._runs:
            self.code.append([f"{tag}-src", ""])
        if attrs.get("http-equiv") == "Content-Security-Policy":
            assert not self.code
            self.policy = dict(part.strip().split(" ", 1) for part in attrs["content"].split(";"))

    def handle_data(self, data):
        super().handle_data(data)
        if self._runs and self._open[-1] in ("script", "style"):
            self.code[-1][1] += data


@pytest.mark.slow
@pytest.mark.parametrize("name", ["path", "hostile"])
def test_only_the_code_of_the_page_may_run(name, request):
    page = Code(request.getfixturevalue(name).read_text(encoding="utf-8"))
    allowed = {key: page.policy.pop(key).split() for key in ("script-src", "style-src")}
    assert page.policy == {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'"}
    # The data of the slider stand between the two scripts, and do not run.
    found = {"script-src": [], "style-src": []}
    for kind, text in page.code:
        found[kind].append(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'")
    assert found == allowed
    assert len(page.code) == 3
    # Neither may hide in an attribute.
    assert not [attribute for attribute in page.attributes if attribute == "style" or attribute.startswith("on")]
    assert all(link.startswith(("data:image/", "data:,", "#")) for link in page.links)
    if name == "hostile":
        assert all(" ".join(text.split()) in page.text for text in HOSTILE[:8])


@pytest.mark.slow
def test_hostile_names_in_a_browser(browser, hostile):
    browser.get(hostile.as_uri())
    run = browser.execute_script
    browser.find_element("id", "next").click()
    browser.find_element("id", "theme").click()
    run("localStorage.clear()")
    assert "taken" not in browser.title.replace("document.title = 'taken'", "")
    assert run("return document.scripts.length") == 3
    assert run("return document.querySelectorAll('[onerror], [onmouseover], [href^=javascript]').length") == 0
    assert browser.get_log("browser") == []
    # The policy holds: what a page lets slip through does not run.
    run("const s = document.createElement('script'); s.textContent = 'document.title = 1'; document.body.append(s)")
    run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title = 1\">')")
    assert browser.title != "1"
    refused = [entry["message"] for entry in browser.get_log("browser")]
    assert any("script-src" in message for message in refused)
    assert any("img-src" in message for message in refused)


@pytest.mark.slow
def test_page_has_the_numbers(path, cube):
    page = Page(path.read_text(encoding="utf-8"))
    rows = correlation_table(cube)
    expected = []
    for first, second in [(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)]:
        here = rows[(rows["first"] == first) & (rows["second"] == second)]
        values = [f"{np.median(here[name]):.4f}" for name in ("full", "octagon", "clean", "clipped")]
        expected.append([str(first), str(second), *values])
    found = medians(page)
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    # From the normalized cube, whose correlations are the same except for rounding.
    np.testing.assert_allclose(np.array(found, float), np.array(expected, float), atol=2e-4)
    residual = f"{np.median(summary(cube)['residual']):.3f} pix"
    assert residual in page.text
    assert "12 of 12" in page.text
    assert len(page.table("Alignments (u, v: detector pixel of the grid's center)")) == 12
    steps = page.table("Processing steps")
    assert [row[0] for row in steps] == ["normalize_intensities"]
    factors = page.table("Factors of the normalization")
    np.testing.assert_allclose(
        [float(x) for row in factors for x in row[1:]], cube.normalize_intensities().normalization.ravel(), atol=1e-4
    )
    assert "Offset from the reference" in page.text
    assert "Not measured" not in page.text


@pytest.mark.slow
def test_figures_are_those_of_files(cube):
    """No labels remain from the time when the layout was not made yet."""
    text, *size = figure_picture(lambda: plot_channels(cube), dark=False, lossless=True)
    figure, stream = plot_channels(cube), io.BytesIO()
    figure.savefig(stream, dpi=144, facecolor="none", format="png")
    shown = Image.fromarray(picture(text))
    assert list(shown.size) == size
    # Nothing tells the color of a transparent pixel.
    ground = Image.new("RGBA", shown.size, "white")
    one, other = (np.asarray(Image.alpha_composite(ground, image)) for image in (shown, Image.open(stream)))
    np.testing.assert_array_equal(one, other)


def test_pictures_are_the_images(cube):
    """North up, gray where masked, brighter where there are more photons."""
    data = np.array(cube.data)
    rows, columns = data.shape[2:]
    y, x = np.mgrid[:rows, :columns]
    data[:] = 10 + 50 * (y > 0.7 * rows) * (x < 0.4 * columns)
    mask = np.zeros(data.shape, bool)
    mask[0, 1, : rows // 2] = True
    odd = ESISLevel3Cube(data, wcs=cube.wcs, mask=mask, flags=np.zeros_like(cube.flags), meta=cube.meta, unit=cube.unit)
    shots = [[picture(source) for source in exposure] for exposure in image_pictures(odd, (1, 2))]
    assert [len(exposure) for exposure in shots] == [5, 5, 5]
    first, second, *_, difference = shots[0]
    size = np.array(first.shape[:2])
    corner, other = (size * (0.1, 0.1)).astype(int), (size * (0.1, 0.8)).astype(int)
    brightness = first[..., :3].sum(axis=-1, dtype=int)
    assert brightness[tuple(corner)] > brightness[tuple(other)] + 100
    assert not is_gray(first).any()
    # The masked half is the lower one.
    assert not is_gray(second)[: size[0] // 2 - 1].any()
    assert is_gray(second)[size[0] // 2 + 1 :].all()
    # No difference is white. WebP blurs the edge of the gray half over its blocks of 16 pixels.
    assert (difference[: size[0] // 2 - 16, :, :3] > 240).all()
    assert is_gray(difference)[size[0] // 2 + 16 :].all()


@pytest.mark.slow
def test_slider_has_every_exposure(path, cube):
    data = exposures(path.read_text(encoding="utf-8"))
    assert [item["label"].split(",")[0] for item in data] == [f"Frame {n}" for n in cube.frame_number]
    assert len({picture for item in data for picture in item["pictures"]}) == 3 * 5
    for item in data:
        assert "4 of 4 channels aligned" in item["note"]


@pytest.mark.slow
@pytest.mark.usefixtures("sketches")
def test_what_is_weak_or_not_normalized_is_told(tmp_path):
    cube = true_cube(simulate_flight(size=8, n_exposures=2, other_lines=False))
    for channel in (0, 2, 3):
        weaken(cube, (1, channel))
    cube.meta["history"] = (ProcessingStep("coalign"),)
    page = Page(write_report(cube, tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "not normalized: call cube.normalize_intensities() first" in page.text
    assert "5 of 8" in page.text
    assert "3 of 8" in page.text
    table = page.table("Alignments (u, v: detector pixel of the grid's center)")
    errors = [f"{alignment.error.value:.4f}" for alignment in cube.alignment[1, [0, 2, 3]]]
    assert [row[-3] for row in table if row[-2] == "weak"] == errors
    notes = [item["note"] for item in exposures((tmp_path / "report.html").read_text(encoding="utf-8"))]
    assert "4 of 4 channels aligned, relative" in notes[0]
    assert "1 of 4 channels aligned, 3 weak, relative" in notes[1]


@pytest.mark.slow
@pytest.mark.usefixtures("sketches")
def test_six_channels_from_masks_to_report(tmp_path):
    """Nothing on the way knows how many channels or which lines there are."""
    flight = Flight.read(SECOND)
    simulated = simulate_flight(flight, size=1, n_exposures=2)
    cube = true_cube(simulated)
    clean = cube.clean_region()
    assert 0 < clean.sum() < clean.size
    fit = fit_vignetting(cube)
    errors = [slope - simulated.truth.vignetting_slope(number) for number, slope in fit.slopes.items()]
    assert len(errors) == 6
    assert np.abs(errors).max() < 0.02
    corrected = cube.correct_vignetting(fit).normalize_intensities()
    means = corrected.masked_means()["mean"]
    np.testing.assert_allclose(means / means.max(), 1, rtol=1e-4)
    page = Page(write_report(corrected, tmp_path / "six.html").read_text(encoding="utf-8"))
    assert "ESIS-II Ne VII, Level 3" in page.text
    assert len(medians(page)) == 15
    assert [row[0] for row in page.table(f"Vignetting, {fit.source}")] == ["1", "2", "3", "4", "5", "6"]
    assert len([image for image in page.images if image.get("class") == "exposure"]) == 7


def missing_channel(cube):
    data = np.array(cube.data)
    data[:, 1] = np.nan
    return ESISLevel3Cube(data, wcs=cube.wcs, mask=np.isnan(data), flags=cube.flags, meta=cube.meta, unit=cube.unit)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda cube: cube[1:2], None),
        (lambda cube: cube[:, 1:2], "the cube has one channel only"),
        (missing_channel, None),
        (lambda cube: ESISLevel3Cube(cube.data, wcs=cube.wcs, meta=cube.meta), "got a cube without flags"),
    ],
)
@pytest.mark.slow
@pytest.mark.usefixtures("sketches")
def test_odd_cubes(cube, tmp_path, make, reason):
    page = Page(write_report(make(cube), tmp_path / "odd.html").read_text(encoding="utf-8"))
    assert ("Not measured" in page.text) == (reason is not None)
    assert reason is None or reason in page.text


def test_wrong_input(cube, tmp_path):
    path = tmp_path / "report.html"
    with pytest.raises(ValueError, match="slice with ranges"):
        write_report(cube[0], path)
    nameless = make_cube((1, 2, 5, 6))
    nameless.meta["line"] = None
    with pytest.raises(ValueError, match="got a cube without line"):
        write_report(nameless, path)
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_report(cube, path)
    assert path.read_text() == "mine"
    with pytest.raises(FileNotFoundError, match="no folder"):
        write_report(cube, tmp_path / "no" / "report.html")


@pytest.mark.slow
@pytest.mark.usefixtures("sketches")
def test_command(cube, reference, tmp_path):
    source, image, output = tmp_path / "l3.fits", tmp_path / "aia.fits", tmp_path / "report.html"
    cube[1:2].write(source)
    reference.save(image)
    arguments = ["report", str(source), "--output", str(output), "--reference", str(image)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    page = Page(output.read_text(encoding="utf-8"))
    assert "l3.fits" in page.text
    assert "With the reference" in page.text
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1
    assert "--overwrite" in again.output


def resize(browser, width, height):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


@pytest.mark.parametrize("width", [1280, 390, 320])
@pytest.mark.slow
def test_page_in_a_browser(browser, path, width):
    resize(browser, width, 800)
    browser.get(path.as_uri())
    run = browser.execute_script
    assert run("return document.documentElement.scrollWidth") <= width
    # Every picture can be decoded; those in the other colors are not shown.
    assert run("return [...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert browser.get_log("browser") == []


@pytest.mark.slow
def test_slider_in_a_browser(browser, path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    resize(browser, 1280, 800)
    browser.get(path.as_uri())
    data = exposures(path.read_text(encoding="utf-8"))
    slider = browser.find_element(By.ID, "slider")

    def shown():
        images = browser.find_elements(By.CSS_SELECTOR, "img.exposure")
        sources = [image.get_attribute("src") for image in images]
        label = browser.find_element(By.ID, "label").text
        assert slider.get_attribute("aria-valuetext") == label
        assert all(label in image.get_attribute("alt") for image in images)
        (index,) = [i for i, item in enumerate(data) if item["label"] == label]
        assert sources == data[index]["pictures"]
        return index

    assert shown() == 1
    slider.send_keys(Keys.ARROW_RIGHT)
    assert shown() == 2
    following = browser.find_element(By.ID, "next")
    assert not following.is_enabled()
    for index in (1, 0):
        browser.find_element(By.ID, "previous").click()
        assert shown() == index
    slider.send_keys(Keys.END)
    assert shown() == 2
    assert browser.get_log("browser") == []


@pytest.mark.slow
def test_colors_in_a_browser(browser, path):
    from selenium.webdriver.common.by import By

    def look():
        ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        values = [int(value) for value in re.findall(r"\d+", ground)]
        visible = browser.execute_script(
            "return [...document.querySelectorAll('img.light, img.dark')]"
            ".filter(image => getComputedStyle(image).display !== 'none').map(image => image.className)"
        )
        (kind,) = set(visible)
        assert (sum(values) < 300) == (kind == "dark")
        return kind

    for scheme in ("light", "dark"):
        features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
        browser.get(path.as_uri())
        assert look() == scheme
        found = [scheme]
        for _ in range(3):
            browser.find_element(By.ID, "theme").click()
            found.append(look())
        assert found == [scheme, "light", "dark", scheme]
    assert browser.get_log("browser") == []
