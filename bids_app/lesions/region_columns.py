"""The table of what the lesions of a session lie in: one row a lesion and region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bids_app.lesions.columns import Cell

_DICTIONARY: dict[str, dict[str, str]] = {
    "index": {"Description": "Number of the row."},
    "name": {"Description": "Name of the lesion within its session."},
    "lesion_index": {"Description": "Value of the lesion's voxels in the label image."},
    "region": {"Description": "Region of the template's white- and grey-matter atlas."},
    "fraction": {
        "Description": "Share of the lesion's volume in the region, 0 to 1, of what lies in any "
        "region of the atlas; partial volumes count as such.",
        "Units": "arbitrary",
    },
}
_DIGITS = 4


def region_column_names() -> list[str]:
    """List the columns in their order."""
    return list(_DICTIONARY)


def region_dictionary() -> Mapping[str, dict[str, str]]:
    """Describe the columns, without ``index``, which BIDS defines itself."""
    return {name: about for name, about in _DICTIONARY.items() if name != "index"}


DESCRIPTION = "Regions of the template's atlas that the lesions lie in."
"""What the table is."""


def region_rows(regions: Sequence[Mapping[str, float]]) -> list[dict[str, Cell]]:
    """Give the rows of all lesions, for each the largest fraction first.

    Parameters
    ----------
    regions : sequence of mapping
        For each lesion, in the order of its number, the fraction in each region.

    Returns
    -------
    list of dict
        Without rows for regions that a lesion does not reach (less than 0.00005).

    Examples
    --------
    >>> rows = region_rows([{"WM left rubrospinal tract": 0.25, "GM left dorsal horn": 0.75}])
    >>> [(row["index"], row["lesion_index"], row["region"], row["fraction"]) for row in rows]
    [(1, 1, 'GM left dorsal horn', 0.75), (2, 1, 'WM left rubrospinal tract', 0.25)]
    """
    rows: list[dict[str, Cell]] = [
        {
            "name": f"lesion-{lesion}",
            "lesion_index": lesion,
            "region": region,
            "fraction": round(fractions[region], _DIGITS),
        }
        for lesion, fractions in enumerate(regions, start=1)
        for region in sorted(fractions, key=lambda name: (-fractions[name], name))
    ]
    kept = [row for row in rows if row["fraction"]]
    # BIDS wants a number that no other row has.
    return [row | {"index": number} for number, row in enumerate(kept, start=1)]
