# shellcheck shell=bash disable=SC2154 # the variables of common.sh
# The vulnerability databases, each an image of nothing but the folder that its scanner reads, to be mounted as an image volume.
# They must hold no program and be no part of the tools image: in a real estate they change daily and the tools do not.

database_program() { # database_program INTO: compiled inside e2e/tools/grype with that module's flags, so that its build cache serves
  (cd "$root/e2e/tools/grype" && CGO_ENABLED=0 GOFLAGS='' GOWORK=off go build -mod=readonly -trimpath -buildvcs=false -ldflags '-s -w' -o "$1/databases" "$images"/databases/*.go) \
    >> "$out/build.log" 2>&1 || { tail -n 15 "$out/build.log" >&2; fail "the program databases was not built; it needs Go and the module e2e/tools/grype"; }
}

database_layer() { # database_layer KIND PROGRAM INTO
  mkdir "$3/tree"
  "$2" "$1" "$3/tree" >> "$out/build.log" 2>&1 || { tail -n 5 "$out/build.log" >&2; fail "no $1 database was written; see target/images/build.log"; }
  pack "$3/tree" "$3"
  rm -rf "$3/tree"
}

make_database() { # make_database grype|trivy
  local program=$stages/database-program/databases
  stage database-program "$(declare -f database_program) $(cat "$images"/databases/*.go "$root/e2e/tools/grype/go.mod") $(go env GOVERSION)" database_program
  stage "$1-database" "$(recipe_tools) $(file_hash "$program") $(date -u +%F) ${REPAVE_DB_BUILT-} ${REPAVE_DB_EXTRA-} ${REPAVE_DB_BLIND-}" database_layer "$1" "$program"
  image "$1-db" "{\"Labels\":{\"org.opencontainers.image.title\":\"$1-db\"}}" "$stage_path"
}
