# What the local cluster borrows from the host, and how it is given back: processes, control groups, kernel settings, mounts. Sourced by backends/local.sh.
# It must not touch a process that does not run this checkout's node script on this checkout's state.
# shellcheck shell=bash disable=SC2154,SC2164,SC2034 # the settings come from `cluster` and its settings file; errexit is on

# The settings kubelet writes for the whole machine; `up` notes them and `down` puts them back.
kernel_settings=(vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes)

need_root() {
  [ "$(id -u)" = 0 ] || fail "the local backend makes namespaces and needs root; use sudo, or REPAVE_CLUSTER=k3d with Docker"
}

need_tools() {
  local program missing=()
  for program in kube kubectl etcd containerd containerd-shim-runc-v2 runc bridge loopback host-local portmap crane referrers-registry coredns pause; do
    [ -x "$bin/$program" ] || missing+=("$program")
  done
  [ ${#missing[@]} = 0 ] || fail "not built yet: ${missing[*]}; build them with: e2e/tools/build (about 15 minutes, once)"
  for program in ip nft openssl curl nsenter unshare setsid docker-registry; do
    command -v "$program" > /dev/null || missing+=("$program")
  done
  [ ${#missing[@]} = 0 ] || fail "not in PATH: ${missing[*]}; Debian's packages are iproute2 nftables openssl curl util-linux docker-registry (e2e/tools/build runc installs them)"
}

# node_processes: those whose arguments name exactly our script and our state folder. Found by what they are and never by a
# remembered number, which the kernel may have given to somebody else.
node_processes() {
  local file pid
  while read -r file; do
    if grep -qzxF -- "$state" "$file" 2> /dev/null; then
      pid=${file#/proc/}
      echo "${pid%/cmdline}"
    fi
  done < <(grep -lzxF -- "$node_script" /proc/[0-9]*/cmdline 2> /dev/null)
}

# node_pid: the first process inside the namespaces, seen from the host. Remembered for speed, but believed only if it is what it should be.
node_pid() {
  local pid
  if [ -s "$state/node.pid" ]; then
    pid=$(cat "$state/node.pid")
    if is_node "$pid"; then echo "$pid"; return; fi
  fi
  for pid in $(node_processes); do
    if is_node "$pid"; then echo "$pid" > "$state/node.pid"; echo "$pid"; return; fi
  done
  return 1
}

# is_node PID: runs our script in a process namespace in which it is number 1.
is_node() {
  [ -r "/proc/$1/status" ] && grep -qzxF -- "$state" "/proc/$1/cmdline" 2> /dev/null && grep -qzxF -- "$node_script" "/proc/$1/cmdline" \
    && awk '$1 == "NSpid:" { found = NF > 2 && $NF == 1 } END { exit !found }' "/proc/$1/status" 2> /dev/null
}

# kill_node: SIGKILL at once, because an API server without its store waits a minute; the kernel ends all that is in the namespace with its first process.
kill_node() {
  local limit=$((SECONDS + 30)) pids
  while pids=$(node_processes) && [ -n "$pids" ]; do
    # shellcheck disable=SC2086 # a list of numbers
    kill -9 $pids 2> /dev/null || true
    [ "$SECONDS" -lt "$limit" ] || fail "processes ${pids//$'\n'/ } do not end within 30 s of SIGKILL; look at /proc/PID/stack"
    sleep 0.1
  done
}

control_group_roots() {
  local root
  for root in /sys/fs/cgroup /sys/fs/cgroup/*; do
    if [ -f "$root/cgroup.procs" ] && [ ! -L "$root" ]; then echo "$root"; fi
  done
}

# make_cgroups: kubelet insists that its root group exists in every hierarchy.
make_cgroups() {
  local hierarchy
  if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir -p "/sys/fs/cgroup/$cgroup"
    return
  fi
  for hierarchy in $(control_group_roots); do mkdir -p "$hierarchy/$cgroup"; done
}

remove_cgroups() {
  local hierarchy
  for hierarchy in $(control_group_roots); do
    if [ -d "$hierarchy/$cgroup" ]; then
      find "$hierarchy/$cgroup" -depth -type d -exec rmdir {} + 2> /dev/null || echo "cluster: control group $hierarchy/$cgroup is still in use and stays" >&2
    fi
  done
}

save_kernel_settings() {
  local name
  for name in "${kernel_settings[@]}"; do echo "$name $(cat "/proc/sys/$name")"; done > "$state/kernel-settings"
}

restore_kernel_settings() {
  local name value
  [ -s "$state/kernel-settings" ] || return 0
  while read -r name value; do
    if [ "$(cat "/proc/sys/$name")" != "$value" ]; then echo "$value" > "/proc/sys/$name"; fi
  done < "$state/kernel-settings"
}

# unmount_state: none is expected, all of them were in the node's own mount namespace; but a folder with a mount in it must never be removed.
unmount_state() {
  local point
  while read -r point; do umount -l "$point"; done < <(awk -v state="$state/" 'index($2, state) == 1 { print $2 }' /proc/self/mounts | sort -r)
}

close_descriptors() {
  local descriptor
  for descriptor in /proc/self/fd/*; do
    descriptor=${descriptor##*/}
    if [ "$descriptor" -gt 2 ]; then eval "exec $descriptor>&-"; fi
  done
}
