# shellcheck shell=bash
# What the scripts share. To be sourced.

# Debian's users do not have these on their PATH; nginx, tc and ethtool are there.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { echo "set-up: $*" >&2; }

die() {
    say "$*"
    exit 1
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
