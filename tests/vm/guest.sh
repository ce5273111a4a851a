#!/bin/bash
# Inside: guest.sh machine|chroot STEPS [INTERFACE...], STEPS being load,dataplane,connections or some
# As a machine's first program it mounts what a system has mounted, and switches off at the end.
# What is printed goes to the second serial port; lines with @@ are for outcome.py.
place=$1 steps=,$2,
shift 2
cd /srv/bucket-brigade || exit 1
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1

if [[ $place == machine ]]; then
    mount -t proc proc /proc
    mount -t sysfs sys /sys
    mount -t tmpfs run /run
    mount -t tmpfs tmp /tmp
    exec </dev/null >/dev/ttyS1 2>&1
    [[ /lib -ef /usr/lib ]] || ln -s /usr/lib/modules /lib/modules # Debian 11
    modprobe veth
    modprobe virtio_net
    hostname bucket-brigade
fi
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
if [[ -d /opt/bcc ]]; then # another release's
    export LD_LIBRARY_PATH=/opt/bcc/lib PYTHONPATH=/opt/bcc/python:/srv/bucket-brigade
fi

status=0
step() {
    local name=$1 seconds=$2
    shift 2
    [[ $steps == *,$name,* ]] || return 0
    echo "@@ {\"step\": \"$name\"}"
    local result=0
    timeout "$seconds" "$@" </dev/null || result=$? status=1
    echo "@@ {\"step\": \"$name\", \"exit\": $result, \"uptime\": $(cut -d' ' -f1 /proc/uptime)}"
}

python=.venv/bin/python
[[ -x $python ]] || python=/usr/bin/python3 # a release whose Python is too old for the project
export LB_VM_NICS="$*"
pytest=("$python" -m pytest -p no:cacheprovider -rs --quiet --color=no --tb=short)
# The limits of time only end what hangs. How fast things are says nothing here, and a million random
# frames would take too long. Emulated, each compilation takes two minutes: there, `dataplane` leaves out
# the tests that compile again.
left_out=(--ignore=tests/dataplane/test_bench.py --ignore=tests/dataplane/test_fuzz.py
    --deselect=tests/dataplane/test_dataplane.py::test_loading_is_quick)
compile_anew=()
if [[ $place == machine ]]; then
    for name in bcc_layout dataplane fuzz_notices root_array servers_agree swap trace; do
        compile_anew+=("--ignore=tests/dataplane/test_$name.py")
    done
fi
step load 900 $python tests/vm/guest/load.py "$@"
step dataplane 2700 "${pytest[@]}" --timeout=1200 tests/dataplane "${left_out[@]}" "${compile_anew[@]}"
step connections 1800 "${pytest[@]}" --timeout=1790 tests/vm/guest/test_end_to_end.py
echo "@@ {\"end\": $status}"
if [[ $place == machine ]]; then
    sync
    echo o >/proc/sysrq-trigger
    sleep 30
fi
exit $status
