# shellcheck shell=bash disable=SC2154 # the variables of common.sh
# An image without shell, package manager and C library: accounts, certificates, one static program, and the packages in status.d, as distroless images keep them.
# distroless must pass every check but for one medium finding that nobody mends; distroless-kev must differ by one exploited package only.

# status_entry TREE PACKAGE VERSION: what dpkg would say of an installed package, as distroless images keep it.
status_entry() {
  mkdir -p "$1/var/lib/dpkg/status.d"
  cat > "$1/var/lib/dpkg/status.d/$2" <<X
Package: $2
Version: $3
Architecture: all
Maintainer: Acme <acme@example.com>
Section: libs
Priority: optional
Description: package of the test estate
X
}

distroless_layer() { # distroless_layer NAME DEBIAN INTO
  local tree=$3/tree debian=$2 package
  mkdir -p "$tree"/{etc/ssl/certs,home/nonroot,proc,sys,dev,run,root,tmp,usr/lib,usr/local/bin,var/lib/dpkg/status.d}
  chmod 0700 "$tree/root" "$tree/home/nonroot"
  chmod 1777 "$tree/tmp"
  chown 65532:65532 "$tree/home/nonroot"
  printf 'root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' > "$tree/etc/passwd"
  printf 'root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n' > "$tree/etc/group"
  for package in hosts hostname resolv.conf; do install -m 0644 /dev/null "$tree/etc/$package"; done
  printf 'passwd: files\ngroup: files\nhosts: files dns\n' > "$tree/etc/nsswitch.conf"
  cp -p "$debian/usr/lib/os-release" "$tree/usr/lib/os-release"
  cp -p "$debian/etc/debian_version" "$tree/etc/"
  ln -s ../usr/lib/os-release "$tree/etc/os-release"
  certificates "$debian" "$tree"
  for package in base-files ca-certificates; do
    awk -v RS= -v package="Package: $package" 'index($0, package "\n") == 1' "$debian/var/lib/dpkg/status" | grep . > "$tree/var/lib/dpkg/status.d/$package" \
      || fail "the Debian tree has no package $package; expected it in debian_packages"
  done
  status_entry "$tree" acme-tls 3.0.17-1
  status_entry "$tree" acme-base 1.0-1
  status_entry "$tree" acme-old 1.0-1
  if [ "$1" = distroless-kev ]; then status_entry "$tree" acme-kev 1.9-1; fi
  install -m 0755 "$tools_bin/probe" "$tree/usr/local/bin/probe"
  pack "$tree" "$3"
  rm -rf "$tree"
}

make_distroless() { # make_distroless distroless|distroless-kev
  [ -x "$tools_bin/probe" ] || fail "no target/tools/bin/probe; make it with e2e/tools/build probe"
  stage debian-root "$(recipe_tools) $debian_packages $(declare -f debian_root)" debian_root
  stage "$1" "$(recipe_tools) $(declare -f status_entry distroless_layer) $(file_hash "$tools_bin/probe") $(cat "$stage_path/.stamp")" distroless_layer "$1" "$stage_path/tree"
  image "$1" "{\"User\":\"65532:65532\",\"Env\":[\"PATH=/usr/local/bin\",\"SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt\"],\"Entrypoint\":[\"/usr/local/bin/probe\"],\"Cmd\":[\"say\",\"distroless\"],\"Labels\":{\"org.opencontainers.image.title\":\"$1\"}}" "$stage_path"
}
