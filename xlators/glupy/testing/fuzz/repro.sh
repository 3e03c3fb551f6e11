#!/usr/bin/env bash
# @what@
#
# Usage: bash THIS_FILE [DIR]
#
# Each call is done twice: on the target and in a local folder, the control; then both must have the
# same. DIR, an empty folder of any mounted file system, is the target. Without DIR it is
# @usage@
#
# Exits 0 if nothing is wrong, 1 if something is, 2 if it cannot run. Nothing of it is left.
# Needs bash, coreutils, diffutils, util-linux, attr; without DIR root and GlusterFS.
# Made by glupy fuzz.

set -u
export LC_ALL=C

dir=${1-@default@}
names=(@names@)
work='' control='' tidy='' side='' outcome=''
targets=() # the target as each client has it
declare -A files # what is open, by side and handle
# shellcheck disable=SC2034 # of a script that neither writes nor reads
declare -A flags # what dd opens it with, by handle

cannot() {
    echo "cannot run: $*"
    exit 2
}

wrong() {
    echo "wrong: $*"
    exit 1
}

clean() {
    trap '' HUP INT TERM
    local path number
    for path in "${files[@]}"; do
        number=${path##*/}
        exec {number}>&-
    done
    if [ -n "$tidy" ]; then
        (cd "$tidy" && rm -f "${names[@]}")
    fi
    if [ -n "$work" ]; then@stop@
        rm -rf --one-file-system "$work"
    fi
}

@start@# ---- the calls, on one side ----

at() { # CLIENT NAME: its path
    local place=$control
    [ "$side" = control ] || place=${targets[$1 % ${#targets[@]}]}
    echo "$place/$2"
}
@calls@
# ---- what is compared ----
@checks@
call() { # SIDE CALL ARGUMENT...
    side=$1
    if "${@:2}" >"$work/$side.out" 2>"$work/err"; then
        outcome=ok
    elif [ $? = 137 ]; then
        outcome='no answer'
    else
        outcome=$(tail -n 1 "$work/err")
        outcome=${outcome##*: }
    fi
}

step() { # CALL ARGUMENT...
    local ours
    call target "$@"
    ours=$outcome
    echo "$*: $ours"
    call control "$@"
    [ "$outcome" != "Operation not supported" ] || cannot "the control has no $1"
    [ "$ours" = "$outcome" ] || wrong "$ours; on the control: $outcome"
    cmp --quiet "$work/target.out" "$work/control.out" || wrong "it returned other bytes"
    compare_files
}

compare_files() {
    local ours right number name
    mapfile -t ours < <(attributes "${targets[0]}")
    mapfile -t right < <(attributes "$control")
    for number in "${!names[@]}"; do
        [ "${ours[number]}" = "${right[number]}" ] ||
            wrong "${ours[number]}; on the control: ${right[number]#*: }"
        name=${names[number]}
        [ ! -e "$control/$name" ] || compare_bytes "$name"
    done
}

attributes() { # FOLDER: a line for each name
    (cd "$1" && stat --format '%n: %s bytes, %h links, mode %a of %u:%g' "${names[@]}" 2>&1)
}

compare_bytes() { # NAME
    local difference
    dd if="${targets[0]}/$1" iflag=nocache count=0 status=none # what the kernel has of it goes
    difference=$(cmp --print-bytes "${targets[0]}/$1" "$control/$1" 2>&1) ||
        wrong "$1 is not what it is on the control: ${difference##*differ: }"
}

compare_names() {
    local ours right
    ours=$(listed "${targets[0]}")
    right=$(listed "$control")
    [ "$ours" = "$right" ] || wrong "in the end there are: $ours; on the control: $right"
}

listed() { # FOLDER: its names and their xattrs, in one line
    (
        cd "$1" || exit
        ls --ignore=lost+found
        getfattr --dump --match='^user\.' "${names[@]}" 2>/dev/null
    ) | sort | paste --serial --delimiters=' '
}

# ---- all of it ----

trap clean EXIT
trap 'cannot interrupted' HUP INT TERM
work=$(mktemp --directory "${TMPDIR:-/var/tmp}/repro.XXXXXX") || cannot "no temporary folder"
control=$work/control
mkdir "$control"
@begin@
[ -d "${targets[0]}" ] || cannot "there is no folder ${targets[0]}"
[ -z "$(listed "${targets[0]}")" ] || cannot "${targets[0]} is not empty"
tidy=@tidy@

@lines@
echo "nothing is wrong"
