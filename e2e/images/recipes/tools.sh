# shellcheck shell=bash disable=SC2154 # the variables of common.sh
# The image of the check Jobs: OpenSCAP with the Debian data streams, Grype with its offline database, the Goss bundle, repave.
# It must have no package manager, no interpreter but a small shell, no SCE plugin (it would run scripts of the scanner's own root), and nothing set-uid.

tools_packages=base-files,openscap-scanner,goss,busybox-static,ca-certificates
content_packages=ssg-debian # only in the development suite are these new enough to know Debian 12 and its CIS profiles
oval_schemas='5.11 5.11.1 5.11.2 5.11.3' # the content is OVAL 5.11; the other versions are 50 MB of nothing

tools_root() { # tools_root INTO
  local tree=$1/tree packages=$1/packages content=$1/content version
  debian_tree trixie "$packages" --variant=extract "--include=$tools_packages"
  debian_tree sid "$content" --variant=extract "--include=$content_packages"
  skeleton "$tree"
  copy_program "$packages" "$tree" usr/bin/oscap
  cp -p "$packages/usr/lib/os-release" "$tree/usr/lib/"
  ln -s ../usr/lib/os-release "$tree/etc/os-release"
  certificates "$packages" "$tree"
  busybox "$packages" "$tree" sh cat cp ls mkdir env
  mkdir -p "$tree/usr/share/openscap" "$tree/usr/share/xml/scap/ssg/content"
  cp -a "$packages/usr/share/openscap/xsl" "$packages/usr/share/openscap/schemas" "$tree/usr/share/openscap/"
  for version in "$tree"/usr/share/openscap/schemas/oval/*; do
    case " $oval_schemas " in *" ${version##*/} "*) ;; *) rm -rf "$version" ;; esac
  done
  cp -p "$content"/usr/share/xml/scap/ssg/content/ssg-debian1[23]-ds.xml "$tree/usr/share/xml/scap/ssg/content/"
  grep -q profile_cis_level1_server "$tree/usr/share/xml/scap/ssg/content/ssg-debian12-ds.xml" || fail "ssg-debian12-ds.xml has no CIS profile; expected SSG 0.1.82 or newer from the package ssg-debian in sid"
  goss_bundle "$packages" "$tree"
  pack "$tree" "$1"
  rm -rf "$tree" "$packages" "$content"
}

# goss_bundle TREE INTO: Goss with its loader and its libraries in one folder. Copied into any image, an empty one included, it runs as
# /opt/goss/ld-linux-x86-64.so.2 --library-path /opt/goss /opt/goss/goss
goss_bundle() {
  local bundle=$2/opt/goss library needed
  mkdir -p "$bundle"
  needed=$(linked "$1" usr/bin/goss)
  for library in $needed; do cp -pL "$library" "$bundle/"; done
  cp -pL "$1/usr/lib64/ld-linux-x86-64.so.2" "$1/usr/bin/goss" "$bundle/"
}

grype_layer() { # grype_layer BINARY INTO
  pack_binary "$1" /usr/local/bin/grype "$2"
}

grype_database() { # grype_database INTO: written by the libraries of e2e/tools/grype, with that module's flags, so that its build cache serves
  local program
  program=$(mktemp)
  (cd "$root/e2e/tools/grype" && CGO_ENABLED=0 GOFLAGS='' GOWORK=off go build -mod=readonly -trimpath -buildvcs=false -ldflags '-s -w' -o "$program" "$images/grypedb/main.go") \
    >> "$out/build.log" 2>&1 || { tail -n 15 "$out/build.log" >&2; fail "grypedb was not built; it needs Go and the module e2e/tools/grype"; }
  mkdir -p "$1/tree/var/lib/grype/db"
  "$program" "$1/tree/var/lib/grype/db" >> "$out/build.log" 2>&1 || { tail -n 5 "$out/build.log" >&2; fail "grypedb wrote no database; see target/images/build.log"; }
  rm -f "$program"
  pack "$1/tree" "$1"
  rm -rf "$1/tree"
}

make_tools() {
  local common grype=${GRYPE_BINARY:-$tools_bin/grype} layers=()
  common=$(recipe_tools)
  [ -x "$grype" ] || fail "no Grype at ${grype#"$root"/}; make it with e2e/tools/build grype, or set GRYPE_BINARY"
  stage tools-root "$common $tools_packages $content_packages $oval_schemas $(declare -f tools_root goss_bundle)" tools_root
  layers+=("$stage_path")
  stage grype-layer "$common $(file_hash "$grype")" grype_layer "$grype"
  layers+=("$stage_path")
  stage grype-database "$common $(file_hash "$images/grypedb/main.go") $(file_hash "$root/e2e/tools/grype/go.mod") $(date -u +%F)" grype_database
  layers+=("$stage_path")
  repave_layer /usr/local/bin/repave tools
  if [ -n "$repave_path" ]; then layers+=("$repave_path"); fi
  image tools '{"User":"65532:65532","Env":["PATH=/usr/local/bin:/usr/bin","HOME=/tmp","SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt","GRYPE_DB_CACHE_DIR=/var/lib/grype/db","GRYPE_DB_AUTO_UPDATE=false","GRYPE_DB_VALIDATE_AGE=false","GRYPE_CHECK_FOR_APP_UPDATE=false","OSCAP_CHECK_ENGINE_PLUGIN_DIR=/nonexistent"],"Entrypoint":["/usr/local/bin/repave"],"Labels":{"org.opencontainers.image.title":"repave-tools"}}' "${layers[@]}"
}
