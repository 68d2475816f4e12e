# shellcheck shell=bash disable=SC2154 # the variables of common.sh
# The image of the build Jobs: Buildah for chroot isolation in a user namespace, and repave.
# It must reach no registry by its own configuration: an image comes in and goes out as an OCI layout in a folder.

builder_packages=base-files,buildah,netavark,uidmap,busybox-static,ca-certificates

builder_root() { # builder_root INTO
  local tree=$1/tree packages=$1/packages
  debian_tree trixie "$packages" --variant=extract "--include=$builder_packages"
  skeleton "$tree"
  copy_program "$packages" "$tree" usr/bin/buildah usr/lib/podman/netavark usr/bin/newuidmap usr/bin/newgidmap
  cp -p "$packages/usr/lib/os-release" "$tree/usr/lib/"
  ln -s ../usr/lib/os-release "$tree/etc/os-release"
  certificates "$packages" "$tree"
  busybox "$packages" "$tree" sh cat cp ls mkdir mount env
  mkdir -p "$tree/etc/containers" "$tree/usr/share/containers" "$tree/var/lib/containers" "$tree/work"
  cp -p "$packages/usr/share/containers/seccomp.json" "$tree/usr/share/containers/"
  cp "$images"/builder-config/* "$tree/etc/containers/"
  printf 'root:1:65535\n' | tee "$tree/etc/subuid" > "$tree/etc/subgid"
  pack "$tree" "$1"
  rm -rf "$tree" "$packages"
}

make_builder() {
  local common layers=()
  common=$(recipe_tools)
  stage builder-root "$common $builder_packages $(declare -f builder_root) $(cat "$images"/builder-config/*)" builder_root
  layers+=("$stage_path")
  repave_layer /usr/local/bin/repave builder
  if [ -n "$repave_path" ]; then layers+=("$repave_path"); fi
  image builder '{"Env":["PATH=/usr/local/bin:/usr/bin:/usr/sbin","HOME=/tmp","BUILDAH_ISOLATION=chroot"],"Entrypoint":["/usr/local/bin/repave"],"Labels":{"org.opencontainers.image.title":"repave-builder"}}' "${layers[@]}"
}
