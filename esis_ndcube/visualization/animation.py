"""Movies of the exposures of a cube."""

from itertools import chain
from pathlib import Path

import numpy as np
from matplotlib.animation import FFMpegWriter, PillowWriter
from tqdm import tqdm

from esis_ndcube.utils.checks import check_cube, is_cube, split_images
from esis_ndcube.utils.output import check_output, temporary_output
from esis_ndcube.visualization._panels import draw_panels, name_panel
from esis_ndcube.visualization.style import axis_names, good_images, image_data, in_memory, scale, title, valid_values

__all__ = ["animate"]


def animate(cube, path, *, context=None, fps=5, norm=None, cmap=None, dpi=100, overwrite=False, progress=False):
    """
    Write a movie of the exposures of a cube, all channels side by side on one scale.

    Each exposure is computed twice if the cube is lazy, and only a few are in memory at a time.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        Array axes (time, channel, y, x), or (time, y, x).
    path : path-like
        The file; ``.gif`` needs no other program, ``.mp4`` needs ffmpeg.
    context : `~esis_ndcube.level3.context.ContextCube`, optional
        Images of another telescope to show beside the cube, of the same exposures, as ``cube.context`` gives them.
    fps : `float`, optional
        Exposures per second.
    norm : `~matplotlib.colors.Normalize`, optional
        The scale; by default it follows from the valid pixels of all exposures, as in ``cube.plot``.
    cmap : `str` or `~matplotlib.colors.Colormap`, optional
        The color map.
    dpi : `float`, optional
        Pixels per inch; a panel is about 4 inches wide.
    overwrite : `bool`, optional
        Whether to replace a file that exists.
    progress : `bool`, optional
        Show a progress bar.

    Returns
    -------
    `pathlib.Path`
        The file, which is only there when it is whole.

    Raises
    ------
    FileNotFoundError
        If ffmpeg is needed and not found, or the folder does not exist.
    OSError
        If the file cannot be written, or exists.
    TypeError
        If the context is not a cube.
    ValueError
        If the name of the file has another ending, the cube or the context have other axes or exposures, or the output
        is the file from which they are read lazily.

    Examples
    --------
    >>> from esis_ndcube.simulate import simulate_flight, true_cube
    >>> from esis_ndcube.visualization import animate
    >>> cube = true_cube(simulate_flight(size=8, n_exposures=2))
    >>> animate(cube, getfixture("tmp_path") / "flight.gif", dpi=40).stat().st_size > 0
    True
    """
    check_cube(cube)
    path = Path(path)
    writer = _writer(path, fps)
    _check(cube, context)
    cubes = [cube] if context is None else [cube, context]
    path = check_output(path, overwrite, inputs=cubes)
    count = cube.shape[0]
    bar = tqdm(total=count * (len(cubes) + 1), desc="Movie", disable=not progress)
    scales = []
    for index, item in enumerate(cubes):
        sample, good = [], good_images(item).reshape(count, -1).any(axis=1)
        for exposure, counts in zip(_exposures(item), good, strict=True):
            if counts:
                sample.append(_thin(valid_values(exposure), count))
            bar.update()
        found = scale(np.concatenate(sample), item.unit)
        scales.append((norm or found[0], cmap or found[1]) if index == 0 else found)
    frames = zip(*map(_exposures, cubes), strict=True)
    first = next(frames)
    panels = draw_panels(
        [(split_images(exposure), *style) for exposure, style in zip(first, scales, strict=True)], title(first[0])
    )
    # The limits are fixed, so that nothing moves from frame to frame.
    panels.figure.draw_without_rendering()
    panels.figure.set_layout_engine("none")
    with (
        bar,
        temporary_output(path, overwrite=overwrite, inputs=cubes) as part,
        writer.saving(panels.figure, part, dpi),
    ):
        for exposures in chain([first], frames):
            _show(panels, [image for exposure in exposures for image in split_images(exposure)])
            panels.heading.set_text(title(exposures[0]))
            writer.grab_frame()
            bar.update()
    return path


def _writer(path, fps):
    """Matplotlib's writer of such files."""
    suffix = path.suffix.lower()
    if suffix not in (".gif", ".mp4"):
        msg = f"got the file {path.name}, expected a name that ends with .gif or .mp4"
        raise ValueError(msg)
    if suffix == ".gif":
        return PillowWriter(fps=fps)
    if not FFMpegWriter.isAvailable():
        msg = (
            f"cannot write {path.name}: MP4 needs the program ffmpeg, which is not found; write a .gif, or install "
            "ffmpeg, for example with conda, or with the packages of the operating system"
        )
        raise FileNotFoundError(msg)
    return FFMpegWriter(fps=fps)


def _check(cube, context):
    names = axis_names(cube)
    if names not in (["time", "channel", "y", "x"], ["time", "y", "x"]):
        msg = f"got a cube with axes {names}, expected (time, channel, y, x) or (time, y, x): slice it with ranges"
        raise ValueError(msg)
    if context is None:
        return
    if not is_cube(context):
        msg = f"got a context of type {type(context).__name__}, expected a ContextCube: use cube.context(...)"
        raise TypeError(msg)
    expected = cube.shape[:1] + cube.shape[-2:]
    if context.shape != expected or not np.all(context.time == cube.time):
        msg = f"got a context of shape {context.shape}, expected {expected} and the same times: use cube.context(...)"
        raise ValueError(msg)


def _exposures(cube):
    """The exposures, one after the other, in memory."""
    return (in_memory(cube[index]) for index in range(cube.shape[0]))


def _thin(values, count):
    """Some of the values of an exposure, so that the values of ``count`` exposures stay few."""
    return values[:: max(1, values.size * count // 4_000_000)]


def _show(panels, images):
    for axis, artist, image in zip(panels.axes, panels.artists, images, strict=True):
        data = image_data(image)
        artist.set_data(data)
        axis.set_title(name_panel(image, data))
