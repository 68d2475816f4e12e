# shellcheck shell=bash disable=SC2154 # the variables of common.sh
# An image that scanners and OpenSCAP take for RHEL 9: Debian's files, RHEL's os-release, and a real RPM database with packages made here.
# It must not be taken for more: no program in it comes from an RPM, so it only shows that RPM content is found and read.

rpm_packages=base-files,bash,dash,coreutils,findutils,sed,grep,mawk,rpm,tar,gzip,zstd

rpm_tree() { # rpm_tree INTO: a tree that rpmbuild and rpm run in
  debian_tree trixie "$1/tree" --variant=extract "--include=$rpm_packages"
}

# build_rpm TREE NAME VERSION RELEASE: a package with one file, in TREE/packages
build_rpm() {
  mkdir -p "$1/packages"
  cat > "$1/packages/$2.spec" <<X
Name: $2
Version: $3
Release: $4
Summary: package of the test estate
License: MIT
Vendor: Red Hat, Inc.
BuildArch: noarch
%description
Package of the test estate.
%install
mkdir -p %{buildroot}/usr/share/$2
echo $3-$4 > %{buildroot}/usr/share/$2/version
%files
/usr/share/$2/version
X
  in_tree "$1" rpmbuild -bb --nodeps --define "_topdir /packages/build" --define "_rpmdir /packages" --define "_build_name_fmt %%{NAME}.rpm" \
    --define "_buildhost build.example.com" --define "use_source_date_epoch_as_buildtime 1" --define "build_mtime_policy clamp_to_source_date_epoch" \
    --define "source_date_epoch_from_changelog 0" "/packages/$2.spec"
}

in_tree() { # in_tree TREE COMMAND...: runs a command of the tree in it
  env -i PATH=/usr/bin:/usr/sbin HOME=/root LANG=C.UTF-8 "SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH" chroot "$@" >> "$out/build.log" 2>&1 \
    || { tail -n 15 "$out/build.log" >&2; fail "${*:2:1} failed in the RPM tree; the whole log is target/images/build.log"; }
}

rpmlike_layer() { # rpmlike_layer RPM_TREE DEBIAN INTO
  local tools=$3/rpm tree=$3/rpm/target
  cp -a "$1" "$tools"
  cp -a "$2" "$tree"
  build_rpm "$tools" redhat-release 9.6 0.1.el9
  build_rpm "$tools" acme-tls 3.0.17 1.el9
  build_rpm "$tools" acme-old 1.0 1.el9
  rm -rf "${tree:?}"/var/lib/dpkg "$tree"/etc/{debian_version,dpkg,os-release} "$tree"/usr/lib/os-release
  mkdir -p "$tree/var/lib/rpm"
  in_tree "$tools" rpm --root /target --dbpath /var/lib/rpm --define "_db_backend sqlite" --initdb
  in_tree "$tools" rpm --root /target --dbpath /var/lib/rpm --define "_db_backend sqlite" --install --nodeps --nosignature \
    /packages/redhat-release.rpm /packages/acme-tls.rpm /packages/acme-old.rpm
  rhel_release "$tree"
  mv "$tree" "$3/tree"
  pack "$3/tree" "$3"
  rm -rf "$3/tree" "$tools"
}

rhel_release() { # rhel_release TREE
  cat > "$1/usr/lib/os-release" <<'X'
NAME="Red Hat Enterprise Linux"
VERSION="9.6 (Plow)"
ID="rhel"
ID_LIKE="fedora"
VERSION_ID="9.6"
PLATFORM_ID="platform:el9"
PRETTY_NAME="Red Hat Enterprise Linux 9.6 (Plow)"
CPE_NAME="cpe:/o:redhat:enterprise_linux:9::baseos"
X
  ln -s ../usr/lib/os-release "$1/etc/os-release"
  echo 'Red Hat Enterprise Linux release 9.6 (Plow)' > "$1/etc/redhat-release"
  ln -s redhat-release "$1/etc/system-release"
  echo 'cpe:/o:redhat:enterprise_linux:9::baseos' > "$1/etc/system-release-cpe"
}

make_rpmlike() {
  local rpm
  stage rpm-root "$(recipe_tools) $rpm_packages $(declare -f rpm_tree)" rpm_tree
  rpm=$stage_path
  stage debian-root "$(recipe_tools) $debian_packages $(declare -f debian_root)" debian_root
  stage rpmlike "$(recipe_tools) $(file_hash "$images/recipes/rpmlike.sh") $(cat "$rpm/.stamp" "$stage_path/.stamp")" rpmlike_layer "$rpm/tree" "$stage_path/tree"
  image rpmlike '{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["/bin/bash"],"Labels":{"org.opencontainers.image.title":"rpmlike","org.opencontainers.image.version":"9.6"}}' "$stage_path"
}
