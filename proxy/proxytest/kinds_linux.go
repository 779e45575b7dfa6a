package proxytest

import "github.com/pillion-proxy/pillion/proxy/task"

func kinds() []kind { return []kind{{"loops", task.New}, goroutineKind()} }
