"""Where files go."""

from pathlib import Path

from sunpy import config

__all__ = ["target_path"]


def target_path(path, name, row):
    """
    Where a file goes, as `sunpy.net.Fido` has it.

    Parameters
    ----------
    path : path-like or None
        A folder, or a pattern with ``{file}`` and names of columns; by default sunpy's folder for downloads.
    name : `str`
        Name of the file.
    row : `~sunpy.net.base_client.QueryResponseRow`
        The file's row.

    Returns
    -------
    `pathlib.Path`
        The path.

    Examples
    --------
    >>> from esis_ndcube.net.paths import target_path
    >>> target_path("aia", "a.fits", None).as_posix()
    'aia/a.fits'
    """
    pattern = Path(config.get("downloads", "download_dir") if path is None else path).expanduser()
    if "{file}" not in str(pattern):
        return pattern / name
    return Path(str(pattern).format(**{**row.response_block_map, "file": name}))
