#!/bin/bash
# One job on all hosts of a Cloud TPU slice.
#
#   NAME=my-v5e-64 ZONE=us-west4-a configs/launch/tpu_pod.sh --config=… --workdir=/mnt/runs/photos
#
# What follows goes to `vit_jax train`. The workdir, and the data, must be on a disk that all hosts
# have mounted (Filestore, Cloud Storage FUSE). The package must be on each host; from a checkout:
#
#   gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all \
#     --command="python3 -m venv venv && venv/bin/pip install '/mnt/vit_jax[tpu]'"
set -euo pipefail
: "${NAME:?the name of the TPU}" "${ZONE:?its zone}"

# --distributed asks the metadata of the slice who the others are. The same command again resumes.
gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all \
  --command="venv/bin/vit_jax train --distributed $(printf '%q ' "$@")"
