#!/usr/bin/env bash
# Process 1 of the local cluster: starts every component inside private process and mount namespaces and records the ones that end.
# When this process dies the kernel ends all components, containers and mounts with it, so nothing can be left behind.
# It must not restart a component (a test must see that one died) and must not write to the host's /run, /var/lib or /var/log.
# shellcheck disable=SC2154 # the addresses and names come from the settings file
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../../.." && pwd)
state=$1
bin=$root/target/tools/bin
logs=$state/logs
# shellcheck disable=SC1091 # written by `cluster up`
. "$state/settings"
export PATH=$bin:$PATH # first: containerd must find its own shim and runc, not a packaged older one
declare -A names=()

# cover FOLDER: an empty one in its place; if the checkout lies below it, it is put back.
cover() {
  local checkout
  exec {checkout}< "$root"
  mount -t tmpfs -o mode=755 repave "$1"
  if [ ! -d "$root" ]; then
    mkdir -p "$root"
    mount --no-canonicalize --bind "/proc/self/fd/$checkout" "$root"
  fi
  exec {checkout}<&-
}

# keep FOLDER NAME: its content is in the state folder.
keep() {
  mkdir -p "$1" "$state/data/$2"
  mount --bind "$state/data/$2" "$1"
}

prepare_mounts() {
  mount --make-rshared / # volumes that kubelet mounts must show up in containers
  cover /run
  cover /var/lib
  cover /var/log
  keep /var/lib/containerd containerd
  keep /var/lib/kubelet kubelet
  keep /var/lib/etcd etcd
  keep /var/lib/registry registry
  keep /var/lib/referrers referrers
  keep /var/log/pods pod-logs
  mount --bind "$state/hosts" /etc/hosts
}

start() { # start NAME COMMAND...
  local name=$1
  shift
  "$@" > "$logs/$name.log" 2>&1 < /dev/null &
  names[$!]=$name
}

start_store() {
  start etcd etcd --data-dir /var/lib/etcd --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --unsafe-no-fsync --log-level warn
  start registry docker-registry serve "$state/config/registry.yaml"
  start referrers referrers-registry -address ":${referrers_registry##*:}" -disk /var/lib/referrers
  start containerd containerd -c "$state/config/containerd.toml"
}

start_apiserver() {
  local pki=$state/pki
  start apiserver kube apiserver --etcd-servers=http://127.0.0.1:2379 --bind-address=0.0.0.0 --secure-port=6443 --advertise-address="$node_address" \
    --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" --client-ca-file="$pki/ca.crt" \
    --kubelet-client-certificate="$pki/apiserver-kubelet.crt" --kubelet-client-key="$pki/apiserver-kubelet.key" \
    --kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --service-account-key-file="$pki/service-accounts.pub" --service-account-signing-key-file="$pki/service-accounts.key" \
    --service-account-issuer=https://kubernetes.default.svc --service-cluster-ip-range=10.96.0.0/16 \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true
}

# await_apiserver: the others would end or back off for seconds without it. `cluster up` keeps the time limit; a component's end is one at once.
await_apiserver() {
  local pid
  until curl -sf -m 2 -o /dev/null --cacert "$state/pki/ca.crt" "https://$node_address:6443/readyz"; do
    for pid in "${!names[@]}"; do kill -0 "$pid" 2> /dev/null || return 1; done
    sleep 0.1
  done
}

start_rest() {
  local pki=$state/pki
  start kubelet kube kubelet --config="$state/config/kubelet.yaml" --kubeconfig="$pki/kubelet.conf" --hostname-override=node1 \
    --node-ip="$node_address" --tls-cert-file="$pki/kubelet.crt" --tls-private-key-file="$pki/kubelet.key"
  # 20 requests a second, the default, would make the roll-out of a large estate wait for this process.
  start controller-manager kube controller-manager --kubeconfig="$pki/admin.conf" --root-ca-file="$pki/ca.crt" \
    --service-account-private-key-file="$pki/service-accounts.key" --use-service-account-credentials=true \
    --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" \
    --leader-elect=false --allocate-node-cidrs=false --kube-api-qps=500 --kube-api-burst=1000
  start scheduler kube scheduler --kubeconfig="$pki/admin.conf" --leader-elect=false
  start proxy kube proxy --config="$state/config/proxy.yaml"
  start coredns coredns -conf "$state/config/Corefile"
}

# record_ends: one line per component that ended; `cluster status` and `cluster up` read them.
record_ends() {
  local ended code
  while [ ${#names[@]} -gt 0 ]; do
    code=0
    wait -n -p ended "${!names[@]}" || code=$?
    [ -n "${ended:-}" ] || break
    echo "${names[$ended]} ended with $code" >> "$state/ended"
    unset "names[$ended]"
  done
}

prepare_mounts
start_store
start_apiserver
if await_apiserver; then start_rest; fi
record_ends
