"""The table of operations in the documentation, cell by cell."""

import itertools

import pytest
from operations_table import OPERATIONS, PAGE, PROPERTIES

# Reprojection takes seconds; daily only by interpolation.
SLOW = "``reproject_to``, adaptive", "``reproject_to``, exact", "``reproject_to`` the WCS of a cube"
CELLS = [
    pytest.param(o, name, id=f"{o.label}-{name}", marks=pytest.mark.slow if o.label in SLOW else ())
    for o, name in itertools.product(OPERATIONS, PROPERTIES)
]


@pytest.mark.slow
@pytest.mark.parametrize(("operation", "name"), CELLS)
def test_operation_keeps(operation, name):
    if name in operation.lacks:
        # The page would say too little if it did.
        with pytest.raises((AssertionError, TypeError)):
            PROPERTIES[name](operation)
    else:
        PROPERTIES[name](operation)


def test_the_page_says_what_is_proved():
    """Every cell is proved above, so this is what it must say; ``python tests/tools/operations_table.py`` writes it."""
    rows = PAGE.read_text().split("   * - ")[1:]
    table = {label: cells for label, *cells in (row.rstrip().split("\n     - ") for row in rows)}
    assert list(table) == ["Operation", *(operation.label for operation in OPERATIONS)]
    assert table.pop("Operation") == list(PROPERTIES)
    for operation in OPERATIONS:
        assert table[operation.label] == [operation.lacks.get(name, "yes") for name in PROPERTIES]
