# Sourced by the lab's scripts: where things are, and how this machine runs the lab's VM.
# shellcheck shell=bash disable=SC2034
export PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C
lab_source=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$lab_source/../.." && pwd)
lab=${VIREO_LAB_DIR:-$top/target/lab}

lab_fail() { echo "lab: $*" >&2; exit 125; }

# lab_acceleration: the options of QEMU that run the lab. Guests inside it need KVM there, so hardware counts only
# when it nests; kvm_pvm (KVM without hardware) cannot run an ordinary kernel. Software emulation offers SVM anywhere.
lab_acceleration() {
    local vendor nested
    if [ "${VIREO_LAB_ACCEL:-}" != tcg ] && [ -r /dev/kvm ] && [ -w /dev/kvm ] && [ ! -d /sys/module/kvm_pvm ]; then
        for vendor in kvm_intel kvm_amd; do
            nested=$(cat "/sys/module/$vendor/parameters/nested" 2>/dev/null || echo 0)
            case $nested in
                1 | Y) echo "-accel kvm -cpu host"; return ;;
            esac
        done
    fi
    echo "-accel tcg,thread=multi,tb-size=512 -cpu max"
}

# lab_processors: how many a lab has unless it is told. One, where they are emulated: QEMU runs two at once, and when one of them patches the kernel's code
# (a static key, with the first KVM guest that starts or the last that ends) the other can keep the translation with the breakpoint in it and
# come to that for ever: seen, by the registers of a lab that stood still. Guests with several processors came to triple faults, and with one no more. A guest by itself boots as quickly; several share it.
lab_processors() {
    case $(lab_acceleration) in
        *tcg*) echo 1 ;;
        *) echo 2 ;;
    esac
}

# insmod_order RELEASE MODULES_ROOT NAME…: the files of these modules and of all they need, in loading order.
# A module that the kernel has built in, or lacks, gives nothing.
insmod_order() {
    local release=$1 root=$2 name
    shift 2
    for name; do
        modprobe -d "$root" -S "$release" --show-depends "$name" 2>/dev/null | sed -n 's/^insmod \([^ ]*\).*/\1/p'
    done | awk '!seen[$0]++'
}

# pack_initrd DIRECTORY FILE: the directory as a compressed initramfs; the file appears whole or not at all.
pack_initrd() {
    (cd "$1" && find . -print0 | sort -z | cpio --quiet --null -o -H newc -R 0:0) | gzip -1 >"$2.$$"
    mv "$2.$$" "$2"
}

# older FILE THAN…: FILE is absent, or one of the others is newer.
older() {
    local file=$1 other
    shift
    [ -e "$file" ] || return 0
    for other; do [ "$other" -nt "$file" ] && return 0; done
    return 1
}

# lab_share DIRECTORY: lays out what the lab's second stage reads: where to go, and the variables that go along.
lab_share() {
    mkdir "$1"
    pwd >"$1/directory"
    echo "$lab/kernel-amd64" >"$1/kernel"
    export -p | grep -E '^declare -x (PATH|HOME|TERM|VIREO_[A-Z_]*|RUST_[A-Z_]*|CARGO_[A-Z_]*)=' |
        sed 's/^declare -x //' >"$1/environment" || true
}

lab_cmdline='console=ttyS0 panic=-1 quiet random.trust_cpu=on'

# lab_machine CPUS MEBIBYTES: the options of QEMU that every lab has.
lab_machine() {
    echo "-M q35 $(lab_acceleration) -smp $1 -m $2 -nodefaults -display none -no-reboot"
    echo "-kernel $lab/kernel-amd64/vmlinuz -initrd $lab/lab.initrd"
    echo "-virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"
}
