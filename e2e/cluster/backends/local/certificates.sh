# Certificates and kubeconfigs of the local cluster. Sourced by backends/local.sh; everything is made new at each start and lives 30 days.
# It must not reuse or trust anything from outside the state folder.
# shellcheck shell=bash disable=SC2154,SC2164,SC2034 # the settings come from `cluster` and its settings file; errexit is on

new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1" 2>> "$logs/openssl.log"; }

# certificate NAME SUBJECT ALTERNATIVE-NAMES
certificate() {
  new_key "$1.key"
  openssl req -new -key "$1.key" -subj "$2" -out "$1.csr" 2>> "$logs/openssl.log"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out "$1.crt" \
    -extfile <(echo "subjectAltName=$3") 2>> "$logs/openssl.log"
}

# kubeconfig_for CERTIFICATE: written here and not with kubectl, which would take a second for four files.
kubeconfig_for() {
  cat <<EOF
apiVersion: v1
kind: Config
current-context: repave
contexts: [{name: repave, context: {cluster: repave, user: $1}}]
clusters:
  - name: repave
    cluster: {server: "https://$node_address:6443", certificate-authority-data: $(base64 -w0 ca.crt)}
users:
  - name: $1
    user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}
EOF
}

make_certificates() (
  umask 077
  mkdir -p "$state/pki"
  cd "$state/pki"
  new_key ca.key
  openssl req -x509 -new -key ca.key -subj /CN=repave-test-ca -days 30 -out ca.crt 2>> "$logs/openssl.log"
  certificate apiserver /CN=kube-apiserver \
    "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost,IP:$node_address,IP:127.0.0.1,IP:10.96.0.1"
  certificate admin /O=system:masters/CN=admin DNS:admin
  certificate kubelet /O=system:nodes/CN=system:node:node1 "DNS:node1,IP:$node_address"
  certificate apiserver-kubelet /O=system:masters/CN=apiserver-kubelet DNS:apiserver
  openssl genrsa -out service-accounts.key 2048 2>> "$logs/openssl.log"
  openssl rsa -in service-accounts.key -pubout -out service-accounts.pub 2>> "$logs/openssl.log"
  kubeconfig_for admin > admin.conf
  kubeconfig_for kubelet > kubelet.conf
  cp admin.conf "$kubeconfig"
)
