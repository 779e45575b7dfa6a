// Command sim shows, without a socket, what keeps calls succeeding: the balancer, ejection, the retry budget and the adaptive limit of
// concurrency, as they are in the sidecars, against thousands of simulated endpoints that become slow, fail, die and come back.
//
//	go run ./bench/sim                        # every scenario, a minute or so; plots to bench/sim/sim.svg
//	go run ./bench/sim -scenarios slow,dead -endpoints 5000
//
// Time is simulated, and all that is random follows from a seed: the same command gives the same figures on every machine. The tests of this package run the same
// scenarios, smaller, and say what must come of them.
//
// What is simulated is the world: endpoints that serve some requests at a time and queue the rest, the network, the callers' timeouts. What is
// tested is the product's own: upstream/balance, upstream/health, proxy/retry's budget, proxy/limit's gradient.
package main
