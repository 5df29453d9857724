"""The view of a cube in a notebook: the words of `str`, and the images of one exposure."""

from html import escape

from esis_ndcube.utils.checks import split_images
from esis_ndcube.visualization._panels import name_panel
from esis_ndcube.visualization.style import (
    axis_names,
    exposure_title,
    image_data,
    middle_exposure,
    scale,
    valid_values,
)
from esis_ndcube.visualization.web import encode, shrink

# Pixels of a picture along its longer side, and its width on the page.
_SIDE = 240
_WIDTH = 160
# Colors are those of the notebook, light or dark; this gray is visible on either.
_RULE = "1px solid rgba(128, 128, 128, 0.5)"


def cube_html(cube, heading, facts):
    """
    Describe a cube in HTML that needs no other file.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        The cube; one exposure of a lazy cube is computed.
    heading : `str`
        Text above the table.
    facts : `dict` of `str`
        The rows of the table, by name.

    Returns
    -------
    `str`
        A part of a page.
    """
    cell = f"text-align: left; vertical-align: top; padding: 0.1em 1em 0.1em 0; border-bottom: {_RULE}"
    rows = [
        f'<tr><th scope="row" style="{cell}">{escape(name)}</th><td style="{cell}">{escape(text)}</td></tr>'
        for name, text in facts.items()
        if text
    ]
    name, _, rest = heading.partition(": ")
    return "\n".join(
        [
            '<div class="esis-cube">',
            f"<div><strong>{escape(name)}</strong> {escape(rest)}</div>",
            '<table style="border-collapse: collapse; margin: 0.4em 0">',
            *rows,
            "</table>",
            *_pictures(cube),
            "</div>",
        ]
    )


def _pictures(cube):
    """Lines that show the images of the exposure in the middle, on one scale."""
    if axis_names(cube)[-2:] != ["y", "x"]:
        return []
    exposure = middle_exposure(cube)
    norm, colormap = scale(valid_values(exposure), cube.unit)
    figures = []
    for image in split_images(exposure):
        data = image_data(image)
        shown = shrink(data, _SIDE)
        name = name_panel(image, data)
        width = round(_WIDTH * min(1, shown.shape[1] / shown.shape[0]))
        height = round(_WIDTH * min(1, shown.shape[0] / shown.shape[1]))
        style = f"display: block; margin: 0; max-width: none; border: {_RULE}; image-rendering: auto"
        figures.append(
            f'<figure style="margin: 0"><img src="{encode(norm(shown), colormap)}" width="{max(width, 1)}" '
            f'height="{max(height, 1)}" alt="{escape(name)}" style="{style}"><figcaption>{escape(name)}</figcaption>'
            "</figure>"
        )
    return [
        f"<div>{escape(exposure_title(exposure))}</div>",
        '<div style="display: flex; flex-wrap: wrap; gap: 0.6em; margin: 0.3em 0">',
        *figures,
        "</div>",
    ]
