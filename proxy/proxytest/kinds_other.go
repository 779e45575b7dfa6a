//go:build !linux

package proxytest

func kinds() []kind { return []kind{goroutineKind()} }
