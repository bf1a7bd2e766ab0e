#!/bin/sh
# Runs once per start in a container of k3s's own image.
set -eu
sed "s#https://127.0.0.1:6443#https://k3s:6443#" /output/kubeconfig.yaml > /tmp/kubeconfig.yaml
export KUBECONFIG=/tmp/kubeconfig.yaml
sed "s/NETWORK/$NETWORK/" /etc/sskai/sskai.yaml | kubectl apply --filename -
kubectl wait --for=condition=Ready node/on-demand node/spot --timeout=120s
# The type whose price they stand for; k3s calls every node "k3s".
kubectl label --overwrite node on-demand spot node.kubernetes.io/instance-type=c5.xlarge
