// Command kube-apiserver is Kubernetes' own API server with the store that it
// needs inside, built from their public modules: a cluster to test against in
// one process.
//
//	kube-apiserver FOLDER [flags of kube-apiserver]
//
// The store keeps its data in FOLDER, and is reached by a socket in there.
// SIGUSR1 compacts it: no watch can begin before that moment any more.
// The server ends when its standard input does, so that it does not outlive
// whoever started it.
package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: kube-apiserver FOLDER [FLAG...]")
		os.Exit(2)
	}
	go endWithInput()
	store, socket, err := startStore(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot start the store:", err)
		os.Exit(1)
	}
	go compactWhenAsked(store)
	command := app.NewAPIServerCommand()
	command.SetArgs(append(os.Args[2:], "--etcd-servers="+socket))
	os.Exit(cli.Run(command))
}

// startStore returns once the store serves, with the address of its socket.
func startStore(folder string) (*embed.Etcd, string, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return nil, "", err
	}
	socket := func(name string) url.URL {
		path := filepath.Join(folder, name)
		// A killed server leaves it, and nobody can listen at a file that exists.
		os.Remove(path)
		return url.URL{Scheme: "unix", Path: path}
	}
	client, peer := socket("client"), socket("peer")
	config := embed.NewConfig()
	config.Dir = filepath.Join(folder, "data")
	config.ListenClientUrls = []url.URL{client}
	config.ListenPeerUrls = []url.URL{peer}
	config.LogLevel = "error"
	// What is written outlives a kill of this process, which is all that tests
	// do to it; it need not outlive the machine.
	config.UnsafeNoFsync = true
	store, err := embed.StartEtcd(config)
	if err != nil {
		return nil, "", err
	}
	select {
	case <-store.Server.ReadyNotify():
		return store, client.String(), nil
	case err := <-store.Err():
		return nil, "", err
	}
}

func endWithInput() {
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func compactWhenAsked(store *embed.Etcd) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	for range asked {
		revision := store.Server.KV().Rev()
		request := &etcdserverpb.CompactionRequest{Revision: revision, Physical: true}
		if _, err := store.Server.Compact(context.Background(), request); err != nil {
			fmt.Fprintln(os.Stderr, "cannot compact the store:", err)
			continue
		}
		fmt.Fprintln(os.Stderr, "the store is compacted at revision", revision)
	}
}
