#!/bin/sh
# Gives the image of training pods to both of k3s's nodes, which have no registry of ours to pull it from.
set -eu
cd "$(dirname "$0")/../.."
image=$(docker compose config --images trainer | grep '^sskai/trainer:')
for node in k3s k3s-spot; do
  docker save "$image" | docker compose exec --no-TTY "$node" ctr --namespace k8s.io images import -
done
