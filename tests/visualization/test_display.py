"""The descriptions of cubes: in print, and in a notebook."""

from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import Page, is_gray, make_context, make_cube, make_lazy, picture

from ndcube.meta import NDMeta

from esis_ndcube import ESIS_1, Flight
from esis_ndcube.level3 import ESISLevel3Cube
from esis_ndcube.registration import alignments_from_table, alignments_to_table
from esis_ndcube.report._pictures import image_pictures
from esis_ndcube.simulate import simulate_flight, true_cube
from esis_ndcube.visualization import animation, plot_channels
from esis_ndcube.visualization.style import scale, valid_values

ALL = slice(None)
SLICES = [
    (),
    (0,),
    (slice(1, 3),),
    (ALL, 1),
    (1, 2),
    (0, 0, 5),
    (ALL, 0, 5),
    (0, ALL, 2, 3),
    (ALL, 0, 3, 3),
]


@pytest.fixture(scope="module")
def scores():
    return np.random.default_rng(3).uniform(0.8, 0.99, (3, 4))


@pytest.fixture(scope="module")
def cube(scores):
    """With alignments of known score: one is missing, one failed, one has no score."""
    cube = make_cube((3, 4, 12, 14), alignments=True)
    for (i, j), alignment in np.ndenumerate(cube.alignment):
        if alignment is not None:
            cube.meta["alignment_final"][i, j] = replace(alignment, score=scores[i, j], converged=(i, j) != (2, 1))
    cube.meta["alignment_final"][1, 1] = replace(cube.alignment[1, 1], score=np.nan)
    return cube


def rows(cube):
    first, *others = str(cube).splitlines()
    return first, dict(line.strip().split(": ", 1) for line in others)


# ------------------------------------------------------------------------------------------------------------ in print


def test_a_whole_cube(cube, scores):
    first, facts = rows(cube)
    assert first == "ESISLevel3Cube: 3 time x 4 channel x 12 y x 14 x, ph / pix, float32"
    seconds = cube.exposure_time.to_value("s")
    known = np.delete(scores.ravel(), [0, 5])
    assert facts == {
        "flight": "ESIS_1",
        "line": "O V",
        "time": f"{cube.time[0].isot} to {cube.time[2].isot} (frame 109 to 111)",
        "exposure": f"{seconds.min():.2f} to {seconds.max():.2f} s",
        "channel": "1, 2, 3, 4",
        "steps": "bias, despike",
        "alignment": f"final, median score {np.median(known):.3f}, 10 of 12 images aligned, 2 not aligned",
        "reference": "flight pose",
    }


def test_per_exposure_values_follow_the_slice(cube, scores):
    _, facts = rows(cube[2, 3])
    assert facts["time"] == f"{cube.time[2].isot} (frame 111)"
    assert facts["exposure"] == f"{cube.exposure_time[2, 3].to_value('s'):.2f} s"
    assert facts["channel"] == "4"
    assert facts["file"] == "4_2.fits"
    assert facts["alignment"] == f"final, score {scores[2, 3]:.3f}"
    assert rows(cube[2, 1])[1]["alignment"] == f"final, score {scores[2, 1]:.3f}, not aligned"
    assert rows(cube[0, 0])[1]["alignment"] == "final, alignment not known"
    assert rows(cube[2])[1]["alignment"].endswith(
        f"score {np.median(scores[2]):.3f}, 3 of 4 images aligned, 1 not aligned"
    )


def weak(cube):
    """The same with the three states: the last exposure is aligned weakly, and one frame has no alignment."""
    weak = cube[:]
    for (i, j), alignment in np.ndenumerate(cube.alignment):
        if alignment is None:
            continue
        size = alignment.transform.coefficients.size
        error = 0.5 * (i + 1) * np.eye(size)[0]
        known = {"stage": "final", "reason": "converged", "covariance": np.diag(error**2)}
        if j != 1:
            known |= {"reference": "channel 2", "reference_covariance": np.diag(error)}
        known["score"] = 0.3 if i == 2 else 0.8
        weak.meta["alignment_final"][i, j] = replace(alignment, **known)
    return weak


def test_weak_alignments_are_no_good_ones():
    cube = weak(make_cube((3, 4, 12, 14), alignments=True))
    states = cube.pointing(reference_frame_number=110)["status"].tolist()
    # The reference channel is compared with another telescope.
    assert states == ["not aligned", *["aligned"] * 7, "weak", "aligned", "weak", "weak"]
    # A shift by 1.5 pixels along u: of the detector, and of 0.6 arcsec times the inverse of the pose's matrix.
    shift = [1.5 * 0.6 * np.linalg.norm(np.linalg.inv(ESIS_1.pose(c)[:, :2])[:, 0]) for c in (1, 3, 4)]
    errors = [cube.alignment[2, c].error.to_value("arcsec") for c in (0, 2, 3)]
    np.testing.assert_allclose(errors, shift, rtol=1e-6)
    least, most = min(errors), max(errors)
    text = rows(cube)[1]["alignment"]
    which = f"{least:.2f}" if f"{least:.2f}" == f"{most:.2f}" else f"{least:.2f} to {most:.2f}"
    assert text.endswith(f", 8 of 12 images aligned, 3 weak (frame 111, error {which} arcsec or more), 1 not aligned")
    assert rows(cube[2, 0])[1]["alignment"] == f"final, score 0.300, weak (error {errors[0]:.2f} arcsec or more)"
    assert "(weak, error " in str(cube.alignment[2, 0])
    table = alignments_to_table(cube.alignment)
    assert table["status"].tolist() == states[1:]
    np.testing.assert_allclose(table["error"][[7, 9, 10]], errors)
    assert alignments_from_table(table)[2, 3].status == "weak"


def test_scales_are_those_of_the_good_images():
    """A weak exposure, for example a nearly extinct one that was normalized, is shown but does not count."""
    cube = weak(make_cube((3, 4, 12, 14), alignments=True))
    bright = np.array(cube.data)
    bright[2] *= 50
    cube = ESISLevel3Cube(bright, wcs=cube.wcs, mask=cube.mask, flags=cube.flags, meta=cube.meta, unit=cube.unit)
    # The reference channel of that exposure is not weak.
    alone = cube[2]
    np.testing.assert_array_equal(valid_values(alone), valid_values(alone[1]))
    np.testing.assert_array_equal(valid_values(cube), np.concatenate([valid_values(cube[:2]), valid_values(alone[1])]))
    # An image alone has a scale too.
    assert valid_values(cube[2, 0]).size
    panels = [axis for axis in plot_channels(cube, 111).axes if axis.get_images()]
    assert [panel.get_title() for panel in panels] == [
        "Channel 1, weak alignment",
        "Channel 2",
        "Channel 3, weak alignment",
        "Channel 4, weak alignment",
    ]
    expected = np.percentile(valid_values(alone[1]), 99.7)
    assert panels[0].get_images()[0].norm.vmax == pytest.approx(expected)


@pytest.mark.slow
def test_movies_and_sliders_are_scaled_to_good_exposures(tmp_path, monkeypatch):
    """Also where the weak one is in the middle."""
    alignments = weak(make_cube((3, 4, 12, 14), alignments=True)).alignment[[0, 2, 1]]
    alignments[1, 1] = replace(alignments[1, 0], channel=2)
    assert {alignment.status for alignment in alignments[1]} == {"weak"}
    plain = make_cube((3, 4, 12, 14), alignments=True)
    data = np.array(plain.data)
    data[1] *= 50
    meta = NDMeta({**plain.meta, "alignment_final": alignments}, axes=dict(plain.meta.axes))
    cube = ESISLevel3Cube(data, wcs=plain.wcs, mask=plain.mask, flags=plain.flags, meta=meta, unit=plain.unit)
    seen = []
    monkeypatch.setattr(animation, "scale", lambda values, unit: seen.append(values) or scale(values, unit))
    cube.animate(tmp_path / "movie.gif", dpi=30)
    np.testing.assert_array_equal(seen[0], np.concatenate([valid_values(cube[0]), valid_values(cube[2])]))
    norm, _ = scale(valid_values(cube[0]), cube.unit)
    assert cube.plot().im.norm.vmax == norm.vmax
    plt.close("all")
    # The page of the report: what is too bright for the scale of the others has the color of its end.
    shot = [[picture(source)[..., :3].astype(int) for source in row] for row in image_pictures(cube, None)][1]
    shown = np.concatenate([image.reshape(-1, 3) for image in shot])
    assert np.mean(shown.sum(axis=-1) > 600) > 0.3


@pytest.mark.parametrize("level", [1, 3])
@pytest.mark.parametrize("item", SLICES)
def test_every_slice(level, item):
    part = make_cube((3, 4, 12, 14), level=level, alignments=level == 3)[item or slice(None)]
    first, facts = rows(part)
    names = " x ".join(f"{n} {name}" for n, name in zip(part.shape, part.wcs.array_axis_names, strict=True))
    assert first.startswith(f"ESISLevel{level}Cube: {names}, ")
    assert facts["channel"] == ", ".join(map(str, np.atleast_1d(part.channel)))
    assert ("alignment" in facts) == (level == 3)
    assert repr(part) == f"<{part}>"


def test_lazy_cubes_are_not_computed(cube):
    lazy, *read = make_lazy(cube)
    for item in SLICES:
        part, whole = lazy[item or slice(None)], cube[item or slice(None)]
        assert str(part) == str(whole).replace("float32", "float32, lazy")
    assert read == [[], []]


def test_little_known():
    cube = make_cube((1, 2, 5, 6))
    bare = ESISLevel3Cube(cube.data, wcs=cube.wcs)
    assert rows(bare)[1] == {"time": cube.time[0].isot, "channel": "1, 2"}
    missing = NDMeta({"exposure_time": np.full((1, 2), np.nan) * cube.exposure_time.unit})
    assert "exposure" not in str(ESISLevel3Cube(cube.data, wcs=cube.wcs, meta=missing))


def test_context(cube):
    context = make_context(cube)
    _, facts = rows(context)
    assert facts["image"].startswith("AIA 304.0 Angstrom")
    assert facts["pointing"] == "headers of the images"
    assert rows(context[1])[1]["time"] == f"{cube.time[1].isot} (frame 110)"


# ------------------------------------------------------------------------------------------------------- in a notebook


def pictures(page):
    return [(image["alt"], picture(image["src"])) for image in page.images]


@pytest.mark.slow
@pytest.mark.parametrize("level", [1, 3])
@pytest.mark.parametrize("item", SLICES)
def test_table_has_what_is_printed(level, item):
    part = make_cube((3, 4, 12, 14), level=level, alignments=level == 3)[item or slice(None)]
    page = Page(part._repr_html_())
    first, facts = rows(part)
    assert dict(page.tables[0]) == facts
    assert page.text.startswith(first.replace(":", "", 1))
    sky = part.wcs.array_axis_names[-2:] == ["y", "x"]
    assert len(page.images) == (np.size(part.channel) if sky else 0)
    assert all(link.startswith("data:") for link in page.links)
    assert not page.ids


def test_pictures_are_the_middle_exposure():
    """North up, gray where masked, on one scale."""
    cube = make_cube((3, 2, 40, 60))
    data, mask = np.full(cube.shape, 1e6, dtype=np.float32), np.zeros(cube.shape, bool)
    data[1] = 10
    data[1, 0, 20:, :30] = 50
    data[1, 1] = 50
    mask[1, 1, :20] = True
    odd = ESISLevel3Cube(data, wcs=cube.wcs, mask=mask, meta=cube.meta)
    page = Page(odd._repr_html_())
    assert f"{cube.time[1].isot[:19].replace('T', ' ')} UTC, frame 110" in page.text
    (name, first), (other, second) = pictures(page)
    assert (name, other) == ("Channel 1", "Channel 2")
    assert first.shape == (40, 60, 4)
    assert [image["width"] for image in page.images] == ["160", "160"]
    assert [image["height"] for image in page.images] == ["107", "107"]
    bright, dark = first[10, 10, :3].astype(int), first[10, 50, :3].astype(int)
    assert bright.sum() > dark.sum() + 100
    assert np.abs(dark - first[30, 10, :3]).max() < 10
    assert not is_gray(first).any()
    # The masked half is the lower one, and equal values have equal colors in both.
    assert not is_gray(second)[:19].any()
    assert is_gray(second)[21:].all()
    assert np.abs(second[5, 30, :3] - bright).max() < 10


def test_large_images_are_averaged():
    cube = make_cube((1, 1, 700, 1000))
    data = np.full(cube.shape, 10, dtype=np.float32)
    # Columns of 0 and 100 have the mean 50 in every block of five.
    data[..., ::2], data[..., 1::2] = 0, 100
    page = Page(ESISLevel3Cube(data, wcs=cube.wcs, meta=cube.meta)._repr_html_())
    ((_, shown),) = pictures(page)
    assert shown.shape == (140, 200, 4)
    assert len(cube._repr_html_()) < 200_000


def test_blank_exposures(cube):
    blank = ESISLevel3Cube(np.full(cube.shape, np.nan, dtype=np.float32), wcs=cube.wcs, meta=cube.meta)
    found = pictures(Page(blank._repr_html_()))
    assert [name for name, _ in found] == [f"Channel {n}, no data" for n in (1, 2, 3, 4)]
    assert all(is_gray(shown).all() for _, shown in found)


def test_text_is_escaped(cube):
    meta = NDMeta({**cube.meta, "line": "<script>alert(1)</script>", "reference": '"><b>&'}, axes=dict(cube.meta.axes))
    text = ESISLevel3Cube(cube.data, wcs=cube.wcs, meta=meta)._repr_html_()
    assert "<script" not in text
    assert "<b>" not in text
    assert ["line", "<script>alert(1)</script>"] in Page(text).tables[0]
    assert ["reference", '"><b>&'] in Page(text).tables[0]


def test_lazy_cubes_read_one_exposure_once(cube):
    lazy, data, mask = make_lazy(cube)
    assert Page(lazy._repr_html_()).images == Page(cube._repr_html_()).images
    assert sorted(data) == sorted(mask) == [(1, channel) for channel in range(4)]


@pytest.mark.slow
def test_six_channels():
    flight = Flight.read(Path(__file__).parents[1] / "data" / "second_flight.toml")
    page = Page(true_cube(simulate_flight(flight, size=4, n_exposures=1))._repr_html_())
    assert [name for name, _ in pictures(page)] == [f"Channel {n}" for n in range(1, 7)]
    assert dict(page.tables[0])["line"] == "Ne VII"


def test_context_and_differences(cube):
    ((name, shown),) = pictures(Page(make_context(cube)._repr_html_()))
    assert name == f"AIA 304.0 Angstrom, {cube.time[1].isot[11:19]}"
    assert shown.shape == (12, 14, 4)
    ((name, _),) = pictures(Page(cube.difference(3, 1)._repr_html_()))
    assert name == "Channel 3 minus channel 1"


@pytest.mark.parametrize("colors", ["light", "dark"])
def test_in_a_browser(browser, cube, tmp_path, colors):
    """In the colors of the page around it, as a notebook has them."""
    style = {
        "light": "background: white; color: black",
        "dark": "background: rgb(17, 17, 17); color: rgb(238, 238, 238)",
    }
    path = tmp_path / "notebook.html"
    path.write_text(f'<!doctype html><body style="{style[colors]}">{cube._repr_html_()}</body>', encoding="utf-8")
    browser.get(path.as_uri())
    images = browser.find_elements("css selector", "img")
    assert [image.accessible_name for image in images] == [f"Channel {n}" for n in (1, 2, 3, 4)]
    assert all(image.get_property("naturalWidth") == 14 for image in images)
    # Beside each other, of the size that the text says.
    assert len({image.rect["y"] for image in images}) == 1
    assert {image.rect["width"] for image in images} == {162}
    expected = browser.find_element("css selector", "body").value_of_css_property("color")
    cells = browser.find_elements("css selector", "th, td, strong, figcaption")
    assert len(cells) == 2 * len(rows(cube)[1]) + 5
    for cell in cells:
        assert cell.value_of_css_property("color") == expected
        assert cell.value_of_css_property("background-color") == "rgba(0, 0, 0, 0)"
    assert not browser.get_log("browser")
