#!/usr/bin/env bash
# 2 calls after which something is wrong on shard:posix: a fallocate that leaves out shards past the end is never answered (features/shard).
#
# Usage: bash THIS_FILE [DIR]
#
# Each call is done twice: on the target and in a local folder, the control; then both must have the
# same. DIR, an empty folder of any mounted file system, is the target. Without DIR it is
# a mount of its own, of bricks in TMPDIR or /var/tmp.
#
# Exits 0 if nothing is wrong, 1 if something is, 2 if it cannot run. Nothing of it is left.
# Needs bash, coreutils, diffutils, util-linux, attr; without DIR root and GlusterFS.
# Made by glupy fuzz.

set -u
export LC_ALL=C

dir=${1-}
names=(a)
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
    if [ -n "$work" ]; then
        stop_target
        rm -rf --one-file-system "$work"
    fi
}

# ---- the target, if it is to be made ----

start_target() {
    [ "$EUID" = 0 ] || cannot "it mounts: run it as root, or give it a folder"
    glusterfs --version | head -n 1
    mkdir --parents "$work/store/brick-0"
    start_brick brick-0 <<END
volume brick-posix
    type storage/posix
    option directory $work/store/brick-0
    option ctime off
end-volume

volume brick-locks
    type features/locks
    subvolumes brick-posix
end-volume

volume brick-io-threads
    type performance/io-threads
    subvolumes brick-locks
end-volume

volume brick
    type debug/io-stats
    subvolumes brick-io-threads
end-volume

volume brick-server
    type protocol/server
    option transport-type unix
    option transport.socket.listen-path $work/brick-0/socket
    option auth-path brick
    option auth.addr.brick.allow *
    option rpc-auth-allow-insecure on
    subvolumes brick
end-volume
END
    cat >"$work/client.vol" <<END
volume brick-0-client
    type protocol/client
    option transport-type unix
    option remote-host localhost
    option transport.socket.connect-path $work/brick-0/socket
    option remote-subvolume brick
end-volume

volume shard
    type features/shard
    option shard-block-size 4194304
    subvolumes brick-0-client
end-volume
END
    mount_client 0
}

# Its volfile is the input. glusterfsd returns when the brick serves.
start_brick() { # NAME
    mkdir "$work/$1"
    cat >"$work/$1.vol"
    setsid glusterfsd --volfile="$work/$1.vol" \
        --log-file="$work/$1.log" --pid-file="$work/$1.pid" ||
        cannot "$1 does not start: $(tail -n 3 "$work/$1.log")"
}

# Its volfile is the input. glusterfs returns when it is mounted; the kernel keeps no attributes.
mount_client() { # NUMBER
    local mountpoint=$work/mount-$1
    mkdir "$mountpoint"
    setsid glusterfs --volfile="$work/client.vol" \
        --log-file="$mountpoint.log" --pid-file="$mountpoint.pid" \
        --attribute-timeout=0 --entry-timeout=0 "$mountpoint"
    [ "$(stat --format %i "$mountpoint")" = 1 ] ||
        cannot "it is not mounted: $(tail -n 3 "$mountpoint.log")"
    targets+=("$mountpoint")
}

stop_target() {
    local pid path mounted
    while read -r pid; do
        kill -KILL "$pid"
        while [ -e "/proc/$pid/exe" ]; do sleep 0.01; done
    done < <(cat "$work"/*.pid 2>/dev/null)
    mapfile -t mounted < <(cut --delimiter=' ' --fields=2 /proc/self/mounts)
    for path in "${mounted[@]}"; do
        # Whose call has hung may take a moment to end.
        [[ $path != "$work"/* ]] || umount "$path" 2>/dev/null || umount --lazy "$path"
    done
}

# ---- the calls, on one side ----

at() { # CLIENT NAME: its path
    local place=$control
    [ "$side" = control ] || place=${targets[$1 % ${#targets[@]}]}
    echo "$place/$2"
}

# Open a file for reading and writing as HANDLE, of the client of this number.
create() { # HANDLE NAME [excl] [trunc] [append] [direct] [sync] [dsync]
    local path number flag
    path=$(at "$1" "$2")
    flags[$1]=
    for flag in "${@:3}"; do
        case $flag in
            excl) (set -o noclobber && : >"$path") || return ;;
            trunc) : >"$path" || return ;;
            there) : <"$path" || return ;;
            *) flags[$1]+=,$flag ;; # for dd
        esac
    done
    exec {number}<>"$path" && files[$side$1]=/proc/self/fd/$number
}

allocate() { # HANDLE OFFSET LENGTH [--keep-size]
    timeout --signal=KILL 20 fallocate "${@:4}" --offset "$2" --length "$3" "${files[$side$1]}"
}

# ---- what is compared ----

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
if [ -n "$dir" ]; then targets=("$dir"); else start_target; fi
[ -d "${targets[0]}" ] || cannot "there is no folder ${targets[0]}"
[ -z "$(listed "${targets[0]}")" ] || cannot "${targets[0]} is not empty"
tidy=$dir

step create 0 a
step allocate 0 8388608 4096
compare_names
echo "nothing is wrong"
