#!/bin/sh
# Keeps the settings with which this host has passed its gate, and puts them back:
#
#   proved-settings keep|differ|back FOLDER PATH...
#
# keep: copy the paths into FOLDER. differ: print the paths that are not as in FOLDER. back: make them as in FOLDER again, with their
# times, so that a worker does not look older than they are; print what was changed. Exit code 3: FOLDER holds nothing.
set -eu

verb=$1
folder=$2
shift 2

differs() {
    [ -e "$1" ] || [ -e "$folder$1" ] || return 1
    ! diff --recursive --brief "$folder$1" "$1" >/dev/null 2>&1
}

case $verb in
    keep)
        umask 077
        rm -rf "$folder.new"
        mkdir "$folder.new"
        for path in "$@"; do
            [ -e "$path" ] || continue
            mkdir -p "$folder.new${path%/*}"
            cp --archive "$path" "$folder.new$path"
        done
        rm -rf "$folder.old"
        [ ! -d "$folder" ] || mv "$folder" "$folder.old"
        mv "$folder.new" "$folder"
        rm -rf "$folder.old"
        ;;
    differ)
        for path in "$@"; do
            ! differs "$path" || echo "$path"
        done
        ;;
    back)
        [ -d "$folder" ] || exit 3
        for path in "$@"; do
            [ -e "$folder$path" ] && differs "$path" || continue
            rm -rf "$path.back"
            cp --archive "$folder$path" "$path.back"
            [ ! -d "$path" ] || rm -rf "$path"
            mv --no-target-directory "$path.back" "$path"
            echo "$path"
        done
        ;;
    *)
        echo "proved-settings: $verb is none of keep, differ and back" >&2
        exit 64
        ;;
esac
