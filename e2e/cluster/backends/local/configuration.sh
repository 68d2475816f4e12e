# The configuration files of the local cluster's components, and the manifest of its DNS Service. Sourced by backends/local.sh.
# It must not name a path outside the state folder and the private /run and /var that node.sh gives the components.
# shellcheck shell=bash disable=SC2154,SC2164,SC2034 # the settings come from `cluster` and its settings file; errexit is on

# registry_hosts NAME PORT: what containerd does when an image names this registry.
registry_hosts() {
  mkdir -p "$state/config/certs.d/$1"
  cat > "$state/config/certs.d/$1/hosts.toml" <<EOF
server = "http://$node_address:$2"
[host."http://$node_address:$2"]
  capabilities = ["pull", "resolve"]
EOF
}

write_containerd() {
  # restrict_oom_score_adj: root without CAP_SYS_RESOURCE cannot lower a score. opt: it would make folders in the host's /opt.
  cat > "$state/config/containerd.toml" <<EOF
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["$bin"]
    conf_dir = "$state/config/cni"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "$registry/repave-e2e/pause:1"
[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = "$state/config/certs.d"
EOF
  registry_hosts "$registry" "${registry##*:}"
  registry_hosts "$referrers_registry" "${referrers_registry##*:}"
}

write_cni() {
  # The masquerade is inside the namespace; it lets a pod reach a mirror that listens on the host's end of the link, and nothing further.
  mkdir -p "$state/config/cni"
  cat > "$state/config/cni/10-pods.conflist" <<'EOF'
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipMasq": true, "ipMasqBackend": "nftables",
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}, "backend": "nftables"}
]}
EOF
}

write_kubelet() {
  # cgroupRoot keeps the pods of several checkouts apart; a v1 hierarchy is refused by default and still common.
  cat > "$state/config/kubelet.yaml" <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup
oomScoreAdj: 0
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
resolvConf: $state/config/resolv.conf
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $state/pki/ca.crt}}
authorization: {mode: Webhook}
evictionHard: {nodefs.available: "1%", imagefs.available: "1%", memory.available: "100Mi"}
imageGCHighThresholdPercent: 100
makeIPTablesUtilChains: false
failSwapOn: false
maxPods: 250
serializeImagePulls: false
nodeStatusUpdateFrequency: 10s
volumePluginDir: /var/lib/kubelet/volume-plugins
EOF
  echo "nameserver $node_address" > "$state/config/resolv.conf"
}

write_proxy() {
  cat > "$state/config/proxy.yaml" <<EOF
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
oomScoreAdj: 0
clusterCIDR: 10.244.0.0/24
hostnameOverride: node1
clientConnection: {kubeconfig: $state/pki/admin.conf}
conntrack: {maxPerCore: 0}
EOF
}

write_registry() {
  cat > "$state/config/registry.yaml" <<EOF
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: /var/lib/registry}
  delete: {enabled: true}
http: {addr: "0.0.0.0:${registry##*:}"}
EOF
}

write_dns() {
  # The order of the plugins is fixed in the program: names of the cluster, then the registries; all else does not exist, because nothing is reachable.
  cat > "$state/config/Corefile" <<EOF
.:53 {
  errors
  ready $node_address:8181
  kubernetes cluster.local {
    kubeconfig $state/pki/admin.conf repave
  }
  hosts {
    $node_address ${registry%:*} ${referrers_registry%:*}
    $host_address host.local
  }
  cache 30
}
EOF
  # CoreDNS is a process of the node, so its Service has no selector and its one endpoint is written down.
  cat > "$state/config/dns-service.yaml" <<EOF
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec:
  clusterIP: 10.96.0.10
  ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
endpoints: [{addresses: [$node_address]}]
EOF
}

write_hosts() {
  {
    cat /etc/hosts
    printf '\n%s %s %s\n' "$node_address" "${registry%:*}" "${referrers_registry%:*}"
  } > "$state/hosts"
}

write_configuration() {
  mkdir -p "$state/config"
  write_containerd
  write_cni
  write_kubelet
  write_proxy
  write_registry
  write_dns
  write_hosts
}
