# shellcheck shell=bash disable=SC2154 # the variables of common.sh
# The upstream base image in three versions, each one layer of its own over the same Debian 12 packages: v1 clean, v2 with planted defects, v3 clean and newer.
# A defect must be in the layer's tar headers or the config (not made by a script at run time), and v1 and v3 must have none.

debian_packages=ca-certificates,openssl,passwd,usr-is-merged

debian_root() { # debian_root INTO: the packages, without documentation, locales and anything of this machine
  local tree=$1/tree pattern
  local options=(--variant=essential "--include=$debian_packages" --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr)
  for pattern in man locale info lintian bug; do options+=("--dpkgopt=path-exclude=/usr/share/$pattern/*"); done
  options+=('--dpkgopt=path-exclude=/usr/share/doc/*' '--dpkgopt=path-include=/usr/share/doc/*/copyright')
  options+=('--dpkgopt=path-exclude=/usr/lib/x86_64-linux-gnu/gconv/*')
  debian_tree bookworm "$tree" "${options[@]}"
  rm -rf "${tree:?}"/etc/{hostname,resolv.conf,machine-id} "${tree:?}"/etc/apt/sources.list "${tree:?}"/var/lib/apt "${tree:?}"/var/cache/{apt,debconf,ldconfig}/* \
    "${tree:?}"/var/log/* "${tree:?}"/dev/* "${tree:?}"/run/* "${tree:?}"/tmp/* "${tree:?}"/etc/{passwd,group,shadow,gshadow,subuid,subgid}- "${tree:?}"/var/backups/*
  # Mount points of every container runtime; without them the first build on top leaves its own, executable, in its layer.
  for pattern in hosts hostname resolv.conf; do install -m 0644 /dev/null "$tree/etc/$pattern"; done
  # CIS judges the files of /var/log, and fails where there is none to judge.
  install -m 0640 -g adm /dev/null "$tree/var/log/dpkg.log"
  # Without a package manager the image has no use for its folders, and a time stamp of today would change the digest.
  rm -rf "$tree/etc/apt" "$tree"/var/lib/dpkg/*-old
  sed -i -E 's/^(([^:]*:){2})[0-9]+:/\120453:/' "$tree/etc/shadow"
}

acme() { # acme PACKAGE VERSION TREE: installs a tiny package of that name and version, so that a scanner finds it as it finds any other
  local work name=$1
  work=$(mktemp -d)
  install -d "$work/$name/DEBIAN" "$work/$name/usr/share/$name"
  echo "$2" > "$work/$name/usr/share/$name/version"
  cat > "$work/$name/DEBIAN/control" <<X
Package: $name
Version: $2
Architecture: all
Maintainer: Acme <acme@example.com>
Section: libs
Priority: optional
Description: package of the test estate
X
  dpkg-deb --root-owner-group --build "$work/$name" "$work/$name.deb" > /dev/null
  dpkg --root="$3" --log=/dev/null --install "$work/$name.deb" >> "$out/build.log" 2>&1 || fail "dpkg could not install $name; see target/images/build.log"
  rm -rf "$work" "$3"/var/lib/dpkg/*-old
}

debian_layer() { # debian_layer VERSION ROOT INTO
  local tree=$3/tree
  cp -a "$2" "$tree"
  # Without a known vulnerability until a database that knows one comes.
  acme acme-base 1.0-1 "$tree"
  "debian_$1" "$tree"
  pack "$tree" "$3"
  rm -rf "$tree"
}

legacy_report() {
  mkdir -p "$1/usr/lib/legacy"
  printf '#!/bin/sh\n# Printed by the base image up to 12.2; gone in 12.3, which breaks whoever still calls it.\necho "legacy report: ok"\n' > "$1/usr/lib/legacy/report"
  chmod 0755 "$1/usr/lib/legacy/report"
}

debian_v1() {
  acme acme-tls 3.0.17-1 "$1"
  legacy_report "$1"
  echo 12.1 > "$1/etc/base-release"
}

debian_v2() {
  acme acme-tls 3.0.15-1 "$1"
  legacy_report "$1"
  echo 12.2 > "$1/etc/base-release"
  mkdir -p "$1/etc/cron.d"
  echo '0 3 * * * root /usr/bin/true' > "$1/etc/cron.d/backup"
  chmod 0666 "$1/etc/cron.d/backup"
  install -D -m 4755 "$1/usr/bin/dash" "$1/usr/local/bin/sh0"
  # shellcheck disable=SC2016 # the line itself has the variable
  echo 'PATH=$PATH:.; export PATH' | tee -a "$1/root/.profile" >> "$1/root/.bashrc"
  echo 'appsvc:x:1001:1001:application:/home/appsvc:/bin/bash' >> "$1/etc/passwd"
  echo 'appsvc:x:1001:' >> "$1/etc/group"
  echo 'appsvc:!:20453:0:99999:7:::' >> "$1/etc/shadow"
  install -d -o 1001 -g 1001 -m 0750 "$1/home/appsvc"
}

debian_v3() {
  acme acme-tls 3.0.17-1 "$1"
  echo 12.3 > "$1/etc/base-release"
}

make_debian() { # make_debian v1|v2|v3
  local version=$1 recipe path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  recipe="$(recipe_tools) $(file_hash "$images/recipes/debian.sh")"
  stage debian-root "$(recipe_tools) $debian_packages $(declare -f debian_root)" debian_root
  stage "debian-$version" "$recipe $(cat "$stage_path/.stamp")" debian_layer "$version" "$stage_path/tree"
  # A dot in root's PATH: the shell start files of v2 have it as well.
  if [ "$version" = v2 ]; then path+=:.; fi
  image "debian-$version" "{\"Env\":[\"PATH=$path\"],\"Cmd\":[\"/bin/bash\"],\"Labels\":{\"org.opencontainers.image.title\":\"debian\",\"org.opencontainers.image.version\":\"12.${version#v}\"}}" \
    "$stage_path"
}
