# shellcheck shell=bash disable=SC2034 # variables set here are read by the scripts that source this file
# Shared by the scripts of this folder: paths, stages (cached, atomic results) and OCI layouts written from layer tars.
# It must not know any image: what goes into one is in recipes/. It is sourced, never run.

images=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$images/../.." && pwd)
out=$root/target/images
stages=$out/.stages
tools_bin=$root/target/tools/bin
# Every time stamp newer than this is set to it, in tars and in image configs, so that the same input gives the same digest.
export SOURCE_DATE_EPOCH=1767225600 # 2026-01-01T00:00:00Z
created=2026-01-01T00:00:00Z

fail() { echo "images: $*" >&2; exit 1; }
note() { echo "images: $*" >&2; }

hash_of() { sha256sum | cut -d' ' -f1; }
file_hash() { sha256sum < "$1" | cut -d' ' -f1; }

# What every stage is made with; part of each stage's inputs. The layout writer is not: it is cheap and has its own check in `image`.
recipe_tools() { declare -f pack pack_binary debian_tree mirror copy_program linked skeleton certificates busybox; echo "$SOURCE_DATE_EPOCH"; }

# stage NAME INPUTS COMMAND...: runs COMMAND with a new folder as its last argument and keeps that folder as the stage NAME, unless a stage made from
# the same INPUTS is there. The folder's path is in the variable `stage_path` afterwards. A half-made stage is never left under its name.
stage() {
  local name=$1 wanted temporary
  wanted=$(printf '%s' "$2" | hash_of)
  stage_path=$stages/$name
  if [ -f "$stage_path/.stamp" ] && [ "$(cat "$stage_path/.stamp")" = "$wanted" ]; then return; fi
  changed=yes
  temporary=$stages/.$name.new
  rm -rf "$temporary"
  mkdir -p "$temporary"
  "${@:3}" "$temporary"
  echo "$wanted" > "$temporary/.stamp"
  rm -rf "$stage_path"
  mv "$temporary" "$stage_path"
}

# pack FOLDER INTO: the tree as one layer: INTO/layer.tar.gz with its digest, size and diff_id next to it. Sorted, times clamped, numeric owners.
pack() {
  tar --create --file "$2/layer.tar" --directory "$1" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --clamp-mtime --numeric-owner \
    --format=posix --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime .
  file_hash "$2/layer.tar" > "$2/diff_id"
  gzip -n -6 "$2/layer.tar"
  file_hash "$2/layer.tar.gz" > "$2/digest"
  stat -c %s "$2/layer.tar.gz" > "$2/size"
}

blob() { # blob FOLDER < content: stores it by digest and prints the digest
  local temporary=$1/blobs/sha256/.new digest
  cat > "$temporary"
  digest=$(file_hash "$temporary")
  mv "$temporary" "$1/blobs/sha256/$digest"
  echo "$digest"
}

# layout CONFIG LAYERS INTO: an OCI image layout (linux/amd64) with one image; CONFIG is the JSON of the config's `config` member,
# LAYERS the space-separated folders that `pack` filled, the lowest first.
layout() {
  local into=$3 layer diff_ids='' layers='' history='' config digest
  mkdir -p "$into/blobs/sha256"
  for layer in $2; do
    digest=$(cat "$layer/digest")
    ln -f "$layer/layer.tar.gz" "$into/blobs/sha256/$digest"
    diff_ids+=",\"sha256:$(cat "$layer/diff_id")\""
    history+=",{\"created\":\"$created\",\"created_by\":\"e2e/images $(basename "$layer")\"}"
    layers+=",{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"sha256:$digest\",\"size\":$(cat "$layer/size")}"
  done
  config=$(printf '{"architecture":"amd64","os":"linux","created":"%s","config":%s,"rootfs":{"type":"layers","diff_ids":[%s]},"history":[%s]}' \
    "$created" "$1" "${diff_ids#,}" "${history#,}" | blob "$into")
  digest=$(printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s},"layers":[%s]}' \
    "$config" "$(stat -c %s "$into/blobs/sha256/$config")" "${layers#,}" | blob "$into")
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s,"platform":{"architecture":"amd64","os":"linux"}}]}' \
    "$digest" "$(stat -c %s "$into/blobs/sha256/$digest")" > "$into/index.json"
  printf '{"imageLayoutVersion":"1.0.0"}' > "$into/oci-layout"
  echo "sha256:$digest" > "$into/.digest"
}

# image NAME CONFIG LAYER_FOLDER...: the layout target/images/NAME, replaced only when something in it changes.
image() {
  local name=$1 config=$2 layer wanted
  shift 2
  wanted=$( { printf '%s' "$config"; declare -f layout; for layer in "$@"; do cat "$layer/digest"; done; } | hash_of)
  if [ -f "$out/$name/.stamp" ] && [ "$(cat "$out/$name/.stamp")" = "$wanted" ]; then return; fi
  changed=yes
  rm -rf "$out/.$name.new"
  layout "$config" "$*" "$out/.$name.new"
  echo "$wanted" > "$out/.$name.new/.stamp"
  rm -rf "${out:?}/$name"
  mv "$out/.$name.new" "$out/$name"
}

# mirror: the Debian archive this machine's own apt uses (first one of the Debian label), so that no host is written down here.
mirror() {
  # shellcheck disable=SC2016 # apt fills these in, not the shell
  apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 'Created-By: Packages' \
    | awk '$2 == "Debian" && $3 == "Debian" { print $1; exit }' | grep . \
    || fail "apt on this machine has no archive with the label Debian; expected one in /etc/apt/sources.list(.d); add it and run apt-get update"
}

# debian_tree SUITE INTO OPTION...: mmdebstrap with this machine's archive, and its answer about expired indexes (a frozen mirror has them).
debian_tree() {
  local suite=$1 into=$2 valid archive
  shift 2
  archive=$(mirror)
  eval "$(apt-config shell valid Acquire::Check-Valid-Until)"
  mmdebstrap --quiet --mode=root --aptopt="Acquire::Check-Valid-Until \"${valid:-true}\"" "$@" "$suite" "$into" \
    "deb ${archive%/} $suite main" >> "$out/build.log" 2>&1 \
    || { tail -n 15 "$out/build.log" >&2; fail "mmdebstrap could not make the $suite tree; the whole log is target/images/build.log"; }
}

# copy_program TREE INTO PROGRAM...: programs of a Debian tree with exactly the libraries they link, resolved by the tree's own loader.
copy_program() {
  local tree=$1 into=$2 libraries program library needed
  shift 2
  libraries=usr/lib/x86_64-linux-gnu
  mkdir -p "$into/$libraries" "$into/usr/lib64"
  for program in "$@"; do
    mkdir -p "$into/$(dirname "$program")"
    cp -p "$tree/$program" "$into/$program"
    needed=$(linked "$tree" "$program")
    for library in $needed; do
      [ -e "$into/$libraries/$(basename "$library")" ] || cp -pL "$library" "$into/$libraries/"
    done
  done
  cp -pL "$tree/usr/lib64/ld-linux-x86-64.so.2" "$into/usr/lib64/"
}

linked() { # linked TREE PROGRAM: the files of its libraries, the loader left out
  local libraries=$1/usr/lib/x86_64-linux-gnu
  "$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" --list "$1/$2" \
    | awk -v program="$2" '/not found/ { print program ": " $0 > "/dev/stderr"; exit 1 } $2 == "=>" && $1 !~ /ld-linux/ { print $3 }'
}

# skeleton INTO: what a tree without packages needs to be a root file system.
skeleton() {
  local into=$1 name
  mkdir -p "$into"/{etc/ssl/certs,proc,sys,dev,run,root,var/lib,var/tmp,tmp,usr/bin,usr/sbin,usr/lib,usr/lib64}
  for name in bin sbin lib lib64; do ln -s "usr/$name" "$into/$name"; done
  chmod 0700 "$into/root"
  chmod 1777 "$into/tmp" "$into/var/tmp"
  printf 'root:x:0:0:root:/root:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\nrepave:x:65532:65532:repave:/tmp:/usr/sbin/nologin\n' > "$into/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\nrepave:x:65532:\n' > "$into/etc/group"
  printf 'passwd: files\ngroup: files\nhosts: files dns\n' > "$into/etc/nsswitch.conf"
}

# certificates TREE INTO: the bundle that ca-certificates would write, from a tree where no script has run.
certificates() {
  mkdir -p "$2/etc/ssl/certs"
  find "$1/usr/share/ca-certificates/mozilla" -name '*.crt' | LC_ALL=C sort | xargs cat > "$2/etc/ssl/certs/ca-certificates.crt"
  [ -s "$2/etc/ssl/certs/ca-certificates.crt" ] || fail "no certificates in the package ca-certificates; its layout has changed"
}

# busybox TREE INTO APPLET...: a shell and a few commands for people who look into a pod; nothing of ours calls them.
busybox() {
  local tree=$1 into=$2 applet
  shift 2
  cp -p "$tree/usr/bin/busybox" "$into/usr/bin/busybox"
  for applet in "$@"; do ln -s busybox "$into/usr/bin/$applet"; done
}

# repave_layer: the layer with our own binary, always the last one, because it changes most. Empty (and said so) while there is no binary.
repave_layer() {
  local binary=${REPAVE_BINARY:-$root/target/e2e-bin/repave} path=$1
  if [ ! -f "$binary" ]; then
    note "no repave binary at ${binary#"$root"/} (set REPAVE_BINARY): $2 is made without it"
    repave_path=
    return
  fi
  stage "repave-at${path//\//-}" "$(recipe_tools) $(file_hash "$binary") $path" pack_binary "$binary" "$path"
  repave_path=$stage_path
}

# binary_layer NAME PATH: the layer with one program of target/tools/bin at PATH.
binary_layer() {
  stage "$1-layer" "$(recipe_tools) $(file_hash "$tools_bin/$1") $2" pack_binary "$tools_bin/$1" "$2"
}

pack_binary() { # pack_binary BINARY PATH INTO
  local tree=$3/tree
  install -D -m 0755 "$1" "$tree$2"
  pack "$tree" "$3"
  rm -rf "$tree"
}
