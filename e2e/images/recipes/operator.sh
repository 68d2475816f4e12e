# shellcheck shell=bash disable=SC2154 # the variables of common.sh
# The operator's image: one static binary and the certificates it trusts. It must hold nothing else, and no account but a number.

operator_root() { # operator_root INTO: the bundle of ca-certificates
  debian_tree trixie "$1/packages" --variant=extract --include=ca-certificates
  certificates "$1/packages" "$1/tree"
  pack "$1/tree" "$1"
  rm -rf "$1/tree" "$1/packages"
}

make_operator() {
  local certificates_path
  stage operator-root "$(recipe_tools) $(declare -f operator_root)" operator_root
  certificates_path=$stage_path
  repave_layer /repave operator
  if [ -z "$repave_path" ]; then # an operator image without the operator would only fail later
    rm -rf "${out:?}/operator"
    fail "the operator's image needs the repave binary: make it with \`make binaries\`, or name it with REPAVE_BINARY"
  fi
  image operator '{"User":"65532:65532","Env":["PATH=/","SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"],"Entrypoint":["/repave"],"Labels":{"org.opencontainers.image.title":"repave"}}' "$certificates_path" "$repave_path"
}
