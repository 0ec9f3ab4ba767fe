# Sourced by scripts/quickstart and scripts/test: changes to the root of the repository and creates .venv there.
#
#   install_environment runtime    what armlp needs to run
#   install_environment dev        the same, and what its tests and checks need
#
# PYTHON=/path/to/python chooses the interpreter; by default it is the first Python >= 3.10 on PATH.
#
# Files in .venv: `installing` holds the process id and the script of a running install, and remains if that is
# killed; `installed-runtime` and `installed-dev` hold the key of the last install.
# shellcheck shell=bash

CDPATH='' cd -- "$(dirname "${BASH_SOURCE[0]}")/.." || exit
export PIP_DISABLE_PIP_VERSION_CHECK=1

needed_disk_mb=2500

stop() { # SENTENCE: what is wrong and how to fix it
    echo "$(basename "$0"): $1" >&2
    exit 2
}

python_version() { # PYTHON: prints the version, such as 3.12.1; fails if that is no working Python
    "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null
}

is_new_enough() { # PYTHON
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

can_make_venv() { # PYTHON: Debian ships venv without ensurepip, which it needs
    "$1" -c 'import venv, ensurepip' 2>/dev/null
}

# Sets `python` to an interpreter that can make .venv, or stops.
find_python() {
    local candidates=(python3 python3.13 python3.12 python3.11 python3.10 python)
    local candidate version too_old="" without_venv=""
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        version=$(python_version "$candidate") || continue
        if ! is_new_enough "$candidate"; then
            too_old=${too_old:-"$candidate is Python $version"}
        elif ! can_make_venv "$candidate"; then
            without_venv=${without_venv:-"$candidate (Python $version)"}
        else
            python=$candidate
            return
        fi
    done
    if [ -n "$without_venv" ]; then
        stop "$without_venv has no working venv module: install it (on Debian and Ubuntu: apt install python3-venv) or name another Python with PYTHON=/path/to/python."
    elif [ -n "$too_old" ]; then
        stop "$too_old, but armlp needs Python 3.10 or newer: install one, or name it with PYTHON=/path/to/python."
    elif [ -n "${PYTHON:-}" ]; then
        stop "PYTHON=$PYTHON is no working Python: name one of version 3.10 or newer."
    fi
    stop "no Python found on PATH: install Python 3.10 or newer, or name one with PYTHON=/path/to/python."
}

check_disk() {
    local free_mb
    free_mb=$(df -Pk . | awk 'NR == 2 { print int($4 / 1024) }')
    if [ "$free_mb" -lt "$needed_disk_mb" ]; then
        stop "only $free_mb MB of disk are free at $PWD, but the install needs about $needed_disk_mb MB: free some space and run this again."
    fi
}

# pip without warnings; its output is shown only if it fails.
quiet_pip() {
    local output
    if ! output=$(.venv/bin/python -m pip -qq "$@" 2>&1); then
        printf '%s\n' "$output" >&2
        case $output in
        *"No space left on device"* | *"Disk quota exceeded"*)
            stop "the disk became full during the install: free some space (pip also uses ${TMPDIR:-/tmp} and $(.venv/bin/python -m pip cache dir 2>/dev/null || echo its cache)) and run this again." ;;
        esac
        stop "pip could not install armlp (see its message above): fix the cause and run this again; the install starts from the beginning."
    fi
}

# What an install depends on. The folder is part of it, because the commands in .venv/bin contain its path.
environment_key() {
    echo "python $(python_version .venv/bin/python) at $PWD"
    cat pyproject.toml scripts/constraints.txt | cksum
}

mark_installing() {
    echo "$$ $(basename "$0")" >.venv/installing
}

# Succeeds if the process in .venv/installing still runs that script, and is no zombie or reused id.
is_installing() {
    local id="" script=""
    read -r id script <.venv/installing || true
    [ -n "$id" ] && [[ "$(ps -o args= -p "$id" 2>/dev/null)" == *"$script"* ]]
}

# Removes a .venv that cannot be used, and prints the reason.
remove_unusable_venv() {
    local reason="" stamp
    [ -e .venv ] || return 0
    if [ -e .venv/installing ]; then
        if is_installing; then
            stop "another install into $PWD/.venv is running (process $(cat .venv/installing)): wait for it to end."
        fi
        reason="an earlier install was interrupted"
    elif ! is_new_enough .venv/bin/python; then
        reason="its Python does not work or is older than 3.10"
    elif [ -n "${PYTHON:-}" ] && [ "$(python_version "$PYTHON")" != "$(python_version .venv/bin/python)" ]; then
        reason="PYTHON names another version"
    else
        for stamp in .venv/installed-*; do
            [ -e "$stamp" ] || continue
            [ "$(head -n 1 "$stamp")" = "$(environment_key | head -n 1)" ] || reason="it was made in another folder or for another Python"
        done
    fi
    if [ -n "$reason" ]; then
        echo "Making .venv again: $reason."
        rm -rf .venv
    fi
}

install_environment() { # runtime | dev
    local extra=$1 target="." python
    [ "$extra" = runtime ] || target=".[$extra]"
    [ -z "${PYTHON:-}" ] || find_python # report a wrong PYTHON even if .venv exists

    remove_unusable_venv
    if [ -x .venv/bin/python ] && [ "$(environment_key)" = "$(cat ".venv/installed-$extra" 2>/dev/null)" ]; then
        return
    fi

    check_disk
    if [ ! -e .venv ]; then
        find_python
        echo "Making .venv with $python ($(python_version "$python"))."
        mkdir .venv
        mark_installing
        "$python" -m venv .venv
    fi
    mark_installing
    rm -f .venv/installed-*

    echo "Installing torch (1/2): about a minute, longer where it has to be downloaded ..."
    # torch comes first and pinned, so that pip takes the small CPU build (2.13.0+cpu) where an index offers it.
    # Unpinned it would be the newest from PyPI, which on Linux installs gigabytes of CUDA packages.
    quiet_pip install -c scripts/constraints.txt torch
    echo "Installing armlp and what it needs (2/2): about a minute ..."
    quiet_pip install -c scripts/constraints.txt -e "$target"

    environment_key >.venv/installed-runtime # the dev install includes it
    [ "$extra" = runtime ] || environment_key >".venv/installed-$extra"
    rm .venv/installing
    echo "Installed: .venv is ready, and later runs start at once."
}
