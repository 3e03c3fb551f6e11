# ---- the target, if it is to be made ----

start_target() {
    [ "$EUID" = 0 ] || cannot "it mounts: run it as root, or give it a folder"
    glusterfs --version | head -n 1
@start@
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
    setsid glusterfs @where@ \
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
