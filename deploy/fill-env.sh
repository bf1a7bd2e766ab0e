#!/bin/sh
# fill-env.sh [FOLDER]: makes .env from .env.example, or completes the one that is there: variables that it lacks are
# added, empty secrets are drawn. What has a value stays.
set -eu
folder=${1:-$(dirname "$0")/..}
example=$(dirname "$0")/../.env.example
umask 077
touch "$folder/.env"
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
new=$(mktemp "$folder/.env.XXXXXX")
trap 'rm -f "$new"' EXIT
while IFS= read -r line; do
  name=${line%%=*}
  case $line in
    '#'* | '') echo "$line"; continue ;;
  esac
  known=$(grep "^$name=" "$folder/.env" | tail -n 1 || true)
  value=${known#*=}
  [ -n "$known" ] || value=${line#*=}
  if [ -z "$value" ]; then
    value=$(random)
    [ "$name" != SSKAI_ADMIN_KEY ] || value=sskai_$value
  fi
  echo "$name=$value"
done < "$example" > "$new"
# What only the old file has is kept below.
grep -E '^[A-Za-z_][A-Za-z0-9_]*=' "$folder/.env" | while IFS= read -r line; do
  grep -q "^${line%%=*}=" "$new" || echo "$line"
done > "$new.rest"
cat "$new.rest" >> "$new"
rm "$new.rest"
mv "$new" "$folder/.env"
