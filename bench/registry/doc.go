// Command registry shows what following a large registry costs one sidecar: 10,000 services of one endpoint, and one service of 5,000 endpoints that change.
//
//	go run ./bench/registry
//
// It starts etcd and fills it; it needs etcd and etcdctl (Debian's etcd-server and etcd-client) and Linux, for the kernel's accounts.
package main
