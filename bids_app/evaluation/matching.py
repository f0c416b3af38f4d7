"""Match the lesions of two instance label maps by their overlap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bids_app.records import FloatArray, IntArray


@dataclass(frozen=True)
class Overlaps:
    """How much each reference lesion and each predicted lesion share.

    Attributes
    ----------
    shared : ndarray of int, shape (references, predictions)
        Voxels that both have.
    reference_voxels : ndarray of int, shape (references,)
    predicted_voxels : ndarray of int, shape (predictions,)
    reference_labels, predicted_labels : ndarray of int
        The labels that rows and columns stand for, rising.
    """

    shared: IntArray
    reference_voxels: IntArray
    predicted_voxels: IntArray
    reference_labels: IntArray
    predicted_labels: IntArray

    @property
    def iou(self) -> FloatArray:
        """Give intersection over union for each pair, shape (references, predictions)."""
        union = self.reference_voxels[:, None] + self.predicted_voxels[None, :] - self.shared
        return np.asarray(self.shared / union)


def match_instances(reference: IntArray, prediction: IntArray) -> Overlaps:
    """Count the voxels that reference and predicted lesions share.

    Parameters
    ----------
    reference, prediction : ndarray of int, same shape
        0 is background; any other number is a lesion, gaps allowed.

    Returns
    -------
    Overlaps
        Without rows or columns where there are no lesions.

    Raises
    ------
    ValueError
        The shapes differ.

    Examples
    --------
    >>> overlaps = match_instances(np.array([1, 1, 1, 0, 2]), np.array([0, 7, 7, 7, 0]))
    >>> overlaps.shared.tolist(), overlaps.iou.tolist()
    ([[2], [0]], [[0.5], [0.0]])
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"shapes differ: {reference.shape} and {prediction.shape}")
    either = (reference != 0) | (prediction != 0)
    rows, row = np.unique(reference[either], return_inverse=True)
    columns, column = np.unique(prediction[either], return_inverse=True)
    pairs = np.bincount(row * len(columns) + column, minlength=len(rows) * len(columns))
    table = pairs.reshape(len(rows), len(columns))
    is_reference, is_predicted = rows != 0, columns != 0
    return Overlaps(
        shared=table[np.ix_(is_reference, is_predicted)],
        reference_voxels=table.sum(axis=1)[is_reference],
        predicted_voxels=table.sum(axis=0)[is_predicted],
        reference_labels=rows[is_reference],
        predicted_labels=columns[is_predicted],
    )
