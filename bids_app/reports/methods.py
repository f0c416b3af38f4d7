"""The methods paragraph of a report: what was done to this session, with its sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BIBLIOGRAPHY = {
    "isensee2021": (
        "Isensee et al. 2021",
        "@article{isensee2021, author={Isensee, Fabian and Jaeger, Paul F. and Kohl, Simon A. A. "
        "and Petersen, Jens and Maier-Hein, Klaus H.}, title={nnU-Net: a self-configuring method "
        "for deep learning-based biomedical image segmentation}, journal={Nature Methods}, "
        "volume={18}, pages={203--211}, year={2021}, doi={10.1038/s41592-020-01008-z}}",
    ),
    "billot2023": (
        "Billot et al. 2023",
        "@article{billot2023, author={Billot, Benjamin and others}, title={SynthSeg: Segmentation "
        "of brain MRI scans of any contrast and resolution without retraining}, journal={Medical "
        "Image Analysis}, volume={86}, pages={102789}, year={2023}, "
        "doi={10.1016/j.media.2023.102789}}",
    ),
    "studholme1999": (
        "Studholme et al. 1999",
        "@article{studholme1999, author={Studholme, Colin and Hill, Derek L. G. and Hawkes, David "
        "J.}, title={An overlap invariant entropy measure of 3D medical image alignment}, "
        "journal={Pattern Recognition}, volume={32}, pages={71--86}, year={1999}, "
        "doi={10.1016/S0031-3203(98)00091-0}}",
    ),
    "deleener2017": (
        "De Leener et al. 2017",
        "@article{deleener2017, author={De Leener, Benjamin and others}, title={SCT: Spinal Cord "
        "Toolbox, an open-source software for processing spinal cord MRI data}, "
        "journal={NeuroImage}, volume={145}, pages={24--43}, year={2017}, "
        "doi={10.1016/j.neuroimage.2016.10.009}}",
    ),
    "gorgolewski2017": (
        "Gorgolewski et al. 2017",
        "@article{gorgolewski2017, author={Gorgolewski, Krzysztof J. and others}, title={BIDS "
        "apps: Improving ease of use, accessibility, and reproducibility of neuroimaging data "
        "analysis methods}, journal={PLOS Computational Biology}, volume={13}, number={3}, "
        "pages={e1005209}, year={2017}, doi={10.1371/journal.pcbi.1005209}}",
    ),
}


def methods_paragraph(about: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Describe what was done, in sentences that a paper can take over.

    Parameters
    ----------
    about : mapping
        The sidecar of the session's lesion mask.

    Returns
    -------
    text : str
    bibtex : tuple of str
        An entry for each source that the text names.
    """
    contrasts, preset = about.get("Contrasts", {}), about.get("Preset", {})
    model = about.get("Model", {})
    reference, second = contrasts.get("reference") or "reference", contrasts.get("second")
    version = about.get("SoftwareVersion", "")
    used = ["gorgolewski2017", "isensee2021"]
    sentences = [
        f"Lesions of the spinal cord were segmented with CordLesion {version}, a BIDS App "
        f"({_cite('gorgolewski2017')}).",
        _alignment(reference, second, about.get("Registration", {}), used),
        f"Cord and lesions were predicted from the {reference}"
        f"{f' and the {second}' if second else ''} by the nnU-Net ({_cite('isensee2021')}) "
        f"model '{model.get('Name', 'unknown')}' (version {model.get('Version', 'unknown')}, "
        f"SHA-256 {str(model.get('WeightsSHA256', 'unknown'))[:12]}…)"
        f"{_box(model, used)} in {about.get('Precision', 'unknown')} on {about.get('Device', '')}.",
        _refining(preset, about.get("Threshold")),
        f"Lesions were measured by the definitions of the Spinal Cord Toolbox "
        f"({_cite('deleener2017')}).",
    ]
    used.append("deleener2017")
    text = " ".join(sentence for sentence in sentences if sentence)
    return text, tuple(_BIBLIOGRAPHY[key][1] for key in sorted(set(used)))


def _cite(key: str) -> str:
    return _BIBLIOGRAPHY[key][0]


def _alignment(
    reference: str, second: str | None, registration: Mapping[str, Any], used: list[str]
) -> str:
    if not second:
        return f"Only the {reference} was used."
    if not registration.get("Accepted"):
        return (
            f"The {second} was resampled to the {reference} by the scanner's coordinates, because "
            "registration did not improve on them."
        )
    used.append("studholme1999")
    return (
        f"The {second} was aligned to the {reference} by a rigid transform found from the cord in "
        f"both and normalised mutual information around it ({_cite('studholme1999')}), and "
        "resampled once."
    )


def _box(model: Mapping[str, Any], used: list[str]) -> str:
    if model.get("Name") != "box":
        return ""
    used.append("billot2023")
    return (
        ", trained on synthetic images with randomised contrast only "
        f"(after {_cite('billot2023')}),"
    )


def _refining(preset: Mapping[str, Any], threshold: float | None) -> str:
    if not preset:
        return ""
    what = "share of the folds that say lesion" if preset.get("combination") == "vote" else ""
    return (
        f"By the preset '{preset.get('name')}', voxels with a {what or 'lesion probability'} of "
        f"at least {threshold} within {preset.get('cord_dilation_mm')} mm of the cord "
        f"were kept in {preset.get('connectivity')}-connected lesions that reach "
        f"{preset.get('min_peak_probability')} and measure at least "
        f"{preset.get('min_lesion_volume_mm3')} mm³ and {preset.get('min_lesion_voxels')} "
        f"voxel{'' if preset.get('min_lesion_voxels') == 1 else 's'}."
    )
