"""A run of nnU-Net's own training: what was asked for, where things lie, what is done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bids_app.documents import parse_json
from bids_app.errors import UsageError

RUN_FILE = "run.json"
# nnU-Net's name for the fold that trains on every case and leaves none out to validate on.
EVERY_CASE = "all"
_MOVED = "nnUNetMovedPlans"
_MOST_WORKERS = 12


@dataclass(frozen=True)
class Planner:
    """One of nnU-Net's planners, and the name that its plans get."""

    name: str
    plans: str
    module: str = "default_experiment_planner"


_RESIDUAL = "residual_unets.residual_encoder_unet_planners"
PLANNERS = {
    "plain": Planner("ExperimentPlanner", "nnUNetPlans"),
    "ResEncM": Planner("nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans", _RESIDUAL),
    "ResEncL": Planner("nnUNetPlannerResEncL", "nnUNetResEncUNetLPlans", _RESIDUAL),
    "ResEncXL": Planner("nnUNetPlannerResEncXL", "nnUNetResEncUNetXLPlans", _RESIDUAL),
    # The plain plan with a small network, and with one that is of no use but quick.
    "tiny": Planner("ExperimentPlanner", "nnUNetTinyPlans"),
    "small": Planner("ExperimentPlanner", "nnUNetSmallPlans"),
}


@dataclass(frozen=True)
class RunSettings:
    """What decides the result of a run; a run goes on with the same ones only.

    Attributes
    ----------
    dataset : str
        ``DatasetXXX_Name``.
    dataset_sha256 : str
    configuration : str
        ``2d`` or ``3d_fullres``.
    planner : str
        A key of `PLANNERS`; ``pretrained`` for the plan of the pretrained model.
    epochs, iterations : int
        Iterations are those of an epoch.
    pretrained : str or None
        Name and weights of the model that was started from.
    """

    dataset: str
    dataset_sha256: str
    configuration: str
    planner: str
    epochs: int
    iterations: int
    pretrained: str | None = None


@dataclass(frozen=True)
class Run:
    """A folder with nnU-Net's three folders in it.

    Attributes
    ----------
    folder : Path
    settings : RunSettings
    record : mapping
        What happened so far: ``id``, ``command``, ``hours``, ``versions``.
    """

    folder: Path
    settings: RunSettings
    record: Mapping[str, Any]

    @property
    def plans_name(self) -> str:
        """Name the plans file."""
        planner = PLANNERS.get(self.settings.planner)
        return planner.plans if planner else _MOVED

    @property
    def raw(self) -> Path:
        """Give the folder that lists the training cases."""
        return self.folder / "nnUNet_raw" / self.settings.dataset

    @property
    def preprocessed(self) -> Path:
        """Give the folder of plans and preprocessed cases."""
        return self.folder / "nnUNet_preprocessed" / self.settings.dataset

    @property
    def results(self) -> Path:
        """Give the folder of plans and folds that nnU-Net calls a trained model."""
        name = f"nnUNetTrainer__{self.plans_name}__{self.settings.configuration}"
        return self.folder / "nnUNet_results" / self.settings.dataset / name

    @property
    def pretrained(self) -> Path:
        """Give the folder of the exported model that the run starts from."""
        return self.folder / "pretrained"

    @property
    def is_prepared(self) -> bool:
        """Tell whether planning and preprocessing are done."""
        return (self.preprocessed / "prepared.json").is_file()

    def is_finished(self, fold: str) -> bool:
        """Tell whether a fold is trained, and validated where it leaves cases out."""
        place = self.results / f"fold_{fold}"
        files = [place / "checkpoint_final.pth"]
        if fold != EVERY_CASE:
            files.append(place / "validation" / "summary.json")
        return all(path.is_file() for path in files)

    def environment(
        self, environ: Mapping[str, str], n_cpus: int, training: bool
    ) -> dict[str, str]:
        """Give the environment of a process that runs nnU-Net's code.

        Parameters
        ----------
        environ : mapping
        n_cpus : int
        training : bool
            One core trains without processes for augmentation; planning needs at least one.
        """
        home = str(Path(__file__).resolve().parents[2])
        path = [home, *filter(None, [environ.get("PYTHONPATH")])]
        augmenters = min(_MOST_WORKERS, n_cpus - 1) if training else 1
        return {
            **environ,
            "PYTHONPATH": ":".join(path),
            "nnUNet_raw": str(self.folder / "nnUNet_raw"),
            "nnUNet_preprocessed": str(self.folder / "nnUNet_preprocessed"),
            "nnUNet_results": str(self.folder / "nnUNet_results"),
            "nnUNet_n_proc_DA": str(augmenters),
            "nnUNet_def_n_proc": str(n_cpus),
            # As nnU-Net's own commands do: its processes would fight for cores otherwise.
            **{f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")},
        }


def read_run(folder: Path) -> Run:
    """Read a run that was begun.

    Raises
    ------
    UsageError
        There is none.
    """
    path = folder / RUN_FILE
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        return Run(folder, RunSettings(**content["settings"]), content["record"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{folder} is no run of 'cordlesion train nnunet' ({path.name}: {error})."
        ) from error


def write_run(run: Run) -> None:
    """Write what `read_run` reads; the file is whole or as before."""
    run.folder.mkdir(parents=True, exist_ok=True)
    content = {"settings": asdict(run.settings), "record": dict(run.record)}
    part = run.folder / f".{RUN_FILE}.part"
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    part.replace(run.folder / RUN_FILE)


def check_same(run: Run, settings: RunSettings) -> None:
    """Refuse to go on with other settings than a run was begun with.

    Raises
    ------
    UsageError
        Names the first setting that differs.
    """
    before, now = asdict(run.settings), asdict(settings)
    for name, value in now.items():
        if before[name] == value:
            continue
        if name == "dataset_sha256":
            raise UsageError(
                f"The dataset has changed since the run in {run.folder} was begun; give a new "
                "RUN_DIR."
            )
        raise UsageError(
            f"The run in {run.folder} was begun with {name} {before[name]}, not {value}; give the "
            "same, or a new RUN_DIR."
        )


def validation_dice(run: Run, fold: str) -> dict[str, float]:
    """Read the mean Dice of each label over a fold's validation cases, as nnU-Net reports it.

    Returns
    -------
    dict
        By the label's name in ``dataset.json``; empty for the fold that leaves no case out.
    """
    if fold == EVERY_CASE:
        return {}
    place = run.results / f"fold_{fold}" / "validation"
    means = parse_json((place / "summary.json").read_text(encoding="utf-8"))["mean"]
    labels = parse_json((run.results / "dataset.json").read_text(encoding="utf-8"))["labels"]
    keys = {
        name: str(tuple(value) if isinstance(value, list) else value)
        for name, value in labels.items()
    }
    return {name: round(float(means[key]["Dice"]), 4) for name, key in keys.items() if key in means}
