# ---- the calls, on one side ----

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

open() { # HANDLE NAME [append] [direct] [sync] [dsync]
    create "$1" "$2" there "${@:3}"
}

close() { # HANDLE
    local number=${files[$side$1]##*/}
    exec {number}>&-
    unset "files[$side$1]"
}

link() { # CLIENT OLD NEW
    ln --no-target-directory "$(at "$1" "$2")" "$(at "$1" "$3")"
}

rename() { # CLIENT OLD NEW
    mv --force --no-target-directory "$(at "$1" "$2")" "$(at "$1" "$3")"
}

unlink() { # CLIENT NAME
    command unlink "$(at "$1" "$2")"
}

chmod() { # CLIENT NAME MODE
    command chmod "$3" "$(at "$1" "$2")"
}

chown() { # CLIENT NAME UID:GID
    command chown "$3" "$(at "$1" "$2")"
}

pread() { # HANDLE OFFSET LENGTH
    dd if="${files[$side$1]}" iflag="skip_bytes${flags[$1]/,append/}" skip="$2" bs="$3" count=1
}

pwrite() { # HANDLE OFFSET LENGTH SEED: bytes that are nowhere zero, and differ everywhere
    seq "$4" inf | dd iflag=fullblock bs="$3" count=1 conv=notrunc \
        of="${files[$side$1]}" oflag="seek_bytes${flags[$1]}" seek="$2"
}

write_zeros() { # HANDLE OFFSET LENGTH
    dd if=/dev/zero bs="$3" count=1 conv=notrunc \
        of="${files[$side$1]}" oflag=seek_bytes seek="$2"
}

zero_range() { # HANDLE OFFSET LENGTH
    command fallocate --zero-range --offset "$2" --length "$3" "${files[$side$1]}"
}

discard() { # HANDLE OFFSET LENGTH
    command fallocate --punch-hole --offset "$2" --length "$3" "${files[$side$1]}"
}

allocate() { # HANDLE OFFSET LENGTH [--keep-size]
    timeout --signal=KILL 20 fallocate "${@:4}" --offset "$2" --length "$3" "${files[$side$1]}"
}

ftruncate() { # HANDLE SIZE
    command truncate --size "$2" "${files[$side$1]}"
}

truncate() { # CLIENT NAME SIZE
    command truncate --no-create --size "$3" "$(at "$1" "$2")"
}

age() { # HANDLE
    touch --no-create --date=@@long_ago@ "${files[$side$1]}"
}

fsync() { # HANDLE [--data]
    sync "${@:2}" "${files[$side$1]}"
}

setxattr() { # CLIENT NAME KEY VALUE
    setfattr --name "$3" --value "$4" "$(at "$1" "$2")"
}

getxattr() { # CLIENT NAME KEY
    getfattr --only-values --name "$3" "$(at "$1" "$2")"
}

removexattr() { # CLIENT NAME KEY
    setfattr --remove "$3" "$(at "$1" "$2")"
}

# ---- what is compared ----

# From this moment on file systems have another time.
wait_a_tick() {
    local before
    before=$(date +%s.%N)
    until [[ $moment > $before ]]; do
        touch "$work/tick"
        moment=$(stat --format %.9Y "$work/tick")
    done
}

# What changes a file sets its times.
times_are_set() { # HANDLE
    local mtime ctime
    read -r mtime ctime < <(stat --dereference --format '%.9Y %.9Z' "${files[target$1]}")
    if [[ $mtime < $moment ]]; then wrong "mtime was not set"; fi
    if [[ $ctime < $moment ]]; then wrong "ctime was not set"; fi
}

# What is discarded is free. Two blocks may be there for xattrs.
blocks_are_freed() { # HANDLE
    local ours right
    sync "${files[target$1]}" "${files[control$1]}"
    ours=$(stat --dereference --format %b "${files[target$1]}")
    right=$(stat --dereference --format %b "${files[control$1]}")
    [ "$ours" -le $((right + 2 * 8)) ] ||
        wrong "it has $ours blocks of 512 bytes, the control has $right"
}

# The bytes of a file without a name: it cannot be opened again, and is read once.
compare_open() { # HANDLE
    local side number
    for side in target control; do
        number=${files[$side$1]##*/}
        dd iflag=nocache count=0 status=none <&"$number"
        cat <&"$number" >"$work/$side.out" 2>&1
    done
    cmp --quiet "$work/target.out" "$work/control.out" ||
        wrong "the open file is not what it is on the control"
}
