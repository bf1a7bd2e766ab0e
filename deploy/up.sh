#!/bin/sh
# One command: secrets where there are none, images where they are not built, and everything up and healthy.
set -eu
cd "$(dirname "$0")/.."
deploy/fill-env.sh .
docker compose up --build --detach --wait "$@"
echo "http://127.0.0.1:8000 answers to the key in .env: SSKAI_ADMIN_KEY"
