# The backend for a cluster and a registry that exist already. Sourced by `cluster`.
# It must not create or delete anything in that cluster, and must not change the caller's kubeconfig: it takes a copy of one context.
# shellcheck shell=bash disable=SC2154,SC2034 # root, bin, state, logs and kubeconfig are set by `cluster`

load_settings() {
  if [ -s "$state/settings" ]; then
    # shellcheck disable=SC1091
    . "$state/settings"
    return
  fi
  [ -n "${REPAVE_CONTEXT:-}" ] || fail "the backend current needs REPAVE_CONTEXT, the name of a context of your kubeconfig (kubectl config get-contexts)"
  [ -n "${REPAVE_REGISTRY:-}" ] || fail "the backend current needs REPAVE_REGISTRY, a registry that the cluster, its pods and this machine reach by the same name, like registry.example.com:5000"
  context=$REPAVE_CONTEXT
  registry=$REPAVE_REGISTRY
  referrers_registry=${REPAVE_REFERRERS_REGISTRY:-}
}

backend_up() {
  load_settings
  command -v kubectl > /dev/null || fail "kubectl is not in PATH; build it with: e2e/tools/build kube"
  mkdir -p "$state"
  (umask 077 && kubectl config view --minify --flatten --context "$context" > "$kubeconfig") || fail "the kubeconfig has no context \"$context\""
  printf 'backend=current\ncontext=%q\nregistry=%q\nreferrers_registry=%q\n' "$context" "$registry" "$referrers_registry" > "$state/settings"
  backend_status
}

backend_down() {
  rm -rf "$state"
  echo "cluster: forgot the context; the cluster itself is untouched"
}

backend_status() {
  load_settings
  if ! kubectl --kubeconfig "$kubeconfig" get --raw /readyz --request-timeout 10s > /dev/null; then
    echo "cluster: the API server of context $context does not answer"
    return 1
  fi
  echo "cluster: context $context answers; registry $registry"
}

backend_environment() { printf 'REPAVE_REGISTRY=%s\nREPAVE_REFERRERS_REGISTRY=%s\n' "$registry" "$referrers_registry"; }
