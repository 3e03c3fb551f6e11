# shellcheck shell=bash
# What the scripts beside share: Debian's packages, and failures that are one line each. They set `log`.

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
fail() { say "$*"; exit 1; }

# Run a command with its output in the log; if it fails, say the given line and the first error in the log.
logged() {
    local line=$1 from
    shift
    from=$(wc -l <"${log:?}")
    "$@" >>"$log" 2>&1 </dev/null 9>&- && return # a daemon must not keep the lock
    fail "$line: $(tail -n "+$((from + 1))" "$log" |
        grep -v subprocess-exited | grep -m 1 -iE '^(E:|error|fatal)|error:') (see $log)"
}

# Install what the caller has found missing.
install_packages() {
    [ $# != 0 ] || return 0
    say "installing $*"
    export DEBIAN_FRONTEND=noninteractive
    logged "Debian's package lists cannot be fetched, is there a network?" \
        apt-get -o APT::Update::Error-Mode=any update
    logged "Debian packages cannot be installed" \
        apt-get install -y --no-install-recommends "$@"
}
