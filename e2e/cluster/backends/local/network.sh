# The network namespace of the local cluster, the one pair of interfaces that joins it to the host, and the settings that keep checkouts apart.
# Sourced by backends/local.sh. It must not write a firewall rule, a bridge or a route on the host: the namespace and the pair are all.
# shellcheck shell=bash disable=SC2154,SC2164,SC2034 # the settings come from `cluster` and its settings file; errexit is on

path_digest() { printf '%s' "$root" | sha256sum | cut -c1-8; }

# choose_settings: names and addresses follow from the checkout's path, so two checkouts never meet; they are kept, so that `down` takes away what `up` made.
choose_settings() {
  local digest subnet
  digest=$(path_digest)
  # 10.128 to 10.191: away from Services (10.96) and pods (10.244).
  subnet=${REPAVE_SUBNET:-10.$((128 + 16#${digest:0:2} % 64)).$((16#${digest:2:2}))}
  [[ $subnet =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || fail "REPAVE_SUBNET is the first three numbers of a network, like 10.150.7; found \"$subnet\""
  cat <<EOF
backend=local
namespace=${REPAVE_NETNS:-repave-$digest}
link=${REPAVE_LINK:-rp$digest}
cgroup=repave-$digest
host_address=$subnet.1
node_address=$subnet.2
registry=${REPAVE_REGISTRY:-registry.local:5000}
referrers_registry=${REPAVE_REFERRERS_REGISTRY:-referrers.local:5001}
EOF
}

make_network() {
  local taken
  [ ${#link} -le 15 ] || fail "REPAVE_LINK is \"$link\", ${#link} characters; an interface name has at most 15"
  taken=$(ip -4 route show to match "$node_address" | grep -v '^default' || true)
  [ -z "$taken" ] || fail "the host has a route to $node_address already ($taken); choose another network: REPAVE_SUBNET=10.150.7 (its first three numbers)"
  ip netns add "$namespace"
  ip link add "$link" type veth peer name eth0 netns "$namespace"
  ip addr add "$host_address/24" dev "$link"
  ip link set "$link" up
  ip -n "$namespace" addr add "$node_address/24" dev eth0
  ip -n "$namespace" link set eth0 up
  ip -n "$namespace" link set lo up
  ip -n "$namespace" route add default via "$host_address"
  # Not `ip netns exec`: that mounts a fresh /sys; /proc/sys/net follows the network namespace on its own.
  in_network sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
}

in_network() { nsenter --net="/run/netns/$namespace" "$@"; }

# left_behind: a checkout that was removed without `down` takes its settings with it, and its names stay on the host. Only names that follow
# from this path are ours by themselves: one that was chosen with REPAVE_NETNS or REPAVE_LINK may be somebody else's.
left_behind() {
  local digest
  digest=$(path_digest)
  [ "$namespace" = "repave-$digest" ] && [ "$link" = "rp$digest" ] || return 1
  [ -e "/run/netns/$namespace" ] || [ -e "/sys/class/net/$link" ]
}

remove_network() {
  if [ -e "/run/netns/$namespace" ]; then ip netns del "$namespace"; fi
  if [ -e "/sys/class/net/$link" ]; then ip link del "$link" 2> /dev/null || true; fi # the kernel may have taken it with the namespace
}
