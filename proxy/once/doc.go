// Package once is the layer of the inbound side that makes a request run once, however many attempts of it come: those that a
// calling sidecar repeats although they may have run (retry.Settings.Unsafe) carry one id, and the Memory knows, per calling identity, which ids have run or are
// running. The first attempt runs detached from its caller, to its end even if the caller's link breaks; every other one waits for its answer, and gets it.
//
// What can be remembered is bounded: requests and answers up to 64 KiB each, and per caller a thousand ids, 8 MiB and five minutes. What cannot, because it is too large, was
// pushed out or was sent before this process began, is refused with attempt_forgotten when it comes again: a request is never run a second time because it was forgotten. An
// attempt says how long ago the first was made, which is compared with how far back the Memory reaches.
//
// A request that did not reach the app is forgotten on purpose, so that it can be tried again.
package once
