// Package app has the apps that stand behind the proxies in bench/compare and bench/scale. They do as little as an app can, because
// they share two cores with what is measured: answers are ready in memory, and small ones leave from one loop.
//
// Each app listens on a free port of loopback and serves until Close, which ends its connections and waits.
package app
