#!/usr/bin/env bash
# Defects of stock GlusterFS that want a glusterd. It has a network, a /run and processes of its own.
#
# Usage, as root: bash THIS_FILE NAME
#
# long-value       a value of 8,000 bytes for an option of a stopped volume ends glusterd
# unlinked-names   of three names of a file that are unlinked while a brick is away two come back
#
# Exits 0 if nothing is wrong, 1 if something is, 2 if it cannot run. Nothing of it is left.
# Needs bash, coreutils, util-linux, iproute2 and GlusterFS.

set -u

cannot() {
    echo "cannot run: $*"
    exit 2
}

if [ "${2-}" != inside ]; then
    [ "$EUID" = 0 ] || cannot "it wants root"
    exec unshare --net --mount --pid --fork --mount-proc --kill-child bash "$0" "${1-none}" inside
fi

clean() {
    exec 2>/dev/null
    kill -KILL -1 # of this namespace
    wait
    umount "$work/mnt"
    rm -rf --one-file-system "$work"
}

start_glusterd() {
    mount -t tmpfs tmpfs /run || cannot "there is no /run of its own"
    mkdir -p /run/gluster /run/lock
    ip link set lo up || cannot "there is no network of its own"
    cat >"$work/glusterd.vol" <<END
volume management
    type mgmt/glusterd
    option working-directory $work/state
    option transport-type socket
end-volume
END
    glusterfs --version | head -n 1
    (
        cd "$work" || exit
        exec glusterd --no-daemon --volfile="$work/glusterd.vol" --log-file="$work/log"
    ) >"$work/output" 2>&1 &
    answers 60 || cannot "glusterd does not start: $(tail -n 3 "$work/log")"
}

answers() { # SECONDS: glusterd does, within that time
    timeout "$1" bash -c 'until gluster volume list; do sleep 0.2; done' >/dev/null 2>&1
}

volume() { # WORD...
    timeout 60 gluster --mode=script volume "$@"
}

# An option's name may be anything in `user`.
long-value() {
    volume create repro "$(hostname):$work/brick" force || cannot "there is no volume"
    timeout 10 gluster volume set repro user.x "$(head -c 8000 /dev/zero | tr '\0' x)"
    answers 10 || wrong="glusterd does not answer any more: $(tail -n 1 "$work/output")"
}

unlinked-names() {
    volume create repro replica 3 "$(hostname):$work/"brick-{0,1,2} force || cannot "no volume"
    volume start repro || cannot "it does not start"
    mkdir "$work/mnt"
    glusterfs --volfile-server=localhost --volfile-id=repro "$work/mnt"
    touch "$work/mnt/a" || cannot "it is not mounted"
    for name in b c d; do ln "$work/mnt/a" "$work/mnt/$name"; done
    kill -KILL "$(cat /run/gluster/vols/repro/*-brick-0.pid)"
    rm "$work/mnt/"{b,c,d}
    volume start repro force
    for ((tries = 0; tries < 100; tries++)); do
        sleep 0.5
        volume heal repro >/dev/null 2>&1
        # All three tell, and none has anything to be healed.
        [ "$(volume heal repro info | grep --count '^Number of entries: 0$')" = 3 ] || continue
        [ "$(echo "$work"/brick-0/*)" = "$work/brick-0/a" ] || wrong="healed: $(ls "$work/brick-0")"
        return
    done
    cannot "it is not healed"
}

work=$(mktemp --directory "${TMPDIR:-/var/tmp}/repro.XXXXXX") || cannot "no temporary folder"
trap clean EXIT
trap 'cannot interrupted' HUP INT TERM
wrong=
case $1 in
    long-value | unlinked-names) start_glusterd && "$1" ;;
    *) cannot "NAME is long-value or unlinked-names" ;;
esac
if [ -n "$wrong" ]; then
    echo "wrong: $wrong" | paste --serial --delimiters=' '
    exit 1
fi
echo "nothing is wrong"
