# The local backend: Kubernetes as plain processes in a network, a mount and a process namespace of this checkout. Sourced by `cluster`.
# It must not leave anything on the host but the namespace's entry, and must not end a process that is not this checkout's.
# shellcheck shell=bash disable=SC2154,SC2034 # root, bin, state, logs and kubeconfig are set by `cluster`

node_script=$here/backends/local/node.sh
# shellcheck source=local/certificates.sh
. "$here/backends/local/certificates.sh"
# shellcheck source=local/configuration.sh
. "$here/backends/local/configuration.sh"
# shellcheck source=local/network.sh
. "$here/backends/local/network.sh"
# shellcheck source=local/host.sh
. "$here/backends/local/host.sh"

load_settings() {
  if [ ! -s "$state/settings" ]; then
    mkdir -p "$state"
    choose_settings > "$state/settings.new"
    mv "$state/settings.new" "$state/settings"
  fi
  # shellcheck disable=SC1091
  . "$state/settings"
}

# ended: what the node recorded of components that are no longer there; with the reason to look further.
ended() { if [ -s "$state/ended" ]; then tr '\n' ';' < "$state/ended"; fi; }

api_ready() { curl -sf -m 2 -o /dev/null --cacert "$state/pki/ca.crt" "https://$node_address:6443/readyz"; }
registry_ready() { curl -sf -m 2 -o /dev/null "http://$node_address:${registry##*:}/v2/"; }
referrers_ready() { curl -sf -m 2 -o /dev/null "http://$node_address:${referrers_registry##*:}/v2/"; }
containerd_ready() { local pid; pid=$(node_pid) && [ -S "/proc/$pid/root/run/containerd/containerd.sock" ]; }
node_ready() {
  kubectl --kubeconfig "$kubeconfig" get node node1 -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2> /dev/null | grep -qx True
}
account_ready() { kubectl --kubeconfig "$kubeconfig" get serviceaccount default -n default > /dev/null 2>&1; }
dns_ready() { curl -sf -m 2 -o /dev/null "http://$node_address:8181/ready"; }
services_ready() { in_network timeout 1 bash -c 'exec 3<> /dev/tcp/10.96.0.10/53 4<> /dev/tcp/10.96.0.1/443' 2> /dev/null; }

# unhealthy: prints the first thing that is wrong and succeeds, or fails when nothing is.
unhealthy() {
  if ! node_pid > /dev/null; then echo "its processes are gone"; return; fi
  if [ -n "$(ended)" ]; then echo "$(ended) see target/cluster/logs"; return; fi
  if [ ! -e "$state/complete" ]; then echo "it was never started completely"; return; fi
  if ! api_ready; then echo "the API server does not answer"; return; fi
  if ! registry_ready; then echo "$registry does not answer"; return; fi
  if ! referrers_ready; then echo "$referrers_registry does not answer"; return; fi
  if ! node_ready; then echo "the node is not Ready"; return; fi
  if ! dns_ready; then echo "DNS does not answer"; return; fi
  return 1
}

# await LOG SECONDS TEXT CHECK: polls, because none of the components tells; ends early when one of them did.
await() {
  local log=$1 limit=$((SECONDS + $2)) text=$3 check=$4
  until "$check"; do
    if [ -n "$(ended)" ]; then log=$(awk 'NR == 1 { print $1 }' "$state/ended"); broken "$log" "$(ended) while waiting for: $text"; fi
    if ! node_pid > /dev/null; then broken node "the node's first process ended while waiting for: $text"; fi
    if [ "$SECONDS" -ge "$limit" ]; then broken "$log" "not so within $2 s: $text"; fi
    sleep 0.1
  done
  progress "$text"
}

broken() { # broken LOG WHAT
  {
    echo "cluster: $2"
    echo "cluster: the log to read is target/cluster/logs/$1.log; its last 20 lines:"
    tail -n 20 "$logs/$1.log" 2> /dev/null | sed 's/^/  /'
    echo "cluster: \`cluster up\` again starts from nothing, \`cluster down\` takes everything away"
  } >&2
  exit 1
}

push_pause() {
  local archive=$state/data/pause.tar image=$node_address:${registry##*:}/repave-e2e/pause:1 machine
  case $(uname -m) in x86_64) machine=amd64 ;; aarch64) machine=arm64 ;; *) fail "this backend knows x86_64 and aarch64, found $(uname -m)" ;; esac
  tar -C "$bin" --owner=0 --group=0 --numeric-owner -cf "$archive" pause
  {
    "$bin/crane" append --insecure --oci-empty-base -f "$archive" -t "$image"
    "$bin/crane" mutate --insecure --entrypoint /pause --set-platform "linux/$machine" -t "$image" "$image"
  } >> "$logs/crane.log" 2>&1 || broken crane "the pause image could not be pushed to $image"
}

start_node() {
  local limit=$((SECONDS + 10))
  # setsid and closed descriptors: the node outlives the caller's terminal, pipes and locks.
  (
    close_descriptors
    exec setsid nsenter --net="/run/netns/$namespace" unshare --mount --pid --fork --kill-child --mount-proc \
      "$node_script" "$state" > "$logs/node.log" 2>&1 < /dev/null
  ) &
  disown
  until node_pid > /dev/null; do
    if [ "$SECONDS" -ge "$limit" ]; then broken node "the node's first process did not start within 10 s"; fi
    sleep 0.05
  done
}

fresh_start() {
  load_settings
  mkdir -p "$logs" "$state/data"
  save_kernel_settings
  make_network
  progress "network $node_address in namespace $namespace"
  make_certificates
  write_configuration
  make_cgroups
  start_node
  await registry 60 "registries $registry and $referrers_registry answer" both_registries_ready
  push_pause
  await containerd 60 "containerd is running" containerd_ready
  await apiserver 120 "API server is ready at https://$node_address:6443" api_ready
  kubectl --kubeconfig "$kubeconfig" apply --server-side --field-manager=repave-e2e -f "$state/config/dns-service.yaml" >> "$logs/kubectl.log" 2>&1 \
    || broken kubectl "the DNS Service could not be made"
  await kubelet 120 "node is Ready" node_ready
  await controller-manager 60 "ServiceAccount default exists" account_ready
  await coredns 60 "DNS is ready" dns_ready
  await proxy 60 "Services are reachable" services_ready
  touch "$state/complete"
}

both_registries_ready() { registry_ready && referrers_ready; }

backend_up() {
  local reason
  need_root
  need_tools
  if [ -e "$state" ]; then
    load_settings
    if ! reason=$(unhealthy); then
      echo "cluster: already running and healthy (Kubernetes $(server_version), node Ready, https://$node_address:6443)"
      return
    fi
    echo "cluster: found a broken one: $reason; taking it away and starting from nothing"
    backend_down
  else
    load_settings
    if left_behind; then
      echo "cluster: an earlier checkout at this path left its network behind ($namespace); taking it away and starting from nothing"
      backend_down
    fi
  fi
  trap 'trap - INT TERM; echo "cluster: interrupted, taking away what was started" >&2; backend_down; exit 130' INT TERM
  fresh_start
  trap - INT TERM
  echo "cluster: Kubernetes $(server_version), 1 node, ready, $(elapsed) s; next: eval \"\$(e2e/cluster/cluster env)\" or e2e/cluster/cluster run CMD..."
}

server_version() { kubectl --kubeconfig "$kubeconfig" version -o json 2> /dev/null | awk -F'"' '/"serverVersion"/ { server = 1 } server && /"gitVersion"/ { print $4 }'; }

backend_down() {
  need_root
  load_settings
  kill_node
  remove_network
  remove_cgroups
  restore_kernel_settings
  unmount_state
  rm -rf "$state"
}

backend_status() {
  local reason
  if [ ! -e "$state/settings" ]; then echo "cluster: not running; start it with: e2e/cluster/cluster up"; return 1; fi
  load_settings
  if reason=$(unhealthy); then echo "cluster: broken: $reason; repair it with: e2e/cluster/cluster up"; return 1; fi
  echo "cluster: healthy, Kubernetes $(server_version), https://$node_address:6443, $registry, $referrers_registry, namespace $namespace, host end $host_address"
}

backend_environment() {
  printf 'REPAVE_REGISTRY=%s\nREPAVE_REFERRERS_REGISTRY=%s\nREPAVE_NODE_ADDRESS=%s\nREPAVE_HOST_ADDRESS=%s\n' \
    "$registry" "$referrers_registry" "$node_address" "$host_address"
}
