# What a machine on EC2 does from its first boot to its end: start the pod's program, pass notices on to it, tell its exit
# code by a tag, and shut itself down, which terminates it. What is set above, by sskai/cluster/ec2_requests.py:
#   POD REGION IMAGE MODULE PORT VARIABLES COMMAND ACCELERATORS MACHINES LIFETIME_MINUTES SHM_GIB POLL_SECONDS
#   POD_ENV=(NAME=VALUE ...) or ENV_URL; SECRETS=(NAME=PARAMETER ...), read here by the instance profile
set -u -o pipefail

IMDS=${IMDS:-http://169.254.169.254/latest}
WORK=${WORK:-/var/lib/sskai}
POD_USER=10001                    # the image's own (deploy/Dockerfile)
UNAVAILABLE=69 OUT_OF_MEMORY=71 DRAINED=75 MISCONFIGURED=78  # services/trainer/README.md
MASTER_PORT=29500

say() { echo "sskai: $*"; }

# A path below meta-data; fails where there is nothing. Version 2 of the service, with a token for each question.
imds() {
    local token
    token=$(curl -sf -m 2 -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60" "$IMDS/api/token") || return 1
    curl -sf -m 2 -H "X-aws-ec2-metadata-token: $token" "$IMDS/meta-data/$1"
}

# Tags on this machine, Key=...,Value=...: what the scheduler reads.
tell() {
    local pause
    for pause in 1 2 4 8 0; do
        aws ec2 create-tags --region "$REGION" --resources "$INSTANCE" --tags "$@" && return 0
        sleep "$pause"
    done
    return 1
}

finish() {
    say "ended with $1"
    tell "Key=sskai:exit-code,Value=$1" "Key=sskai:ended-at,Value=$(date -u +%Y-%m-%dT%H:%M:%SZ)" || say "could not tell it"
    shutdown -h now
    exit 0
}

# SIGTERM to the pod. It may not run yet: either we see `started`, or it sees `stopping`.
stop_pod() {
    local _
    touch "$WORK/stopping"
    [ -e "$WORK/started" ] || return 0
    for _ in 1 2 3 4 5; do
        if [ -n "$IMAGE" ]; then
            docker kill --signal TERM pod && return 0
        else
            kill -TERM "$(cat "$WORK/pid")" && return 0
        fi
        sleep 1
    done
}

# The time in one of IMDS's answers: {"action": "terminate", "time": "2017-09-18T08:22:00Z"}, {"noticeTime": "..."}
time_in() { sed -n 's/.*"\(time\|noticeTime\)" *: *"\([^"]*\)".*/\2/p' <<<"$1"; }

# A spot notice, or the scheduler's wish: a tag that the metadata service shows. A rebalance recommendation is passed on
# beside: a machine that may not write that tag must not miss its notice.
watch_for_notices() {
    local action hint=
    while sleep "$POLL_SECONDS"; do
        if [ -z "$hint" ] && hint=$(imds events/recommendations/rebalance); then
            tell "Key=sskai:rebalance-at,Value=$(time_in "$hint")" &
        fi
        if action=$(imds spot/instance-action); then
            stop_pod
            tell "Key=sskai:terminates-at,Value=$(time_in "$action")"
            return
        elif imds tags/instance/sskai:drain >/dev/null; then
            stop_pod
            return
        fi
    done
}

# A container reaches the metadata service, and the instance profile's keys, only over the host's own network.
close_metadata_to_pod() {
    iptables -I OUTPUT -d 169.254.169.254 -m owner --uid-owner "$POD_USER" -j REJECT
}

run_container() {
    local pair options=(--name pod --user "$POD_USER" --read-only --volume "$WORK/work:/tmp" --cap-drop ALL
        --security-opt no-new-privileges --shm-size "${SHM_GIB}g" --ulimit memlock=-1 --stop-timeout 120
        --memory "$(awk '/^MemTotal/ {printf "%d", $2 * 0.95}' /proc/meminfo)k")
    [ "$ACCELERATORS" -eq 0 ] || options+=(--gpus all)
    if [ "$MACHINES" -gt 1 ]; then
        close_metadata_to_pod || { say "cannot close the metadata service to the pod"; return "$MISCONFIGURED"; }
        options+=(--network host)
    elif [ -n "$PORT" ]; then
        options+=(--publish "$PORT:$PORT")
    fi
    for pair in "${POD_ENV[@]}"; do
        options+=(--env "$pair")
    done
    if [[ "$IMAGE" == *.dkr.ecr.*.amazonaws.com/* ]]; then
        aws ecr get-login-password --region "$(cut -d. -f4 <<<"$IMAGE")" |
            docker login --username AWS --password-stdin "${IMAGE%%/*}" || say "no login to $IMAGE"
    fi
    docker pull --quiet "$IMAGE" || docker pull --quiet "$IMAGE" || return "$UNAVAILABLE"
    docker create "${options[@]}" "$IMAGE" python -m "$MODULE" || return "$MISCONFIGURED"
    touch "$WORK/started"
    [ ! -e "$WORK/stopping" ] || return "$DRAINED"
    docker start --attach pod
    local code=$?
    [ "$(docker inspect --format '{{.State.OOMKilled}}' pod)" != true ] || code=$OUT_OF_MEMORY
    return "$code"
}

run_command() {
    close_metadata_to_pod || { say "cannot close the metadata service to the pod"; return "$MISCONFIGURED"; }
    cd "$WORK/work" || return "$MISCONFIGURED"
    touch "$WORK/started"
    [ ! -e "$WORK/stopping" ] || return "$DRAINED"
    setpriv --reuid "$POD_USER" --regid "$POD_USER" --clear-groups \
        env "HOME=$WORK/work" "TMPDIR=$WORK/work" "${POD_ENV[@]}" bash -c "exec $COMMAND" &
    echo $! >"$WORK/pid"
    wait $!
}

[ -z "$LIFETIME_MINUTES" ] || shutdown -h "+$LIFETIME_MINUTES"
mkdir -p "$WORK/work" && chown "$POD_USER" "$WORK/work"
INSTANCE=$(imds instance-id) || { say "no metadata service"; shutdown -h now; exit 1; }
watch_for_notices &

if [ -n "$ENV_URL" ]; then
    curl -sf -m 60 --retry 5 "$ENV_URL" >"$WORK/env.sh" || finish "$UNAVAILABLE"
    . "$WORK/env.sh"
fi
for secret in "${SECRETS[@]}"; do
    value=$(aws ssm get-parameter --region "$REGION" --with-decryption --name "${secret#*=}" \
        --query Parameter.Value --output text) || { say "no parameter ${secret#*=}"; finish "$MISCONFIGURED"; }
    POD_ENV+=("${secret%%=*}=$value")
done
if [ "$MACHINES" -eq 1 ]; then
    POD_ENV+=("SSKAI_MACHINE_ID=$INSTANCE")
else
    POD_ENV+=("SSKAI_MACHINE_ID=$POD")
    # The scheduler names rank 0's address by a tag as soon as all members are there.
    for _ in $(seq 150); do
        MASTER=$(imds tags/instance/sskai:master) && break
        sleep "$POLL_SECONDS"
    done
    RANK=$(imds ami-launch-index) || RANK=
    [ -n "${MASTER:-}" ] && [ -n "$RANK" ] || finish "$UNAVAILABLE"
    POD_ENV+=("RANK=$RANK" "WORLD_SIZE=$MACHINES" "MASTER_ADDR=$MASTER" "MASTER_PORT=$MASTER_PORT")
fi

if [ -n "$PORT" ]; then
    POD_ENV+=("${VARIABLES}_PORT=$PORT" "${VARIABLES}_HOST=$(imds local-ipv4)") || finish "$UNAVAILABLE"
fi

if [ -n "$IMAGE" ]; then run_container; else run_command; fi
finish $?
