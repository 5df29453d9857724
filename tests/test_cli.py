"""The command line, used as a stranger would."""

import gzip
import os
import re
import shutil
import signal
import warnings

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import assert_cubes_equal

import astropy.units as u
from astropy.io import fits

from esis_ndcube import (
    ESIS_1,
    ESISLevel1Cube,
    ESISLevel3Cube,
    ESISVelocityCube,
    __version__,
    coalign,
    form_level3,
    velocity_map,
)
from esis_ndcube.cli import main
from esis_ndcube.simulate import simulate_flight, true_cube

FIRST, SECOND = 123, 124
TRUNCATED = "may have been truncated"


def run(*arguments, expect=()):
    """Run a command; warnings that are not expected are errors."""
    with warnings.catch_warnings():
        for message in expect:
            warnings.filterwarnings("always", message=f".*{message}")
        return CliRunner().invoke(main, [str(argument) for argument in arguments])


def run_well(*arguments, expect=()):
    result = run(*arguments, expect=expect)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def simulated(small_flight):
    return small_flight.simulated


@pytest.fixture(scope="module")
def folder(small_flight):
    """Raw frames and references of a small flight, and its configuration."""
    return small_flight.path


@pytest.fixture(scope="module")
def maps(small_flight):
    return small_flight.maps


@pytest.fixture(scope="module")
def level1(small_flight):
    return small_flight.level1


@pytest.fixture(scope="module")
def formed(folder, tmp_path_factory):
    """The file that the plain command writes, and what it says."""
    path = tmp_path_factory.mktemp("formed") / "l3.fits"
    result = run_well(
        "level3", folder / "raw", "-r", folder / "reference", "--flight", folder / "flight.toml", "-o", path,
        "--workers", 2,
    )  # fmt: skip
    return path, result


@pytest.fixture
def raw(folder, tmp_path):
    """Raw frames that may be spoiled, alone in a folder of their own."""
    return shutil.copytree(folder / "raw", tmp_path / "raw")


@pytest.fixture(scope="module")
def frames(folder):
    """The frames of the second exposure, and the darks."""
    return [path for path in sorted((folder / "raw").iterdir()) if f"_00{FIRST}" not in path.name]


# ------------------------------------------------------------------------------------------------- good input


@pytest.mark.parametrize("command", ["level3", "info", "demo"])
def test_help_teaches(command):
    result = run_well(command, "--help")
    assert re.search(rf"Examples?:\n +esis-ndcube {command} \S", result.output)
    assert all(len(line) <= 80 for line in result.output.splitlines())


def test_help_of_the_group_names_the_commands():
    output = run_well("--help").output
    assert "esis-ndcube demo demo_output" in output
    assert re.findall(r"^  (\w+)  +[A-Z]", output, re.M) == [
        "demo",
        "fetch",
        "flight",
        "info",
        "level3",
        "report",
        "velocity",
    ]
    assert __version__ in run_well("--version").output


@pytest.mark.slow
def test_folder_with_references(formed, small_flight):
    path, result = formed
    assert_cubes_equal(ESISLevel3Cube.read(path), small_flight.level3)
    assert "2 time x 4 channel" in result.output
    assert f"Written to {path}" in result.output
    # A terminal has progress bars in place of these lines.
    assert result.stderr.splitlines() == [
        "Reading the raw frames ...",
        "Calibrating and aligning 2 exposures ...",
        "Resampling 2 exposures ...",
    ]


@pytest.mark.slow
def test_workers_do_not_change_a_bit_and_nothing_is_overwritten_unasked(folder, formed, tmp_path):
    output = tmp_path / "l3.fits"
    output.write_text("mine")
    pattern = folder / "reference" / "*.fits"
    arguments = (
        "level3", folder / "raw" / "*.gz", "--reference", pattern, "--flight", folder / "flight.toml",
        "--workers", 1, "--output", output,
    )  # fmt: skip
    result = run(*arguments)
    assert result.exit_code == 1
    assert "l3.fits exists: give another name, or overwrite=True (--overwrite)" in result.output
    assert output.read_text() == "mine"
    run_well(*arguments, "--overwrite")
    assert_cubes_equal(ESISLevel3Cube.read(output), ESISLevel3Cube.read(formed[0]))


@pytest.mark.slow
def test_pattern_list_and_options(folder, level1, maps, tmp_path):
    output = tmp_path / "l3.fits"
    frames = sorted((folder / "raw").iterdir())
    light = folder / "raw" / f"*_*12[{FIRST % 10}{SECOND % 10}].fit.gz"
    darks = [path for path in frames if f"{FIRST}" not in path.name and f"{SECOND}" not in path.name]
    references = [item for path in sorted((folder / "reference").iterdir()) for item in ("--reference", path)]
    run_well(
        "level3", light, *darks, *references, "--flight", folder / "flight.toml", "--output", output,
        "--line", "he i", "--stage", "linear", "--no-vignetting", "--no-normalize", "--reference-channel", 3,
    )  # fmt: skip
    cube = ESISLevel3Cube.read(output)
    found = coalign(level1, maps, line="He I", reference_channel=3)
    assert_cubes_equal(cube, form_level3(level1, found, stage="linear", vignetting=False, normalize=False))
    assert (cube.line, cube.stage, cube.vignetting, cube.normalization) == ("He I", "linear", None, None)
    scores = [f"{a.channel} ({a.score:.3f})" for a in cube.alignment_linear[0]]
    assert ", ".join(scores) in run_well("info", output).output


@pytest.mark.slow
def test_the_rotation_of_the_sun_and_the_gap_in_time(folder, frames, level1, maps, tmp_path):
    output, level1 = tmp_path / "l3.fits", level1[1:]
    run_well(
        "level3", *frames, "-r", folder / "reference", "--flight", folder / "flight.toml", "-o", output,
        "--max-gap", 30, "--rotate",
    )  # fmt: skip
    assert_cubes_equal(
        ESISLevel3Cube.read(output), form_level3(level1, coalign(level1, maps, max_gap=30 * u.s, rotate=True))
    )


def test_a_piece_of_a_flight(folder, tmp_path, monkeypatch):
    """The frames that are taken; what is made of them has tests of its own."""

    def stop(level1, *args, **options):
        raise ValueError(str(level1.frame_number.tolist()))

    monkeypatch.setattr("esis_ndcube.cli.coalign", stop)
    arguments = "level3", folder / "raw", "--flight", folder / "flight.toml", "-o", tmp_path / "l3.fits", "--exposures"
    for wanted, found in {"124": [124], "0-999999": [123, 124]}.items():
        assert f"Error: {found}" in run(*arguments, wanted).output
    result = run(*arguments, "1-9")
    assert re.search(r"got --exposures 1-9, expected some of the light frames of \S+, \d+-\d+", result.output)
    for wrong in ("9-1", "first", "-1", "1-", "1-2-3", ""):
        result = run(*arguments, wrong)
        assert result.exit_code == 2
        assert "expected frame numbers FIRST-LAST in order, for example 120-129" in re.sub(r"\s+", " ", result.output)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_end_it_alike_and_nothing_is_left(name, folder, tmp_path, monkeypatch, request):
    number = getattr(signal, name, None)
    if number is None:
        pytest.skip(f"the system has no {name}")
    # Started by nohup, the tests would ignore it.
    at_first = signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)
    request.addfinalizer(lambda: signal.signal(number, at_first))
    before = [signal.getsignal(each) for each in signal.Signals]

    def end(level1, *args, **options):
        level1[0, 0].data.compute()
        assert len(list((tmp_path / "l3.fits.part").glob("*.npz"))) == 1
        os.kill(os.getpid(), number)

    monkeypatch.setattr("esis_ndcube.cli.coalign", end)
    result = run("level3", folder / "raw", "--flight", folder / "flight.toml", "-o", tmp_path / "l3.fits")
    *steps, last = result.output.splitlines()
    assert (result.exit_code, last) == (128 + number, "Aborted!")
    assert all(step.endswith(" ...") for step in steps)
    assert not list(tmp_path.iterdir())
    assert [signal.getsignal(each) for each in signal.Signals] == before


def test_signals_that_are_ignored_stay_so(folder, tmp_path, monkeypatch):
    """As nohup asks for."""

    def hang_up(*args, **options):
        os.kill(os.getpid(), signal.SIGHUP)
        msg = "went on"
        raise ValueError(msg)

    monkeypatch.setattr("esis_ndcube.cli.coalign", hang_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        result = run("level3", folder / "raw", "--flight", folder / "flight.toml", "-o", tmp_path / "l3.fits")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert "Error: went on" in result.output


def test_help_names_what_a_killed_process_leaves():
    assert "OUTPUT.part" in run_well("level3", "--help").output


@pytest.mark.slow
def test_without_reference_and_spikes_left_in(folder, frames, simulated, tmp_path):
    output = tmp_path / "l3.fits"
    run_well("level3", *frames, "--flight", folder / "flight.toml", "--no-despike", "-o", output)
    level1 = ESISLevel1Cube.from_raw(frames, simulated.flight, despike=False)
    cube = ESISLevel3Cube.read(output)
    assert_cubes_equal(cube, form_level3(level1))
    assert cube.reference.startswith("flight pose")
    assert "reference: flight pose, channel 2 of frame 124" in run_well("info", output).output


def test_info(formed):
    output = run_well("info", formed[0]).output
    assert "channel: 1, 2, 3, 4" in output
    assert "alignment: final, " in output
    # Each fact stands once, apart from the parameters of the steps.
    facts = output.split("\nProcessing:")[0]
    assert facts.count("SDO 304.0 Angstrom 2019-09-30T18:08:29.800") == facts.count("final") == 1
    assert "level0" not in facts
    for step in ("level0", "coalign", "resample", "correct_vignetting", "normalize_intensities"):
        assert re.search(rf"^  {step}\(", output, re.M)
    assert "'ESIS4_00166.fit.gz': 8 in all" in output
    rows = re.findall(r"^ +(\d+)  (2019-09-30T18:08:\d\d\.\d{3})  (.*)$", output, re.M)
    assert [(int(frame), time[-6:]) for frame, time, _ in rows] == [(FIRST, "25.000"), (SECOND, "35.000")]
    assert all(re.fullmatch(r"1 \(0\.\d{3}\), 2 \(.*\), 3 \(.*\), 4 \(.*\)", scores) for *_, scores in rows)
    assert max(map(len, output.splitlines())) < 260


@pytest.mark.slow
def test_info_reads_no_image_and_says_the_same(formed, tmp_path, monkeypatch):
    cube = ESISLevel3Cube.read(formed[0])
    for name in ("a.fits.gz", "a.asdf"):
        cube.write(tmp_path / name)
    monkeypatch.setattr("esis_ndcube.io._reading._native", None)
    monkeypatch.setattr("esis_ndcube.io.asdf._cube.CubeConverter._read", None)
    outputs = [run_well("info", path).output for path in (formed[0], tmp_path / "a.fits.gz", tmp_path / "a.asdf")]
    assert all(line in outputs[0].splitlines() for line in str(cube).splitlines() if "steps: " not in line)
    assert outputs[1] == outputs[0]
    # ASDF sorts the parameters of a step.
    assert sorted(outputs[2]) == sorted(outputs[0])


def test_info_with_quality(formed):
    output = run_well("info", formed[0], "--quality").output
    assert re.search(r"^ +123 2019-09-30T18:08:25.000 +0\.\d+", output.split("Quality:")[1], re.M)


@pytest.mark.slow
def test_info_of_one_image(formed, tmp_path):
    ESISLevel3Cube.read(formed[0])[1, 2].write(tmp_path / "image.fits")
    output = run_well("info", tmp_path / "image.fits").output
    assert "channel: 3" in output
    assert "time: 2019-09-30T18:08:35.000" in output


@pytest.mark.slow
def test_more_darks_and_damaged_files(raw, folder, tmp_path):
    """Darks with other numbers come through --darks, a damaged frame need not stop the run, and warnings come once."""
    others = tmp_path / "others"
    others.mkdir()
    for path in raw.iterdir():
        if is_dark(path):
            with fits.open(path) as hdus:
                hdus[0].header["IMG_ISN"] += 1000
                hdus.writeto(others / path.name)
            path.unlink()
    damaged = raw / f"ESIS1_00{FIRST}.fit.gz"
    damaged.write_bytes(b"\x1f\x8b nothing")
    arguments = ("level3", raw, "--darks", others, "--flight", folder / "flight.toml", "-o", tmp_path / "l3.fits")
    assert "not a readable FITS file" in run(*arguments).output
    result = run_well(*arguments, "--skip-damaged", expect=["Skipped", "is missing", "could not be aligned"])
    lines = [line for line in result.stderr.splitlines() if not line.endswith(" ...")]
    assert [line[:34] for line in lines] == [
        f"Warning: Skipped: {str(damaged)[:16]}",
        "Warning: frame 123 is missing in c",
        "Warning: 1 of 8 frames could not b",
    ]
    assert damaged.name in lines[0]
    cube = ESISLevel3Cube.read(tmp_path / "l3.fits")
    assert np.isnan(cube.data[0, 0]).all()
    assert np.isfinite(cube.data[~cube.mask]).all()


# -------------------------------------------------------------------------------------------------- bad input


def repack(path, change):
    """Write a frame again with its data changed."""
    with fits.open(path) as hdus:
        data, header = change(hdus[0].data), hdus[0].header
    fits.PrimaryHDU(data, header).writeto(path, overwrite=True)


def is_dark(path):
    return ESIS_1.is_dark(int(path.name[6:11]))


def frame(raw):
    return raw / f"ESIS2_00{SECOND}.fit.gz"


def empty(raw):
    for path in raw.iterdir():
        path.unlink()


def truncated_gz(raw):
    frame(raw).write_bytes(frame(raw).read_bytes()[:60000])


def truncated_fits(raw):
    content = gzip.decompress(frame(raw).read_bytes())
    frame(raw).unlink()
    frame(raw).with_suffix("").write_bytes(content[:60000])


def text(raw):
    (raw / "notes.fits").write_text("These are my notes.\n" * 300)


def nothing(raw):
    frame(raw).write_bytes(b"")


def wrong_shape(raw):
    repack(frame(raw), lambda data: data[:-2])


def two_for_one_slot(raw):
    shutil.copy(frame(raw), raw / "copy.fit.gz")


def no_darks(raw):
    for path in filter(is_dark, list(raw.iterdir())):
        path.unlink()


def only_darks(raw):
    for path in [path for path in raw.iterdir() if not is_dark(path)]:
        path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (empty, r"no FITS files in .*raw; looked for \*\.fit"),
        (
            truncated_gz,
            r"ESIS2_00124\.fit\.gz is (damaged|not a readable FITS file|cut short).*get it again.*--skip-dam",
        ),
        (truncated_fits, r"ESIS2_00124\.fit is cut short: 60000 bytes, expected \d+; get it again"),
        (text, r"notes\.fits is not a readable FITS file: .*get it again"),
        (nothing, r"ESIS2_00124\.fit\.gz is not a readable FITS file"),
        (
            wrong_shape,
            r"ESIS2_00124\.fit\.gz holds an image of shape \(206, 514\), expected \(208, 514\) for .*--flight",
        ),
        (two_for_one_slot, r"two files hold frame 124 of channel 2: .*ESIS2.* and .*copy.*; keep one of them"),
        (no_darks, r"no darks of channel 1: expected frame numbers 98-103, 154-166"),
        (only_darks, r"no light frames of ESIS_1_small: expected frame numbers 109-138"),
    ],
)
def test_bad_frames_are_one_clear_error(spoil, message, raw, folder, tmp_path):
    spoil(raw)
    output = tmp_path / "out"
    output.mkdir()
    result = run("level3", raw, "--flight", folder / "flight.toml", "-o", output / "l3.fits", expect=[TRUNCATED])
    assert_error(result, message)
    assert not list(output.iterdir())


def assert_error(result, message):
    assert result.exit_code in (1, 2)
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert "Traceback" not in result.output
    errors = re.findall(r"^Error: (.*)", result.output, re.M | re.S)
    assert len(errors) == 1
    assert re.search(message, errors[0]), errors[0]


@pytest.fixture
def no_work(monkeypatch):
    """Nothing that takes long may begin."""

    def begin(*args, **kwargs):
        msg = "work has begun"
        raise AssertionError(msg)

    monkeypatch.setattr(ESISLevel1Cube, "from_raw", begin)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--line", "Fe XII"], r"unknown line 'Fe XII': flight ESIS_1_small forms cubes of O V, He I"),
        (["--line", "Mg X 609"], r"unknown line 'Mg X 609'"),
        (["--stage", "quadratic"], r"'quadratic' is not one of 'linear', 'final'"),
        (["--workers", 0], r"0 is not in the range x>=1"),
        (["--reference-channel", 9], r"unknown channel 9: flight ESIS_1_small has channels 1, 2, 3, 4"),
        (["--reference", "nowhere.fits"], r"no such file or folder: nowhere\.fits"),
        (["--darks", "nowhere/*.fits"], r"no FITS files in nowhere/\*\.fits"),
        (["--flight", "nowhere.toml"], r"'nowhere\.toml' does not exist"),
    ],
)
def test_impossible_options_are_errors_at_once(arguments, message, folder, tmp_path):
    output = tmp_path / "l3.fits"
    assert_error(run("level3", folder / "raw", "--flight", folder / "flight.toml", "-o", output, *arguments), message)
    assert not output.exists()


@pytest.mark.usefixtures("no_work")
def test_masks_are_read_before_any_work_and_never_replaced(folder, tmp_path):
    masks = tmp_path / "masks.toml"
    masks.write_text("no polygons")
    # Nothing of these frames is read.
    arguments = "level3", folder / "nothing", "--masks", masks, "--overwrite", "--output"
    result = run(*arguments, tmp_path / "l3.fits")
    assert result.exit_code == 1
    assert "is no file of polygons" in result.output
    result = run(*arguments, masks)
    assert result.exit_code == 1
    assert "as input and as output" in result.output
    assert masks.read_text() == "no polygons"


def test_outputs_that_can_not_be_written_are_errors_at_once(raw, folder, tmp_path, monkeypatch):
    def level3(output, *options):
        return run("level3", raw, "--flight", folder / "flight.toml", "-o", output, *options)

    (tmp_path / "there.fits").write_text("mine")
    assert_error(level3(tmp_path / "there.fits"), r"there\.fits exists: .*--overwrite")
    assert_error(level3(tmp_path / "no" / "l3.fits"), r"there is no folder .*no; make it first")
    assert_error(level3(raw), r"is a directory")
    before = frame(raw).read_bytes()
    assert_error(level3(frame(raw), "--overwrite"), r"as input and as output; give another name")
    assert frame(raw).read_bytes() == before
    # The superuser may write everywhere, so that permissions have to be played.
    access = os.access
    monkeypatch.setattr("os.access", lambda path, mode: not mode & os.W_OK and access(path, mode))
    assert_error(level3(tmp_path / "l3.fits"), r"no permission to write in the folder")
    assert (tmp_path / "there.fits").read_text() == "mine"


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "name = [", r"is not a flight file in TOML"),
        (lambda text: text.replace('cadence = "10.0 s"', "").replace('cadence = "10 s"', ""), r"timeline\.cadence"),
        (lambda text: re.sub(r"psf_fwhm = .*", "psf_fwhm = -1.0", text), r"detector\.psf_fwhm: got -1\.0, expected"),
        (lambda text: re.sub(r"saturation = .*", 'saturation = "high"', text), r"detector\.saturation: got 'high'"),
    ],
)
def test_bad_flight_files_are_one_clear_error(change, message, raw, folder, tmp_path):
    text = (folder / "flight.toml").read_text()
    assert change(text) != text
    path = tmp_path / "mine.toml"
    path.write_text(change(text))
    result = run("level3", raw, "--flight", path, "-o", tmp_path / "l3.fits")
    assert_error(result, message)
    assert "mine.toml" in result.output


def change_reference(folder, path, change, **cards):
    with fits.open(sorted((folder / "reference").iterdir())[1]) as hdus:
        data, header = hdus[0].data, hdus[0].header
        header.update(cards)
        fits.PrimaryHDU(change(data), header).writeto(path)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("change", "cards", "message"),
    [
        (lambda data: np.stack([data] * 3), {}, r"not an image of the Sun .*more than 2 dimensions"),
        (lambda data: data[0], {}, r"not an image of the Sun"),
        (lambda data: data, {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}, r"expected helioprojective"),
    ],
)
def test_references_that_are_no_images_of_the_sun(change, cards, message, folder, tmp_path):
    path = tmp_path / "reference.fits"
    change_reference(folder, path, change, **cards)
    result = run(
        "level3", folder / "raw", "-r", path, "--flight", folder / "flight.toml", "-o", tmp_path / "l3.fits",
        expect=["more than 2 dimensions"],
    )  # fmt: skip
    assert_error(result, message)
    assert "reference.fits" in result.output


@pytest.mark.usefixtures("no_work")
def test_reference_that_is_no_fits_file(folder, tmp_path):
    path = tmp_path / "reference.fits"
    path.write_text("no image")
    arguments = ("level3", folder / "raw", "-r", path, "--flight", folder / "flight.toml", "-o", tmp_path / "l3.fits")
    assert_error(run(*arguments), r"reference .*reference\.fits is not an image of the Sun that sunpy can read")


def test_reference_beside_the_field(folder, tmp_path):
    path, output = tmp_path / "reference.fits", tmp_path / "l3.fits"
    change_reference(folder, path, lambda data: data, CRVAL1=3000.0)
    result = run("level3", folder / "raw", "-r", path, "--flight", folder / "flight.toml", "-o", output)
    assert_error(result, r"covers 0% of the field of view, expected at least 50%: it must show the Sun around \(14, -2")
    assert not output.exists()


@pytest.mark.slow
def test_saturated_and_zero_frames_are_kept_and_masked(raw, folder, tmp_path):
    for path in raw.glob(f"*_00{FIRST}*"):
        path.unlink()
    for channel, value in ((1, 0), (3, 16383)):
        repack(raw / f"ESIS{channel}_00{SECOND}.fit.gz", lambda data, value=value: np.full_like(data, value))
    output = tmp_path / "l3.fits"
    arguments = ("level3", raw, "--flight", folder / "flight.toml", "-o", output)
    result = run_well(*arguments, expect=["is blank", "could not be aligned"])
    assert re.search(r"ESIS1_00124.fit.gz is blank, all its pixels are 0; it is masked", result.stderr)
    assert re.search(r"ESIS3_00124.fit.gz is blank, all its pixels are 16383; it is masked", result.stderr)
    cube = ESISLevel3Cube.read(output)
    lost = np.isnan(cube.data).all((2, 3))
    assert lost.tolist() == [[True, False, True, False]]
    assert cube.mask[lost].all()
    assert not cube.mask[~lost].all((1, 2)).any()
    assert "1 (not aligned: no valid pixels)" in run_well("info", output).output


@pytest.mark.parametrize("content", [b"text", b""])
def test_info_of_something_else(content, tmp_path):
    path = tmp_path / "l3.fits"
    path.write_bytes(content)
    assert_error(run("info", path), r"l3\.fits cannot be read as FITS")
    assert_error(run("info", tmp_path / "none.fits"), r"does not exist")


def test_info_of_a_raw_frame_and_of_half_a_file(raw, formed, tmp_path):
    assert_error(run("info", frame(raw)), r"is not a cube of esis_ndcube")
    half = tmp_path / "half.fits"
    half.write_bytes(formed[0].read_bytes()[: formed[0].stat().st_size // 2])
    assert_error(run("info", half, expect=[TRUNCATED]), r"half\.fits")


def test_verbose_shows_where_an_error_came_from(folder, tmp_path):
    result = run("level3", folder / "raw", "--line", "Fe XII", "-o", tmp_path / "l3.fits", "--verbose")
    assert isinstance(result.exception, ValueError)
    assert result.exit_code == 1


def test_velocity(tmp_path):
    """The command writes what the function finds."""
    source, output = tmp_path / "l3.fits", tmp_path / "v.fits"
    cube = true_cube(simulate_flight(size=8, n_exposures=1, missing=False, blank=False))
    cube.write(source)
    shown = run_well("velocity", source, "-o", output, "--method", "window", "--fwhm", 10, "--overlap").output
    assert "systematic error" in shown
    expected = velocity_map(ESISLevel3Cube.read(source), method="window", fwhm=10 * u.arcsec, overlap=True)
    np.testing.assert_array_equal(ESISVelocityCube.read(output).data, expected.data)
    assert "exists" in run("velocity", source, "-o", output).output
    assert run("velocity", source, "-o", tmp_path / "no.fits", "--fwhm", 0).exit_code == 2
