# shellcheck shell=bash disable=SC2154 # the variables of common.sh
# The image of the check Jobs: OpenSCAP with the data streams of several distributions, Grype, Syft, Trivy where it was fetched, the Goss bundle, repave.
# It must hold no vulnerability database (those are images of their own, which change daily), and must have no package manager, no interpreter but a small shell, no SCE plugin (it would run scripts of the scanner's own root), and nothing set-uid.

tools_packages=base-files,openscap-scanner,rpm-common,goss,busybox-static,ca-certificates
content_packages=ssg-debian,ssg-debderived,ssg-nondebian # only in the development suite are these new enough to know Debian 12 and its CIS profiles
content_version=0.1.82 # the oldest that knows all the streams and their profiles
content_streams='debian12 debian13 ubuntu2204 ubuntu2404 rhel8 rhel9 rhel10 almalinux9'
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
  # Without its macros librpm finds no database, and no platform of the RHEL family matches.
  mkdir -p "$tree/usr/lib/rpm"
  cp -a "$packages"/usr/lib/rpm/{macros,macros.d,platform,rpmrc} "$tree/usr/lib/rpm/"
  mkdir -p "$tree/var/lib/grype/db" "$tree/var/lib/trivy" "$tree/usr/share/openscap" "$tree/usr/share/xml/scap/ssg/content"
  cp -a "$packages/usr/share/openscap/xsl" "$packages/usr/share/openscap/schemas" "$tree/usr/share/openscap/"
  for version in "$tree"/usr/share/openscap/schemas/oval/*; do
    case " $oval_schemas " in *" ${version##*/} "*) ;; *) rm -rf "$version" ;; esac
  done
  data_streams "$content" "$tree/usr/share/xml/scap/ssg/content"
  goss_bundle "$packages" "$tree"
  [ -z "$(find "$tree" -name 'libopenscap_sce*')" ] || fail "the SCE plugin is in the tools image; expected copy_program to leave it out"
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

# data_streams TREE INTO: the chosen streams, and an error where one is older than the tests were written for.
data_streams() {
  local stream file found
  for stream in $content_streams; do
    file=$1/usr/share/xml/scap/ssg/content/ssg-$stream-ds.xml
    [ -f "$file" ] || fail "the ssg packages of sid have no stream for $stream"
    found=$(sed -n 's#.*<xccdf-1.2:version update=[^>]*>\([0-9.]*\)<.*#\1#p;T;q' "$file")
    dpkg --compare-versions "${found:-0}" ge "$content_version" || fail "ssg-$stream-ds.xml is of version \"$found\"; expected $content_version or newer in sid"
    grep -q profile_cis "$file" || fail "ssg-$stream-ds.xml ($found) has no CIS profile; expected one as in $content_version"
    cp -p "$file" "$2/"
  done
}

make_tools() {
  local program layers=()
  for program in grype syft; do
    [ -x "$tools_bin/$program" ] || fail "no target/tools/bin/$program; make it with e2e/tools/build $program"
  done
  stage tools-root "$(recipe_tools) $tools_packages $content_packages $content_version $content_streams $oval_schemas $(declare -f tools_root goss_bundle data_streams)" tools_root
  layers+=("$stage_path")
  for program in grype syft trivy; do
    if [ ! -x "$tools_bin/$program" ]; then
      note "no target/tools/bin/$program (e2e/tools/build $program): tools is made without it"
      continue
    fi
    binary_layer "$program" "/usr/local/bin/$program"
    layers+=("$stage_path")
  done
  repave_layer /usr/local/bin/repave tools
  if [ -n "$repave_path" ]; then layers+=("$repave_path"); fi
  image tools '{"User":"65532:65532","Env":["PATH=/usr/local/bin:/usr/bin","HOME=/tmp","SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt","GRYPE_DB_CACHE_DIR=/var/lib/grype/db","GRYPE_DB_AUTO_UPDATE=false","GRYPE_DB_VALIDATE_AGE=false","GRYPE_CHECK_FOR_APP_UPDATE=false","SYFT_CHECK_FOR_APP_UPDATE=false","SYFT_FILE_METADATA_SELECTION=none","TRIVY_CACHE_DIR=/var/lib/trivy","TRIVY_CACHE_BACKEND=memory","TRIVY_SKIP_DB_UPDATE=true","TRIVY_SKIP_JAVA_DB_UPDATE=true","TRIVY_OFFLINE_SCAN=true","TRIVY_SKIP_VERSION_CHECK=true","TRIVY_DISABLE_TELEMETRY=true","OSCAP_CHECK_ENGINE_PLUGIN_DIR=/nonexistent"],"Entrypoint":["/usr/local/bin/repave"],"Labels":{"org.opencontainers.image.title":"repave-tools"}}' "${layers[@]}"
}
