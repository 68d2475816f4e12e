// Command coredns is CoreDNS with only the plugins the test cluster's Corefile uses; all of them would take three times as long to build.
// It must not grow plugins that no Corefile here names.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"

	"github.com/coredns/coredns/coremain"
)

// init names the order in which a query passes the plugins. The cluster's names come before the hosts, so that `hosts` can end every other query.
func init() {
	dnsserver.Directives = []string{"ready", "errors", "cache", "kubernetes", "hosts", "forward"}
}

func main() {
	coremain.Run()
}
