# SPDX-License-Identifier: MIT
# Debian roots: made once, kept in the cache, used through an overlay so that nothing ever changes them.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# control_field FIELD [PACKAGE]: the package names of a relation field of debian/control.
control_field() {
    python3 - "$TOP/debian/control" "$@" <<'PYTHON'
import re, sys
control, field, *package = sys.argv[1:]
for paragraph in open(control).read().split("\n\n"):
    if (f"Package: {package[0]}\n" in paragraph) if package else paragraph.startswith("Source:"):
        value = re.search(rf"^{field}:((?:.*\n?)(?:[ \t].*\n?)*)", paragraph, re.M)[1]
        for relation in value.split(","):
            name = re.match(r"\s*([a-z0-9][a-z0-9.+-]*)", relation)
            if name:
                print(name[1])
PYTHON
}

build_packages() {
    { control_field Build-Depends && echo build-essential fakeroot lintian iproute2; } | xargs | tr ' ' ,
}

# What a host with all of gmesh has, and what the checks in it call. python3-noise is another library
# under the name that PyPI's noiseprotocol uses: gmesh must start beside it.
run_packages() {
    {
        control_field Depends python3-gmesh
        echo systemd systemd-sysv dbus bash-completion fish zsh curl openssl iproute2 procps python3-noise
        echo openssh-server openssh-client
    } | xargs | tr ' ' ,
}

# root NAME SUITE PACKAGES: the directory of a cached root; made, or made anew when it is old.
root() {
    local name=$1 suite=$2 packages=$3 key directory
    mkdir -p "$CACHE"
    # Others can make directories where the cache is: what lies in theirs must not run as root.
    [ -O "$CACHE" ] || { echo "$CACHE belongs to somebody else" >&2; return 1; }
    key=$(printf '%s' "$suite $packages" | sha256sum | cut -c1-12)
    directory=$CACHE/$name-$suite-$key
    if [ -e "$directory.done" ] && [ -z "$(find "$directory.done" -mtime "+$CACHE_DAYS")" ]; then
        echo "$directory"
        return
    fi
    unmount_below "$directory"
    rm -rf --one-file-system "$directory" "$directory.done"
    mmdebstrap --quiet --mode=root --variant=minbase --components=main --include="$packages" \
        --dpkgopt=force-unsafe-io --aptopt='Acquire::Retries "3"' --customize-hook='rm -f "$1/etc/machine-id" "$1/etc/hostname"' \
        "$suite" "$directory" ${MIRROR:+"$MIRROR"} >"$LOGS/root-$name.log" 2>&1 || {
        tail -n 5 "$LOGS/root-$name.log" >&2
        rm -rf --one-file-system "$directory"
        return 1
    }
    touch "$directory.done"
    find "$CACHE" -maxdepth 1 -name "$name-$suite-*.done" -mtime "+$CACHE_DAYS" | while read -r old; do
        rm -rf --one-file-system "${old%.done}" "$old"
    done
    echo "$directory"
}

# unmount_below DIRECTORY: what an interrupted run may have left mounted there, the deepest first.
unmount_below() {
    local mount
    awk -v below="$1/" 'index($2 "/", below) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mount; do
        umount "$mount" 2>/dev/null || umount -l "$mount" 2>/dev/null || true
    done
}

# overlay LOWER NAME: a writable view of a root, or a copy where overlays cannot be; prints its place.
overlay() {
    local base=$WORK/overlay/$2
    mkdir -p "$base/upper" "$base/work" "$base/root"
    mount -t overlay "gmesh-$2" -o "lowerdir=$1,upperdir=$base/upper,workdir=$base/work" "$base/root" 2>/dev/null ||
        cp -a --reflink=auto "$1/." "$base/root/"
    echo "$base/root"
}

# chroot_mounts ROOT: proc, sys and /dev, as a build needs them.
chroot_mounts() {
    mount -t proc proc "$1/proc"
    mount --rbind --make-rslave /sys "$1/sys"
    mount --rbind --make-rslave /dev "$1/dev"
}

# drop NAME: unmount an overlay and all below it, then delete it, never crossing a mount.
drop() {
    local base=$WORK/overlay/$1
    unmount_below "$base"
    rm -rf --one-file-system "$base"
}
