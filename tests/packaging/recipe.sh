#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The manual's recipe for an image, word for word; what it makes is booted.
. "$(dirname "$0")/lifecycle.sh"

RECIPE_SECONDS=600

# recipe: the command in docs/operations-appliances.rst.
recipe() { sed -n '/^ *mmdebstrap /,/^ *trixie root$/s/^ *//p' "$TOP/docs/operations-appliances.rst"; }

make_image() {
    mkdir -p "$WORK/recipe/dist"
    cp "$DEBS"/first/*.deb "$WORK/recipe/dist/"
    recipe >"$WORK/recipe/command"
    grep -q . "$WORK/recipe/command" && cd "$WORK/recipe" && timeout "$RECIPE_SECONDS" bash -e command
}

prepare_containers "the manual's image" || exit 0
say "an image by the manual's recipe"
if ! make_image >"$LOGS/recipe.log" 2>&1; then
    if grep -qE 'Temporary failure resolving|Could not connect' "$LOGS/recipe.log"; then
        not_run "the manual's image: no network"
    else
        failed "the recipe makes an image"
        tail -n 15 "$LOGS/recipe.log" | sed 's/^/         | /'
    fi
    exit 0
fi
passed "the recipe makes an image"
RUN_ROOT=$WORK/recipe/root
equal "it holds no key" "" "$(find "$RUN_ROOT/var/lib/gmesh-node" "$RUN_ROOT/etc/ssh" -type f 2>/dev/null)"
check "it has no machine id of its own" refuse grep -E '^[0-9a-f]{32}$' "$RUN_ROOT/etc/machine-id"
check "the packages are not left in it" refuse test -e "$RUN_ROOT/debs"
check "a seed file is placed by the example" sh "$RUN_ROOT/usr/share/doc/gmesh-node/examples/build-image" "$RUN_ROOT" pump-07 gmesh1-x
equal "for root alone" "600 root" "$(stat -c '%a %U' "$RUN_ROOT/etc/gmesh/invite.seed")"
equal "with the name of the machine" pump-07 "$(cat "$RUN_ROOT/etc/hostname")"
rm "${RUN_ROOT:?}/etc/gmesh/invite.seed"
container image 70
boot image
equal "it boots, and nothing fails" running "$(guest image systemctl is-system-running || true)"
equal "its node waits for an invite" "enabled no inactive" \
    "$(guest image systemctl is-enabled gmesh-node) $(property image gmesh-node ConditionResult) $(property image gmesh-node ActiveState)"
touch "$(root_of image)/var/lib/gmesh-node/identity.key"
check "the example refuses a root with keys" refuse \
    sh "$RUN_ROOT/usr/share/doc/gmesh-node/examples/build-image" "$(root_of image)" pump-07 gmesh1-x
discard image
