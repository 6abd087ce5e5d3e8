#!/bin/sh
# Stops a unit that crashes again and again: ExecStopPost=+/usr/local/lib/audio-pipeline/stop-crash-loop UNIT
#
# systemd's own limit (StartLimitBurst=) also counts the starts that a person makes, and then refuses them. This program counts crashes
# only: after the eighth one within ten minutes it stops the unit, which stays `failed` until a person starts it. A stop in order,
# as by a person's restart, sets the count to zero.
set -eu

unit=$1
most=8
within_s=600
record=${CRASHES:-/run/audio-pipeline-crashes}/$unit

if [ "${SERVICE_RESULT:-success}" = success ]; then
    rm -f "$record"
    exit 0
fi
mkdir -p "${record%/*}"
now=$(date +%s)
echo "$now" >>"$record"
recent=$(awk -v since=$((now - within_s)) '$1 > since' "$record")
echo "$recent" >"$record"
if [ "$(echo "$recent" | wc -l)" -ge "$most" ]; then
    rm -f "$record"
    echo "$unit has crashed $most times within $((within_s / 60)) minutes, so it is not started again; a person can: systemctl restart $unit"
    systemctl stop --no-block "$unit"
fi
