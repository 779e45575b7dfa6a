// Package proxytest holds what the tests of the rooms around proxy/task share: every runtime of the platform
// as a subtest, tasks and connected pairs, a scripted peer, and checks that nothing is left over.
//
//	func TestEcho(t *testing.T) {
//		proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
//			s := rt.Shards()[0]
//			c, peer := proxytest.Pair(t, s)
//			proxytest.Do(t, s, func() { ... c.Read(p) ... })
//		})
//	}
//
// A test that fails inside a task must use t.Error and return: t.Fatal belongs to the test's own goroutine.
package proxytest
