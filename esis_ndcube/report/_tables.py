"""Tables for a page."""

from dataclasses import dataclass

import numpy as np

# Longer tables are folded.
_LONG = 12
_HEADINGS = {
    "frame_number": "Frame",
    "first": "First channel",
    "second": "Second channel",
    "dx": "Along x",
    "dy": "Along y",
}


@dataclass(frozen=True)
class PageTable:
    """
    A table of a page.

    Attributes
    ----------
    caption : `str`
        Heading of the table.
    columns : `list` of `str`
        Headings, with units.
    rows : `list` of `list` of `str`
        Cells.
    """

    caption: str
    columns: list
    rows: list

    @property
    def folded(self):
        """Whether the table is too long to be shown at once."""
        return len(self.rows) > _LONG

    @classmethod
    def of(cls, table, caption):
        """
        Show an astropy table.

        Parameters
        ----------
        table : `~astropy.table.Table`
            The table.
        caption : `str`
            Heading of the table.

        Returns
        -------
        `PageTable`
            The table with numbers in the formats of the astropy table.
        """
        columns, cells = [], []
        for name in table.colnames:
            column = table[name]
            # A column of times has no format.
            unit = str(getattr(column, "unit", None) or "")
            unit = f" [{unit}]" if unit else ""
            columns.append(_HEADINGS.get(name, name.replace("_", " ").capitalize()) + unit)
            cells.append([cell(value, column.info.format) for value in column])
        return cls(caption, columns, [list(row) for row in zip(*cells, strict=True)])


def cell(value, number_format=None):
    """
    The text of one value.

    Parameters
    ----------
    value : object
        A number, `bool` or text.
    number_format : `str`, optional
        Format of numbers, by default four decimals.

    Returns
    -------
    `str`
        A dash where the value is NaN.
    """
    value = getattr(value, "value", value)
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        # A minus and not a hyphen.
        return format(value, number_format or ".4f").replace("-", "−") if np.isfinite(value) else "–"
    return str(value)
