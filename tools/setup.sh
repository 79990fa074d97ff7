# Sourced by the tools: makes .venv with pinned versions, once; needs only Python >= 3.11.
# Run from the repository's root.

fail() { echo "setup: $1" >&2; exit 1; }

find_python() {
    for python in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            return
        fi
    done
    fail "Python 3.11 or newer is needed: apt-get install python3"
}

# Debian splits pip and ensurepip off its Python: look for another pip, then ask apt.
make_venv() {
    if [ -e .venv ] && [ ! -e .venv/made-by-tools ]; then
        fail ".venv exists and is not ours: move it away"
    fi
    rm -rf .venv
    "$python" -m venv .venv >/dev/null 2>&1 && return
    rm -rf .venv
    "$python" -m venv --without-pip .venv || fail "$python cannot make a virtual environment"
    "$python" -m pip --python .venv/bin/python install -q pip 2>/dev/null && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "setup: installing python3-venv" >&2
        apt-get update -q >&2 && apt-get install -y -q python3-venv python3-pip-whl >&2 || true
    fi
    if ! ls /usr/share/python-wheels/pip-*.whl >/dev/null 2>&1; then
        scratch=$(mktemp -d)
        (cd "$scratch" && apt-get download -q python3-pip-whl && dpkg -x ./*.deb .) >&2 || true
    fi
    for wheel in /usr/share/python-wheels/pip-*.whl "${scratch:-/none}"/usr/share/python-wheels/pip-*.whl; do
        [ -e "$wheel" ] || continue
        .venv/bin/python "$wheel/pip" install -q --no-index --find-links "$(dirname "$wheel")" pip && return
    done
    fail "no pip for $python: apt-get install python3-venv"
}

find_python
wanted=$(cat setup.cfg pyproject.toml tools/constraints.txt tools/setup.sh | cksum)
if [ "$(cat .venv/complete 2>/dev/null)" != "$wanted" ]; then
    echo "setup: making .venv (once; torch is large)" >&2
    make_venv
    touch .venv/made-by-tools
    .venv/bin/python -m pip install -q --disable-pip-version-check \
        -c tools/constraints.txt -e '.[test]' >&2 || fail "pip could not install the dependencies"
    echo "$wanted" > .venv/complete
fi
