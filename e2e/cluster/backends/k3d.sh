# The k3d backend: the same names and the same interface on a machine with Docker. Sourced by `cluster`. Written from k3d's documentation, see README.md.
# It must not touch a k3d cluster, container or network whose name is not this checkout's.
# shellcheck shell=bash disable=SC2154,SC2034 # root, bin, state, logs and kubeconfig are set by `cluster`

k3s_image=${REPAVE_K3S_IMAGE:-rancher/k3s:v1.36.3-k3s1}
registry_image=${REPAVE_REGISTRY_IMAGE:-docker.io/library/registry:2}

load_settings() {
  if [ ! -s "$state/settings" ]; then
    mkdir -p "$state"
    cat > "$state/settings" <<EOF
backend=k3d
name=repave-$(printf '%s' "$root" | sha256sum | cut -c1-8)
registry=${REPAVE_REGISTRY:-registry.local:5000}
referrers_registry=${REPAVE_REFERRERS_REGISTRY:-referrers.local:5001}
EOF
  fi
  # shellcheck disable=SC1091
  . "$state/settings"
}

# start_registry CONTAINER NAME:PORT ARGS...: on the cluster's network, under the name by which pods, containerd and people know it.
start_registry() {
  local container=$1 host=${2%:*} port=${2##*:}
  shift 2
  docker run -d --name "$container" --network "$name" --network-alias "$host" -p "127.0.0.1:$port:$port" "$@" >> "$logs/docker.log" 2>&1 \
    || fail "the registry $host could not be started; see target/cluster/logs/docker.log"
}

# names_for_pods: Docker's own resolver answers on the node but not through CoreDNS, which reads this map.
names_for_pods() {
  local host container
  echo 'apiVersion: v1'
  echo 'kind: ConfigMap'
  echo 'metadata: {name: coredns-custom, namespace: kube-system}'
  echo 'data:'
  for host in "${registry%:*}" "${referrers_registry%:*}"; do
    container=$name-${host%%.*}
    printf '  %s.server: |\n    %s:53 {\n      hosts {\n        %s %s\n      }\n    }\n' "$host" "$host" \
      "$(docker inspect -f "{{(index .NetworkSettings.Networks \"$name\").IPAddress}}" "$container")" "$host"
  done
}

backend_up() {
  load_settings
  if backend_status > /dev/null; then echo "cluster: already running and healthy"; return; fi
  backend_down
  load_settings
  mkdir -p "$logs"
  [ -x "$bin/referrers-registry" ] || fail "not built yet: referrers-registry; build it with: e2e/tools/build crane"
  docker network create "$name" >> "$logs/docker.log"
  start_registry "$name-${registry%%.*}" "$registry" -e "REGISTRY_HTTP_ADDR=:${registry##*:}" -e REGISTRY_STORAGE_DELETE_ENABLED=true "$registry_image"
  start_registry "$name-${referrers_registry%%.*}" "$referrers_registry" -v "$bin/referrers-registry:/referrers-registry:ro" \
    --entrypoint /referrers-registry "$registry_image" -address ":${referrers_registry##*:}"
  printf 'mirrors:\n  "%s":\n    endpoint: ["http://%s"]\n  "%s":\n    endpoint: ["http://%s"]\n' \
    "$registry" "$registry" "$referrers_registry" "$referrers_registry" > "$state/registries.yaml"
  k3d cluster create "$name" --image "$k3s_image" --network "$name" --registry-config "$state/registries.yaml" --no-lb --wait \
    --kubeconfig-update-default=false --kubeconfig-switch-context=false --k3s-arg '--disable=traefik@server:*' \
    || fail "k3d could not create the cluster (image $k3s_image; another one: REPAVE_K3S_IMAGE=...)"
  k3d kubeconfig get "$name" > "$kubeconfig"
  names_for_pods | kubectl --kubeconfig "$kubeconfig" apply -f -
  { cat /etc/hosts; printf '\n127.0.0.1 %s %s\n' "${registry%:*}" "${referrers_registry%:*}"; } > "$state/hosts"
  kubectl --kubeconfig "$kubeconfig" wait --for=condition=Ready nodes --all --timeout=120s
  backend_status
}

backend_down() {
  load_settings
  k3d cluster delete "$name" > /dev/null 2>&1 || true
  docker rm -f "$name-${registry%%.*}" "$name-${referrers_registry%%.*}" > /dev/null 2>&1 || true
  docker network rm "$name" > /dev/null 2>&1 || true
  rm -rf "$state"
}

backend_status() {
  load_settings
  if ! kubectl --kubeconfig "$kubeconfig" get --raw /readyz --request-timeout 10s > /dev/null 2>&1; then
    echo "cluster: k3d cluster $name does not answer; start it with: e2e/cluster/cluster up"
    return 1
  fi
  echo "cluster: k3d cluster $name answers; $registry, $referrers_registry"
}

backend_environment() { printf 'REPAVE_REGISTRY=%s\nREPAVE_REFERRERS_REGISTRY=%s\n' "$registry" "$referrers_registry"; }
