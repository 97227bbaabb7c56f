// Command kube-proxy is Kubernetes' own kube-proxy, built from its public
// module: the peer that Shunt is compared with.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-proxy/app"
)

func main() {
	os.Exit(cli.Run(app.NewProxyCommand()))
}
