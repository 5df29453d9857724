"""What the table of operations in the documentation says, cell by cell."""

import itertools

import pytest
from operations_table import OPERATIONS, PAGE, PROPERTIES

CELLS = list(itertools.product(OPERATIONS, PROPERTIES))


@pytest.mark.parametrize(("operation", "name"), CELLS, ids=[f"{o.label}-{name}" for o, name in CELLS])
def test_operation_keeps(operation, name):
    PROPERTIES[name](operation)


def test_the_page_says_what_is_proved():
    """Every cell is proved above, so the page must say yes; ``python tests/operations_table.py`` writes it."""
    rows = PAGE.read_text().split("   * - ")[1:]
    table = {label: cells for label, *cells in (row.rstrip().split("\n     - ") for row in rows)}
    assert list(table) == ["Operation", *(operation.label for operation in OPERATIONS)]
    assert table.pop("Operation") == list(PROPERTIES)
    assert all(cells == ["yes"] * len(PROPERTIES) for cells in table.values())
