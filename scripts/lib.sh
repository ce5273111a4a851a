# shellcheck shell=bash
# What the scripts share. To be sourced.

# Debian's users do not have these on their PATH; nginx, tc and ethtool are there.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { echo "set-up: $*" >&2; }

die() {
    say "$*"
    exit 1
}

PROGRESS_SECONDS=10

# Run a command, and report every 10 seconds that it still runs: with_progress WHAT COMMAND...
# The reporter ends when its pipe is closed, also if this shell is killed or ignores signals.
with_progress() {
    local what=$1 open status=0
    shift
    exec {open}> >(report_time "$what")
    local reporter=$!
    "$@" {open}>&- || status=$?
    exec {open}>&-
    wait "$reporter" || true
    return "$status"
}

report_time() {
    local begun=$SECONDS status
    while true; do
        status=0
        read -r -t "$PROGRESS_SECONDS" || status=$?
        ((status > 128)) || return 0 # not the timeout, but the end of the pipe
        say "$1: $((SECONDS - begun)) s so far"
    done
}

# What apt-get prints about sizes, in one line.
apt_sizes() {
    sed -nE -e 's/^Need to get (.*) of archives\.$/to fetch: \1/p' \
        -e 's/^After this operation, (.*) of additional disk space will be used\.$/on disk: \1/p' |
        paste -sd ';' | sed 's/;/, /'
}

# True as root, with a sudo that asks nothing, or with a terminal for sudo to ask its password on.
can_be_root() {
    ((EUID == 0)) && return
    command -v sudo >/dev/null || return 1
    sudo -n true 2>/dev/null && return
    [[ -t 0 ]] && id -nG | tr ' ' '\n' | grep -qxE 'sudo|wheel|admin|root'
}

# Run a command as root; LB_* settings go with it, and nothing that Python writes by the way stays
# in the tree as root's.
as_root() {
    if ((EUID == 0)); then
        "$@"
        return
    fi
    local name keep=()
    for name in $(compgen -e); do
        case $name in
            LB_* | LC_* | LANG | TERM | NO_COLOR | FORCE_COLOR | COLUMNS | CI)
                keep+=("$name=${!name}")
                ;;
        esac
    done
    sudo -- env "${keep[@]}" PYTHONDONTWRITEBYTECODE=1 "$@"
}
