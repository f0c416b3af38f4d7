#!/bin/sh
# Installs CordLesion into an image; the Dockerfile and Singularity.def both call it.
#
#   install.sh deps SRC   an environment in /opt/cordlesion with what requirements.lock pins
#   install.sh app SRC    the program itself, below /opt/app as it will lie below /opt/cordlesion
#
# ACCELERATOR is cpu or cuda. For mirrors, pip's own variables (PIP_INDEX_URL, PIP_FIND_LINKS,
# PIP_EXTRA_INDEX_URL, PIP_CERT) are honoured; TORCH_INDEX names the index of CPU builds.
set -eu

step=$1 source=$2
venv=/opt/cordlesion
# An empty variable would not be the same as none to pip.
for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_CERT; do
    eval "[ -n \"\${$name:-}\" ]" || unset "$name"
done
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

deps() {
    case ${ACCELERATOR:-cpu} in
        cpu) [ -z "${TORCH_INDEX:-}" ] || PIP_EXTRA_INDEX_URL="${PIP_EXTRA_INDEX_URL:-} $TORCH_INDEX" ;;
        cuda) ;;
        *) echo "ACCELERATOR is cpu or cuda, not $ACCELERATOR." >&2; exit 1 ;;
    esac
    [ -z "${PIP_EXTRA_INDEX_URL:-}" ] || export PIP_EXTRA_INDEX_URL
    python3 -m venv "$venv"
    # What setup.cfg asks for, at the versions of the one lock.
    python3 - "$source/setup.cfg" > /tmp/deps.txt << 'PYTHON'
import configparser
import sys

config = configparser.ConfigParser()
config.read(sys.argv[1])
print(config["options"]["install_requires"].strip())
PYTHON
    "$venv/bin/pip" install --quiet --constraint "$source/requirements.lock" --requirement /tmp/deps.txt
    "$venv/bin/pip" check
    rm /tmp/deps.txt
    # What no run needs: headers, test programs and the large packages' own tests.
    packages=$(echo "$venv"/lib/python3*/site-packages)
    rm -rf "$packages/torch/include" "$packages/torch/test" "$packages/torch/share"
    find "$packages/torch/bin" -type f ! -name torch_shm_manager -delete
    # Nor OpenVINO for other devices and from files of other programs.
    for name in intel_gpu_plugin intel_npu_plugin onnx_frontend tensorflow_frontend \
        tensorflow_lite_frontend paddle_frontend pytorch_frontend jax_frontend gguf_frontend; do
        rm -f "$packages/openvino/libs/libopenvino_$name".so*
    done
    rm -f "$packages/openvino/libs/cache.json"
    for name in pandas scipy sklearn statsmodels sympy networkx skimage nilearn nibabel bids; do
        find "$packages/$name" -type d -name tests -prune -exec rm -rf {} +
    done
}

app() {
    "$venv/bin/pip" install --quiet --no-deps --prefix /opt/app "$source"
}

"$step"
