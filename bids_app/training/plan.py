"""The plan of the box's network, in nnU-Net v2's own format."""

from __future__ import annotations

from typing import Any

SPACING_MM = 1.0
PATCH = (64, 64, 64)
FEATURES = (16, 32, 64, 128, 160)
WEIGHTS_FILE = "fold_0.safetensors"
DATASET_NAME = "Dataset100_CordLesionSynthetic"


def box_architecture() -> dict[str, Any]:
    """Give the box's network as nnU-Net's plans describe one: a PlainConvUNet."""
    stages = len(FEATURES)
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": list(FEATURES),
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * stages,
            "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
            "n_conv_per_stage": [2] * stages,
            "n_conv_per_stage_decoder": [2] * (stages - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def box_plans() -> dict[str, Any]:
    """Give the nnU-Net plans of the box's network.

    Resampling is nnU-Net's PyTorch variant (linear in-plane, nearest across thick slices), the
    same function that makes the training patches.

    Returns
    -------
    dict
        Content of a ``plans.json``.
    """
    resampling = {"is_seg": False, "force_separate_z": None, "memefficient_seg_resampling": False}
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(PATCH),
        "median_image_size_in_voxels": [192.0, 128.0, 64.0],
        "spacing": [SPACING_MM] * 3,
        "normalization_schemes": ["ZScoreNormalization", "ZScoreNormalization"],
        "use_mask_for_norm": [False, False],
        "resampling_fn_data": "resample_torch_fornnunet",
        "resampling_fn_seg": "resample_torch_fornnunet",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True},
        "resampling_fn_probabilities": "resample_torch_fornnunet",
        "resampling_fn_probabilities_kwargs": resampling,
        "architecture": box_architecture(),
        "batch_dice": True,
    }
    statistics = {"max": 1.0, "mean": 0.0, "median": 0.0, "min": 0.0, "percentile_00_5": 0.0,
                  "percentile_99_5": 1.0, "std": 1.0}  # fmt: skip
    return {
        "dataset_name": DATASET_NAME,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [SPACING_MM] * 3,
        "original_median_shape_after_transp": [192, 128, 64],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": statistics, "1": statistics},
    }


def box_dataset() -> dict[str, Any]:
    """Give the nnU-Net ``dataset.json`` of the box's network."""
    return {
        "channel_names": {"0": "T2w", "1": "second"},
        "labels": {"background": 0, "cord": [1, 2], "lesion": 2},
        "regions_class_order": [1, 2],
        "numTraining": 0,
        "file_ending": ".nii.gz",
        "image_orientation": "LPI",
        "description": "Synthetic spines only; no scan of any person.",
    }
